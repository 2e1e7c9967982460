"""Chooses the precision that a model is served at: the fastest by measurement of those that verification allows."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection
from pathlib import Path

from contract.store import VERIFICATION_FILE
from engine.engine import Engine
from engine.errors import EngineError, ModelLoadError
from engine.kept import check_kept_outputs
from engine.loading import allowed_precisions, offered_precisions
from engine.network_file import read_version_signatures
from engine.precision_names import AUTO, FLOAT32
from engine.saved_model import DEFAULT_SIGNATURE
from service.modelserver.serving.tuning import build_inputs, is_measurable

logger = logging.getLogger(__name__)

_BUDGET_S = 0.5  # of each precision
_MOST_RUNS = 50
_PAYS = 0.95  # of float32's time: a faster precision that takes more than this is not worth a difference


class PrecisionChooser:
    """Measures precisions, one model at a time; new versions of a model with the same signatures share the result.

    Args:
        engine: as `load_engine` takes it.
        is_busy: whether other processes need the cores; then nothing is measured.
    """

    def __init__(self, engine: str, *, is_busy: Callable[[], bool]) -> None:
        self._engine = engine
        self._is_busy = is_busy
        self._known: dict[tuple[bytes, ...], str] = {}

    def choose(self, directory: Path, load: Callable[[str], Engine], *, without: Collection[str] = ()) -> str:
        """Return the precision to load a model at; "auto" where nothing can be measured.

        Args:
            directory: the version's folder.
            load: loads it at a precision.
            without: precisions that were found not to compute as they should.

        Raises:
            ModelLoadError: if its signatures cannot be read.
        """
        allowed = tuple(name for name in allowed_precisions(directory, self._engine) if name not in without)
        if len(allowed) == 1:
            return FLOAT32 if without else AUTO
        signatures = read_version_signatures(directory)
        key = (
            *(signatures[name].SerializeToString(deterministic=True) for name in sorted(signatures)),
            *map(str.encode, allowed),
        )
        if key not in self._known:
            if self._is_busy():
                logger.info("%s: precisions are not measured, others need the cores", directory)
                return FLOAT32 if without else AUTO
            self._known[key] = _fastest(directory, allowed, load)
        return self._known[key]


def check_pinned(directory: Path, engine: str, precision: str) -> None:
    """Check that a version may be served at the precision that `--precision` pins.

    A precision that the machine lacks is refused by the engine. Another program's model has no verification to ask.

    Raises:
        ModelLoadError: with the precisions that the version allows on this machine.
    """
    if precision not in offered_precisions(directory, engine) or not (directory / VERIFICATION_FILE).exists():
        return
    allowed = allowed_precisions(directory, engine)
    if precision not in allowed:
        name = f"{directory.parent.name}/{directory.name}"
        raise ModelLoadError(
            f"--precision: expected a precision that {name} allows by its verification: {', '.join(allowed)}. "
            f"Received: {precision}; see docs/versions.md",
            code="FAILED_PRECONDITION",
        )


def _fastest(directory: Path, precisions: tuple[str, ...], load: Callable[[str], Engine]) -> str:
    """Return the precision with the shortest run of one row; float32 unless another is clearly shorter."""
    seconds: dict[str, float] = {}
    for precision in precisions:
        try:
            with contextlib.closing(load(precision)) as engine:
                if not is_measurable(engine):
                    return AUTO
                check_kept_outputs(engine, directory)
                seconds[precision] = _time_row(engine)
        except EngineError as err:  # such as an int8 model whose files were changed, or that differs on this machine
            logger.warning("%s: %s is not used: %s", directory, precision, err)
    if not seconds:
        return AUTO
    measured = ", ".join(f"{precision}: {1000 * value:.2f} ms" for precision, value in seconds.items())
    best = min(seconds, key=seconds.__getitem__)
    if FLOAT32 in seconds and seconds[best] > _PAYS * seconds[FLOAT32]:
        best = FLOAT32
    logger.info("%s: measured one row at %s; %s is taken", directory, measured, best)
    return best


def _time_row(engine: Engine) -> float:
    """Return the seconds of the shortest run of one row, after one that prepares."""
    inputs = build_inputs(engine, 1)
    engine.run(DEFAULT_SIGNATURE, inputs)
    shortest, end = float("inf"), time.monotonic() + _BUDGET_S
    for _ in range(_MOST_RUNS):
        started = time.perf_counter()
        engine.run(DEFAULT_SIGNATURE, inputs)
        shortest = min(shortest, time.perf_counter() - started)
        if time.monotonic() > end:
            break
    return shortest
