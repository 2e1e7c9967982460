"""Makes a version's int8 model: `serving_default` quantised after training by NNCF, on some training images."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.store import INT8_FILE
from engine.int8_files import hash_int8_files
from engine.openvino import import_openvino
from pipeline.data.pixels import Pixels
from pipeline.data.split import Manifest
from pipeline.errors import LostImageError, QuantizationError
from pipeline.progress import progress_bar

NUM_CALIBRATION = 64  # images
EXTRA = "int8"  # of the distribution, with NNCF
_TELEMETRY = "openvino_telemetry"  # reports usage to a server


def choose_calibration(manifest: Manifest, *, seed: int) -> list[str]:
    """Return the paths of at most NUM_CALIBRATION training images, chosen by seed."""
    paths = [row.path for row in manifest.of("train")]
    order = np.random.default_rng(seed).permutation(len(paths))[:NUM_CALIBRATION]
    return [paths[i] for i in np.sort(order)]


def can_quantize() -> bool:
    """Return whether NNCF is installed."""
    return find_spec("nncf") is not None


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
    if not can_quantize():
        raise QuantizationError(f"expected NNCF. Received: an environment without it; install Fovea's extra '{EXTRA}'")
    nncf, target = _import_nncf(), directory / INT8_FILE
    with progress_bar(total=len(paths), what="Calibrating int8", unit="image") as bar:
        dataset = nncf.Dataset(_Images(pixels, paths, bar.update), lambda images: {"images": images})
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # NNCF's own bars
                model = nncf.quantize(
                    import_openvino().Core().read_model(directory),
                    dataset,
                    preset=nncf.QuantizationPreset.MIXED,
                    subset_size=len(paths),
                )
            target.parent.mkdir(parents=True)
            import_openvino().save_model(model, target, compress_to_fp16=False)
        except LostImageError:
            raise
        except Exception as err:  # NNCF's errors have no common class
            remove_int8(directory)
            reason = str(err).strip().partition("\n")[0] or type(err).__name__
            raise QuantizationError(f"the network cannot be quantised: {reason}") from err


def remove_int8(directory: Path) -> None:
    """Delete the int8 model of a folder that is not published yet, if there is one."""
    shutil.rmtree((directory / INT8_FILE).parent, ignore_errors=True)


def int8_document(directory: Path) -> dict[str, Any]:
    """Return what verification.json holds of a version's int8 model; empty without one."""
    if not (directory / INT8_FILE).exists():
        return {}
    versions = {name: version(name) for name in ("openvino", "nncf")}
    return {"int8": {"sha256": hash_int8_files(directory), **versions}}


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
