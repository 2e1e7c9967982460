"""Tunes streams and batch size of a model on this machine: measures once, in seconds, and keeps the result.

A measurement holds for every version of the same signatures and about the same size, since new weights change no speed;
so a version that is published under load is not measured again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from contract.files.durable import replace_file
from contract.tensors import decode_tensor, tensor_pb2
from engine.engine import Engine
from engine.errors import EngineError
from engine.processor import processor_name
from engine.runtime import runtime_version
from engine.saved_model import DEFAULT_SIGNATURE
from engine.signatures import is_batched
from service.modelserver.serving.scheduling import Plan

logger = logging.getLogger(__name__)

_MEASURED = "streams, batch, lone threads"  # what a kept plan has
_UNMEASURED_BATCH = 8
_BATCHES = (1, 2, 4, 8, 16)
_BUDGET_S = 4.0  # for the batch sizes; those that do not fit in are not tried
_ROUNDS = 3
_ENOUGH = 0.95  # of the best rate: the smallest batch that reaches it is taken, since callers wait for less
# Streams are taken unless they have less than this share of one stream's rate: a run on several cores waits for
# whichever of them is disturbed. Beside a gateway each is, which costs up to a third and is not seen without calls
# (docs/decisions/0014-batches-without-waiting.md).
_NO_WORSE = 0.8
# A lone row has all cores where that saves so much. The runtime's threads look for more work about as long after each
# run before they sleep, which takes cores from the gateway.
_CORES_SAVE_S = 0.0005
_LONE_RUNS = 15
_QUIET = 2 / 3  # share of the cores that is idle
_MEBIBYTE = 1 << 20

Inputs = Mapping[str, NDArray[Any]]


class Tuner:
    """Finds plans, one model at a time.

    Args:
        num_threads: that models run on.
        folder: of the measurements; it need not exist, and nothing is kept where it cannot be written.
        is_busy: whether other processes need the cores; then nothing is measured.
    """

    def __init__(self, num_threads: int, folder: Path | None, *, is_busy: Callable[[], bool]) -> None:
        self._num_threads = num_threads
        self._folder = folder
        self._is_busy = is_busy
        self._known: dict[str, Plan] = {}

    def plan(
        self,
        directory: Path,
        engine: Engine,
        load_streams: Callable[[int], Engine] | None,
        load_lone: Callable[[], Engine] | None = None,
    ) -> Plan:
        """Return how to run a model.

        Args:
            directory: the SavedModel's folder.
            engine: it, loaded for single rows on all cores; its batches are measured only where there are no streams.
            load_streams: loads it with a number of streams; None if its runtime cannot.
            load_lone: loads it for single rows on one core; None if that is not to be measured.
        """
        if not is_measurable(engine):
            return Plan(num_streams=1, max_batch=_UNMEASURED_BATCH)
        key = self._key(directory, engine)
        plan = self._known.get(key) or self._read(key)
        if plan is None:
            try:
                plan, is_complete = self._measure(engine, load_streams, load_lone)
            except EngineError as err:  # a foreign model that refuses zeros
                logger.warning("%s: not measured: %s", directory, err)
                return self._guess(load_streams)
            if not is_complete:
                return plan
            self._write(key, plan)
        self._known[key] = plan
        return plan

    def _measure(
        self, lone: Engine, load_streams: Callable[[int], Engine] | None, load_lone: Callable[[], Engine] | None
    ) -> tuple[Plan, bool]:
        """Return the best plan, and whether it was measured."""
        if self._is_busy():
            plan = self._guess(load_streams)
            logger.info("not measured, others need the cores: %s", plan)
            return plan, False
        num_streams, lone_threads, engine = self._guess(load_streams).num_streams, 0, lone
        with contextlib.ExitStack() as loaded:
            if load_streams is not None:
                engine = loaded.enter_context(contextlib.closing(load_streams(num_streams)))
            rates = _measure_batches(engine, num_streams)
            if load_streams is not None and num_streams > 1:
                one = loaded.enter_context(contextlib.closing(load_streams(1)))
                if not _streams_pay(engine, num_streams, one, batch=_choose_batch(rates)):
                    num_streams, rates = 1, _measure_batches(one, 1)
            if load_lone is not None and num_streams > 1:
                lone_threads = int(not _cores_pay(lone, loaded.enter_context(contextlib.closing(load_lone()))))
        measured = ", ".join(f"{batch}: {rate:.1f}" for batch, rate in rates.items())
        cores = "one core" if lone_threads else "all cores"
        logger.info("measured rows a second by batch: %s; %d streams, a lone row on %s", measured, num_streams, cores)
        return Plan(num_streams=num_streams, max_batch=_choose_batch(rates), lone_threads=lone_threads), True

    def _guess(self, load_streams: Callable[[int], Engine] | None) -> Plan:
        """Return what suits most models: a stream for each core, or for every four of many."""
        num_threads = self._num_threads if load_streams is not None else 1
        num_streams = num_threads if num_threads <= 4 else num_threads // 4
        return Plan(num_streams=num_streams, max_batch=_UNMEASURED_BATCH)

    def _key(self, directory: Path, engine: Engine) -> str:
        """Return a file's name from everything that a plan depends on."""
        size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        signatures = [
            engine.signatures[name].SerializeToString(deterministic=True) for name in sorted(engine.signatures)
        ]
        parts = (
            *(hashlib.sha256(signature).hexdigest() for signature in signatures),
            *(str(size // _MEBIBYTE), engine.name, engine.precision, runtime_version(engine.name)),
            *(str(self._num_threads), processor_name(), _MEASURED),
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def _read(self, key: str) -> Plan | None:
        if self._folder is None:
            return None
        try:
            document = json.loads((self._folder / f"{key}.json").read_bytes())
            plan = Plan(**{name: int(document[name]) for name in ("num_streams", "max_batch", "lone_threads")})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as err:
            logger.warning("earlier measurements cannot be read; measuring again: %s", err)
            return None
        is_possible = 1 <= plan.num_streams <= self._num_threads and 1 <= plan.max_batch <= max(_BATCHES)
        return plan if is_possible and plan.lone_threads in (0, 1) else None

    def _write(self, key: str, plan: Plan) -> None:
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._folder / f"{key}.json", json.dumps(asdict(plan)) + "\n")
        except OSError as err:
            logger.warning("measurements are not kept for the next start: %s", err)


def warm_up_batches(engine: Engine, plan: Plan) -> None:
    """Run common sizes of batch once on every stream, because a runtime prepares for a shape when it meets it.

    The largest comes first: OpenVINO keeps what the last batch needed beside the weights, 60 MB for 8 rows of ResNet50
    on two streams and 20 MB for 1.
    """
    if not is_measurable(engine):
        return
    with ThreadPoolExecutor(plan.num_streams) as pool, contextlib.suppress(EngineError):
        for batch in sorted((size for size in _BATCHES if size <= plan.max_batch), reverse=True):
            run = functools.partial(engine.run, DEFAULT_SIGNATURE, build_inputs(engine, batch))
            for done in [pool.submit(run) for _ in range(plan.num_streams)]:
                done.result()


def is_measurable(engine: Engine) -> bool:
    """Return whether a model has the signature that is measured, and it can be batched."""
    return DEFAULT_SIGNATURE in engine.signatures and is_batched(engine.signatures[DEFAULT_SIGNATURE])


def _measure_batches(engine: Engine, num_streams: int) -> dict[int, float]:
    """Return rows a second by batch, all streams together: the best of several rounds, as others only slow it down.

    A round runs every batch once, so that a slow second of the machine falls on all of them.
    """
    inputs: dict[int, Inputs] = {}
    rates: dict[int, float] = {}
    end = time.monotonic() + _BUDGET_S
    with ThreadPoolExecutor(num_streams) as pool:
        for batch in _BATCHES:
            if time.monotonic() > end:
                break
            inputs[batch] = build_inputs(engine, batch)
            _run_streams(pool, engine, inputs[batch], num_streams)  # a runtime prepares for a shape when it meets it
            rates[batch] = num_streams * batch / _run_streams(pool, engine, inputs[batch], num_streams)
        for _ in range(_ROUNDS - 1):
            for batch in inputs:
                if time.monotonic() < end:
                    seconds = _run_streams(pool, engine, inputs[batch], num_streams)
                    rates[batch] = max(rates[batch], num_streams * batch / seconds)
    return rates


def _choose_batch(rates: Mapping[int, float]) -> int:
    """Return the smallest batch that is nearly as fast as the best."""
    return min(batch for batch, rate in rates.items() if rate >= _ENOUGH * max(rates.values()))


def _streams_pay(many: Engine, num_streams: int, one: Engine, *, batch: int) -> bool:
    """Return whether several streams are not slower than one with all cores; they are measured in turns."""
    inputs = build_inputs(one, batch)
    one.run(DEFAULT_SIGNATURE, inputs)
    together, alone = [], []
    with ThreadPoolExecutor(num_streams) as pool:
        for _ in range(_ROUNDS):
            together.append(_run_streams(pool, many, inputs, num_streams))
            alone.append(sum(_run_streams(pool, one, inputs, 1) for _ in range(num_streams)))
    return _NO_WORSE * min(together) <= min(alone)


def _cores_pay(all_cores: Engine, one_core: Engine) -> bool:
    """Return whether all cores save enough of a single row; they are measured in turns, by their shortest runs."""
    inputs = build_inputs(one_core, 1)
    seconds: dict[Engine, list[float]] = {all_cores: [], one_core: []}
    for run in range(1 + _LONE_RUNS):
        for engine, measured in seconds.items():
            started = time.perf_counter()
            engine.run(DEFAULT_SIGNATURE, inputs)
            if run:  # a runtime prepares for a shape when it meets it
                measured.append(time.perf_counter() - started)
    return min(seconds[one_core]) - min(seconds[all_cores]) >= _CORES_SAVE_S


def _run_streams(pool: ThreadPoolExecutor, engine: Engine, inputs: Inputs, num_streams: int) -> float:
    """Run a batch on every stream at the same time, and return the seconds until the last of them ended."""
    started = time.perf_counter()
    others = [pool.submit(engine.run, DEFAULT_SIGNATURE, inputs) for _ in range(num_streams - 1)]
    engine.run(DEFAULT_SIGNATURE, inputs)  # on this thread: one stream is not charged with another's waking
    for other in others:
        other.result()
    return max(time.perf_counter() - started, 1e-9)


def build_inputs(engine: Engine, batch: int) -> Inputs:
    """Return zeros, every free dimension but the first 1."""
    inputs = {}
    for alias, info in engine.signatures[DEFAULT_SIGNATURE].inputs.items():
        sizes = [max(1, int(dim.size)) for dim in info.tensor_shape.dim]
        tensor = tensor_pb2.TensorProto(dtype=info.dtype)  # values that are left out are zeros
        for size in [batch, *sizes[1:]]:
            tensor.tensor_shape.dim.add().size = size
        inputs[alias] = decode_tensor(tensor)
    return inputs


def is_machine_busy(*, watch_s: float = 0.3) -> bool:
    """Return whether programs use more than a third of all cores, as far as the system says; watches for a moment."""
    before = _read_cpu_times()
    time.sleep(watch_s)
    idle, total = (after - earlier for after, earlier in zip(_read_cpu_times(), before, strict=True))
    return total > 0 and idle < _QUIET * total


def _read_cpu_times() -> tuple[int, int]:
    """Return idle and total time of all cores together, in ticks; zeros where the system does not say."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return 0, 0
    return fields[3] + fields[4], sum(fields)
