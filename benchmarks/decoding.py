"""JPEG to pixels: Pillow, which the project uses, against simplejpeg and PyTurboJPEG, where those are installed.

    uv pip install simplejpeg "PyTurboJPEG<2"     and Debian's libturbojpeg0, or TURBOJPEG=/path/to/libturbojpeg.so.0

CPU milliseconds of one image, decoded at the scale that `contract.image` chooses for an input of 224 x 224, without and
with what follows: resizing and the array. `pixels_apart` is the largest difference to Pillow's pixels before resizing.
"""

from __future__ import annotations

import importlib.util
import io
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.gateway_overhead import build_jpeg
from contract.image import decode_image
from contract.model import InputSpec

SIDES = (512, 1024, 4000)
SPEC = InputSpec(height=224, width=224)
REPEATS = 15

Decode = Callable[[bytes], NDArray[np.uint8]]


def run() -> dict[str, Any]:
    """Measure every decoder in turns, on each size."""
    return {"input": SPEC.height, "repeats": REPEATS, "sides": {str(side): measure(side) for side in SIDES}}


def measure(side: int) -> dict[str, Any]:
    """Return milliseconds of CPU an image, medians, and how far pixels are apart."""
    data = build_jpeg(side)
    scale = next(scale for scale in (8, 4, 2, 1) if side // scale >= SPEC.height)
    decoders = available(scale)
    milliseconds: dict[str, list[float]] = {name: [] for name in (*decoders, "contract.image")}
    count = max(1, 200_000 // side**2)
    for _ in range(REPEATS):
        for name, decode in decoders.items():
            milliseconds[name].append(time_one(lambda decode=decode: decode(data), count))  # type: ignore[misc]
        milliseconds["contract.image"].append(time_one(lambda: decode_image(data, SPEC), count))
    expected = decoders["pillow"](data).astype(np.int16)
    apart = {name: int(np.abs(expected - decode(data)).max()) for name, decode in decoders.items()}
    return {
        "bytes": len(data),
        "scale": f"1/{scale}",
        "cpu_ms": {name: round(statistics.median(values), 3) for name, values in milliseconds.items()},
        "pixels_apart": apart,
    }


def time_one(call: Callable[[], object], count: int) -> float:
    """Return the CPU time of one call, milliseconds."""
    start = time.thread_time()
    for _ in range(count):
        call()
    return 1e3 * (time.thread_time() - start) / count


def available(scale: int) -> dict[str, Decode]:
    """Return the decoders that are installed, each at 1/scale."""
    found: dict[str, Decode] = {"pillow": lambda data: _decode_by_pillow(data, scale)}
    if importlib.util.find_spec("simplejpeg"):
        found["simplejpeg"] = _simplejpeg(scale)
    if importlib.util.find_spec("turbojpeg"):
        found["turbojpeg"] = _turbojpeg(scale)
    return found


def _decode_by_pillow(data: bytes, scale: int) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(data), formats=["JPEG"])
    image.draft(None, (image.width // scale, image.height // scale))
    return np.asarray(image)


def _simplejpeg(scale: int) -> Decode:
    import simplejpeg

    def decode(data: bytes) -> NDArray[np.uint8]:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, min_height=-(-height // scale), min_width=-(-width // scale), min_factor=1
        )
        return pixels

    return decode


def _turbojpeg(scale: int) -> Decode:
    import turbojpeg

    codec = turbojpeg.TurboJPEG(os.environ.get("TURBOJPEG"))

    def decode(data: bytes) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = codec.decode(data, pixel_format=turbojpeg.TJPF_RGB, scaling_factor=(1, scale))
        return pixels

    return decode
