"""Judges the precisions of an exported model, and makes the int8 model that passes, or none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.engine import Engine
from engine.precision_names import FLOAT32, INT8
from engine.runtime import find_runtimes
from pipeline.data.pixels import Pixels
from pipeline.data.split import ManifestRow
from pipeline.errors import QuantizationError, VerificationError
from pipeline.publishing.precisions.equivalence import MIN_IMAGES, Equivalence, Evidence, Limits, judge, too_few
from pipeline.publishing.precisions.int8 import INT8_ENGINE, Int8Images, quantize, quantize_partly, remove_int8
from pipeline.publishing.verify import Verification, open_engine, predict
from pipeline.run_warnings import Weight, warn

log = logging.getLogger(__name__)

Reference = Callable[[str, Sequence[ManifestRow]], NDArray[np.float32] | None]


class PrecisionJudge:
    """Compares each faster precision of a runtime with the same runtime at float32.

    Args:
        pixels: decodes the images.
        evidence: the images.
        limits: what may change.
        allows: whether a precision may be served by default; others get no verdict.
        int8: images by which an int8 model is made.
        budget_s: seconds in which layers that hurt are looked for, where the plain int8 model is not equivalent.
        reference: gives a runtime's probabilities of images at float32 where they cost less than running them; None
            from it: run them.
    """

    def __init__(
        self,
        pixels: Pixels,
        evidence: Evidence,
        limits: Limits,
        allows: Callable[[str], bool],
        int8: Int8Images | None = None,
        *,
        budget_s: float = 0.0,
        reference: Reference | None = None,
    ) -> None:
        self._pixels = pixels
        self._evidence = evidence
        self._limits = limits
        self._allows = allows
        self._int8 = int8 or Int8Images()
        self._budget_s = budget_s
        self._reference = reference
        self._float32: dict[str, NDArray[np.float32]] = {}
        self._found: dict[tuple[str, str], Equivalence] = {}
        self._floating_point: tuple[str, ...] = ()

    def make_int8(self, directory: Path) -> None:
        """Make the int8 model of an exported SavedModel; without one where it is not equivalent or cannot be made.

        The plain model is judged first. Layers are left in floating point where that fails, within the budget; the
        images that chose them do not judge then.
        """
        if not self._int8.calibration:
            return
        try:
            quantize(directory, self._pixels, self._int8.calibration)
            verdict = self._judge_int8(directory, self._int8.calibration)
            if not verdict.equivalent and self._int8.tuning and self._budget_s:
                log.info("int8 is %s. Layers that hurt are looked for.", verdict.words)
                self._floating_point = quantize_partly(
                    directory, self._pixels, self._int8, tolerance=self._limits.tolerance, budget_s=self._budget_s
                )
                verdict = self._judge_int8(directory, (*self._int8.calibration, *self._int8.tuning))
        except (QuantizationError, VerificationError) as err:
            warn(log, Weight.SPEED, "No int8 model: %s.", err)
            remove_int8(directory)
            return
        if not verdict.equivalent:
            remove_int8(directory)

    def see(self, engine: Engine, directory: Path) -> None:
        """Run the images on an engine of a folder; a runtime's float32 comes before its faster precisions."""
        (runtime,) = find_runtimes(engine.name)
        key = (engine.name, engine.precision)
        if key in self._found or not self._allows(engine.precision) or len(runtime.precisions(directory)) == 1:
            return
        if len(self._evidence.rows) < MIN_IMAGES:
            if engine.precision != FLOAT32:
                self._found[key] = too_few(*key, self._evidence)
        elif engine.precision == FLOAT32:
            self._note_float32(engine.name, engine)
        else:
            self._found[key] = self._judge(engine, self._int8.calibration if engine.precision == INT8 else ())

    def add_to(self, verification: Verification) -> Verification:
        """Return a verification with the verdicts; what failed it at a precision speaks against that one."""
        ran = {(outputs.engine, outputs.precision) for outputs in verification.kept}
        for key, verdict in self._found.items():
            if verdict.equivalent and key not in ran:
                reasons = (*verdict.reasons, "it did not pass the verification of the exported model")
                self._found[key] = replace(verdict, equivalent=False, reasons=reasons)
        return replace(
            verification,
            equivalences=[self._found[key] for key in sorted(self._found)],
            floating_point=self._floating_point,
        )

    def _judge_int8(self, directory: Path, left_out: tuple[str, ...]) -> Equivalence:
        """Judge the int8 model in a folder by the images that are not left out."""
        (runtime,) = find_runtimes(INT8_ENGINE)
        for precision in (FLOAT32, INT8):
            if precision == FLOAT32 and self._note_float32(runtime.name):
                continue
            engine = open_engine(directory, runtime, precision)
            try:
                if precision == FLOAT32:
                    self._note_float32(runtime.name, engine)
                else:
                    self._found[engine.name, INT8] = self._judge(engine, left_out)
            finally:
                engine.close()
        return self._found[INT8_ENGINE, INT8]

    def _note_float32(self, runtime: str, engine: Engine | None = None) -> bool:
        """Note a runtime's probabilities at float32, by running them on an engine if need be; False if they miss."""
        if runtime not in self._float32:
            found = self._reference(runtime, self._evidence.rows) if self._reference else None
            if found is None and engine is not None:
                found = self._run(engine)
            if found is None:
                return False
            self._float32[runtime] = found
        return True

    def _judge(self, engine: Engine, left_out: tuple[str, ...]) -> Equivalence:
        used = self._evidence.without(left_out)
        evidence, expected, received = self._evidence.at(used), self._float32[engine.name][used], self._run(engine)
        return judge(engine.name, engine.precision, evidence, expected, received[used], self._limits)

    def _run(self, engine: Engine) -> NDArray[np.float32]:
        paths = [row.path for row in self._evidence.rows]
        return np.concatenate(self._pixels.map(lambda images: predict(engine, images), paths))
