"""Makes a version's int8 model: `serving_default` quantised after training by NNCF, on images that never judge it."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.commands import DISTRIBUTION
from contract.store import INT8_FILE
from engine.kept import hash_int8_files
from engine.network_file import network_source
from engine.runtimes.openvino import import_openvino
from engine.runtimes.signal_stack import kept_signal_stack
from pipeline.data.pixels import Pixels
from pipeline.errors import LostImageError, QuantizationError
from pipeline.progress import progress_bar

INT8_ENGINE = "openvino"  # that runs int8 models
NUM_CALIBRATION = 64  # images
NUM_TUNING = (128, 64, 32)  # images, the first number that leaves enough to judge by
EXTRA = "int8"  # of the distribution, with NNCF
_RANKED_BY = 32  # of the tuning images, those that move most
_AIM = 0.5  # of the tolerance: other images judge
_TELEMETRY = "openvino_telemetry"  # reports usage to a server
_WITH_WEIGHTS = ("Convolution", "GroupConvolution", "MatMul")


@dataclass(frozen=True)
class Int8Images:
    """Paths of the images by which an int8 model is made, none of which judges it.

    Attributes:
        calibration: the ranges of activations are taken from them; none: no such model is made.
        tuning: choose the layers that stay in floating point where the plain model is not equivalent; none: no such
            choice is made.
    """

    calibration: tuple[str, ...] = ()
    tuning: tuple[str, ...] = ()


def choose_int8_images(paths: Sequence[str], *, seed: int, is_enough: Callable[[Iterable[str]], bool]) -> Int8Images:
    """Choose at most NUM_CALIBRATION images, and others to tune by, by seed.

    Args:
        paths: the images, such as those of training.
        seed: of the choice.
        is_enough: whether there are enough images to judge by without some.

    Returns:
        No images at all where calibration alone would leave too few to judge by.
    """
    order = np.random.default_rng(seed).permutation(len(paths))
    calibration = tuple(paths[i] for i in np.sort(order[:NUM_CALIBRATION]))
    if not calibration or not is_enough(calibration):
        return Int8Images()
    for number in NUM_TUNING:
        tuning = tuple(paths[i] for i in np.sort(order[NUM_CALIBRATION : NUM_CALIBRATION + number]))
        if len(tuning) == number and is_enough((*calibration, *tuning)):
            return Int8Images(calibration, tuning)
    return Int8Images(calibration)


def can_quantize() -> bool:
    """Return whether NNCF is installed."""
    return find_spec("nncf") is not None


def check_nncf() -> None:
    """Check that NNCF is installed.

    Raises:
        QuantizationError: with the pip command.
    """
    if not can_quantize():
        raise QuantizationError(
            f"int8 models are made by NNCF, which is not installed: pip install '{DISTRIBUTION}[{EXTRA}]'"
        )


@kept_signal_stack()
def quantize(directory: Path, pixels: Pixels, paths: Sequence[str]) -> None:
    """Write the int8 model of a SavedModel into its folder, INT8_FILE; the SavedModel stays as it is.

    Convolutions and dense layers are computed on 8-bit integers: weights symmetric, activations asymmetric (NNCF's
    preset "mixed"). The rest stays float32.

    Args:
        directory: the SavedModel.
        pixels: decodes the images.
        paths: of the images that the ranges of the activations are taken from.

    Raises:
        QuantizationError: if NNCF is not installed, or cannot quantise the network. Nothing is written.
        LostImageError: if an image cannot be read any more.
    """
    check_nncf()
    nncf = _import_nncf()
    with progress_bar(total=len(paths), what="Calibrating int8", unit="image") as bar, _quantizing(directory):
        model = nncf.quantize(
            import_openvino().Core().read_model(network_source(directory)),
            _calibration(nncf, pixels, paths, bar.update),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(paths),
        )
        _save(model, directory)


@kept_signal_stack()
def quantize_partly(
    directory: Path, pixels: Pixels, images: Int8Images, *, tolerance: float, budget_s: float
) -> tuple[str, ...]:
    """Replace the int8 model of a folder by one whose layers that move probabilities most stay in floating point.

    NNCF ranks the layers by the images of `tuning` and takes them back one by one, until 95 % of those images move by
    at most half the tolerance or the time is over.

    Args:
        directory: the SavedModel, with its plain int8 model.
        pixels: decodes the images.
        images: that calibrate, and that choose layers.
        tolerance: of the version's contract.
        budget_s: seconds that the search may take, without the calibration.

    Returns:
        The names of the layers that the plain model computes at int8 and this one does not.

    Raises:
        QuantizationError: if the time is over before the layers are ranked, or NNCF fails. No int8 model is left.
        LostImageError: if an image cannot be read any more.
    """
    check_nncf()
    nncf, core = _import_nncf(), import_openvino().Core()
    plain = _quantised_layers(core.read_model(directory / INT8_FILE))
    remove_int8(directory)
    with progress_bar(total=len(plain), what="Choosing layers for int8", unit="trial") as bar, _quantizing(directory):
        original = core.read_model(network_source(directory))
        search = _Search(core, original, pixels, images.tuning, budget_s=budget_s, count=bar.update)
        tuning = list(enumerate(images.tuning))
        model = nncf.quantize_with_accuracy_control(
            original,
            _calibration(nncf, pixels, images.calibration, _count_nothing),
            nncf.Dataset(tuning, lambda item: {"images": pixels.batch([item[1]])}),
            search.validate,
            max_drop=_AIM * tolerance,
            drop_type=nncf.DropType.ABSOLUTE,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images.calibration),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                ranking_subset_size=min(_RANKED_BY, len(tuning) // 2), num_ranking_workers=1
            ),
        )
        _save(model, directory)
        kept = _quantised_layers(model)
    return tuple(name for name in plain if name not in kept)


def remove_int8(directory: Path) -> None:
    """Delete the int8 model of a folder that is not published yet, if there is one."""
    shutil.rmtree((directory / INT8_FILE).parent, ignore_errors=True)


def int8_document(directory: Path, floating_point: Sequence[str] = ()) -> dict[str, Any]:
    """Return what verification.json holds of a version's int8 model; empty without one.

    Args:
        directory: the version's folder.
        floating_point: layers that `quantize_partly` left out.
    """
    if not (directory / INT8_FILE).exists():
        return {}
    layers = {"floating_point": list(floating_point)} if floating_point else {}
    return {"int8": {"sha256": hash_int8_files(directory), **int8_packages(), **layers}}


def int8_packages() -> dict[str, str]:
    """Return the installed releases of the packages that make an int8 model, by name."""
    return {name: version(name) for name in ("openvino", "nncf") if find_spec(name) is not None}


class _Search:
    """Measures how far candidate models move the probabilities of the tuning images, within a budget of time.

    Args:
        core: of OpenVINO.
        original: the model at float32.
        pixels: decodes the images.
        paths: the tuning images.
        budget_s: seconds.
        count: is called for each model that is measured.
    """

    def __init__(
        self,
        core: Any,
        original: Any,
        pixels: Pixels,
        paths: Sequence[str],
        *,
        budget_s: float,
        count: Callable[[], object],
    ) -> None:
        self._pixels = pixels
        self._count = count
        self._budget_s = budget_s
        self._num_whole = 0
        compiled = core.compile_model(original, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self._expected = [_probabilities(compiled, pixels.batch([path])) for path in paths]
        self._deadline: float | None = None  # of the search, which begins when there is a plain model

    def validate(self, compiled: Any, items: Iterable[tuple[int, str]]) -> tuple[float, list[float]]:
        """Return 1 minus the movement that 95 % of images do not exceed, and 1 minus each image's, as NNCF calls it.

        NNCF asks for the original, the plain model, then for a model with each layer taken back, on some images, then
        for those that it decides by. Of the last, one that comes too late is taken as it is: others judge it.

        Raises:
            QuantizationError: if the time is over and the layers are not ranked yet.
        """
        chosen = list(items)
        is_whole = len(chosen) == len(self._expected)
        self._num_whole += is_whole
        if self._deadline is None and self._num_whole:
            self._deadline = time.monotonic() + self._budget_s
        moved = []
        for i, path in chosen:  # one trial of a large network takes minutes
            if self._deadline is not None and time.monotonic() > self._deadline:
                if is_whole and self._num_whole > _BEFORE_RANKING:
                    return 1.0, [1.0] * len(chosen)
                raise QuantizationError(f"the search for layers that hurt was stopped after {self._budget_s:g} s")
            moved.append(float(np.abs(_probabilities(compiled, self._pixels.batch([path])) - self._expected[i]).max()))
        self._count()
        return 1 - float(np.quantile(moved, 0.95, method="higher")), [1 - value for value in moved]


_BEFORE_RANKING = 2  # models that are measured on all tuning images before the layers are ranked


def _probabilities(compiled: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.array(compiled({"images": images})["probabilities"], np.float32)


class _Images:
    """Batches of one image, in every pass; the first pass moves the progress bar."""

    def __init__(self, pixels: Pixels, paths: Sequence[str], count: Callable[[], object]) -> None:
        self._pixels = pixels
        self._paths = paths
        self._count = count
        self._is_first = True

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        is_first, self._is_first = self._is_first, False
        for path in self._paths:
            if is_first:
                self._count()
            yield self._pixels.batch([path])


def _count_nothing() -> None:
    """Move no progress bar."""


def _calibration(nncf: ModuleType, pixels: Pixels, paths: Sequence[str], count: Callable[[], object]) -> Any:
    return nncf.Dataset(_Images(pixels, paths, count), lambda images: {"images": images})


@contextlib.contextmanager
def _quantizing(directory: Path) -> Iterator[None]:
    """Hide NNCF's own bars, give its errors one class, and leave no half of a model."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except (LostImageError, QuantizationError):
        remove_int8(directory)
        raise
    except Exception as err:  # NNCF's errors have no common class
        remove_int8(directory)
        reason = str(err).strip().partition("\n")[0] or type(err).__name__
        raise QuantizationError(f"the network cannot be quantised: {reason}") from err


def _save(model: Any, directory: Path) -> None:
    target = directory / INT8_FILE
    target.parent.mkdir(parents=True)
    import_openvino().save_model(model, target, compress_to_fp16=False)


def _quantised_layers(model: Any) -> list[str]:
    """Return the names of a model's layers with weights whose activations are quantised."""
    return [
        op.get_friendly_name()
        for op in model.get_ops()
        if op.get_type_name() in _WITH_WEIGHTS and op.input_value(0).get_node().get_type_name() == "FakeQuantize"
    ]


@functools.cache
def _import_nncf() -> ModuleType:
    """Return the module `nncf`, without the package that reports usage to a server (openvino-telemetry)."""
    import_openvino()
    blocked = _TELEMETRY not in sys.modules
    if blocked:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # the import system's own sign for "there is none"
    try:
        nncf = importlib.import_module("nncf")
    finally:
        if blocked:
            del sys.modules[_TELEMETRY]
    nncf.set_log_level(logging.ERROR)
    return nncf
