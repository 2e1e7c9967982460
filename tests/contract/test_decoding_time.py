"""Estimates of decoding time: photographs pass, small files that decode slowly do not."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from contract.image import open_image
from contract.images import decoding_time
from contract.images.decoding_time import resize_taps
from contract.model import InputSpec

SPEC = InputSpec(height=224, width=224)
WHOLE = InputSpec(height=224, width=224, reduced_decode=False)
BUDGET_S = 0.5
RESULTS = Path(__file__).parents[2] / "benchmarks/results/decoding_rates.json"


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def jpeg(width: int, height: int, *, size: int, mode: str = "RGB", **options: Any) -> bytes:
    """Return a JPEG whose frame declares a size, of so many bytes."""
    data = bytearray(save(Image.new(mode, (64, 64)), "JPEG", **options))
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    struct.pack_into(">HH", data, frame + 5, height, width)
    return bytes(data) + bytes(size)


def png(width: int, height: int, *, size: int, color: int, bits: int = 8, interlaced: int = 0) -> bytes:
    """Return a PNG that declares a size and holds no pixels, of so many bytes."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlaced)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    if color == 3:
        chunks.insert(1, (b"PLTE", bytes(768)))
    parts = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + bytes(size)


def bmp_rle(width: int, height: int, *, size: int) -> bytes:
    head = struct.pack("<2sIHHI", b"BM", 1078 + size, 0, 0, 1078)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, size, 0, 0, 256, 0)
    return head + info + bytes(1024 + size)


def scans(number: int) -> bytes:
    """Return a progressive JPEG of 6 megapixels whose last scan is repeated."""
    data = save(Image.new("L", (3000, 2000)), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * number + data[-2:]


PASS = {
    "12 MP phone": (jpeg(4032, 3024, size=5_000_000), WHOLE),
    "24 MP camera": (jpeg(6000, 4000, size=12_000_000), WHOLE),
    "24 MP progressive": (jpeg(6000, 4000, size=6_000_000, progressive=True), SPEC),
    "50 MP camera": (jpeg(8192, 6144, size=13_000_000), WHOLE),
    "80 MP camera, reduced": (jpeg(10_300, 7_700, size=30_000_000), SPEC),
    "12 MP PNG": (png(4000, 3000, size=24_000_000, color=2), SPEC),
    "12 MP PNG with transparency": (png(4000, 3000, size=6_000_000, color=6), SPEC),
    "12 MP 16-bit grey PNG": (png(4000, 3000, size=15_000_000, color=0, bits=16), SPEC),
    "80 MP scan in black and white": (png(9000, 8800, size=2_000_000, color=0, bits=1), SPEC),
    "12 MP WebP": (save(Image.new("RGB", (4000, 3000)), "WEBP", method=0) + bytes(2_000_000), SPEC),
    "a narrow picture": (save(Image.new("RGB", (1, 1 << 18)), "PNG"), SPEC),
}
REFUSED = {
    "80 MP PNG with transparency": (png(8900, 8900, size=325_000, color=6), SPEC),
    "80 MP PNG": (png(8900, 8900, size=100_000, color=2), SPEC),
    "60 MP PNG, interlaced": (png(7700, 7700, size=100_000, color=3, interlaced=1), SPEC),
    "30 MP PNG of 16 bits": (png(5500, 5500, size=100_000, color=6, bits=16), SPEC),
    "32 MP WebP of 10 MB": (
        save(Image.new("RGB", (8_000, 4_000)), "WEBP", lossless=True, method=0) + bytes(10**7),
        SPEC,
    ),
    "RLE in 30 MB": (bmp_rle(8000, 8000, size=30_000_000), SPEC),
    "80 MP JPEG, whole": (jpeg(10_300, 7_700, size=30_000_000), WHOLE),
    "80 MP CMYK JPEG, whole": (jpeg(8900, 8900, size=1_000_000, mode="CMYK"), WHOLE),
    "300 scans": (scans(300), SPEC),
    "arithmetic coding": (jpeg(4000, 4000, size=1000).replace(b"\xff\xc0", b"\xff\xc9"), SPEC),
}


@pytest.mark.parametrize("name", PASS)
def test_photographs_are_within_the_budget(name: str) -> None:
    """The gateway's default."""
    data, spec = PASS[name]

    assert open_image(data, spec).seconds < BUDGET_S


@pytest.mark.parametrize("name", REFUSED)
def test_what_takes_long_is_beyond_it(name: str) -> None:
    """However few bytes it has."""
    data, spec = REFUSED[name]

    assert open_image(data, spec).seconds > BUDGET_S


def test_opening_decodes_no_pixel() -> None:
    """Of a PNG whose pixels are not there."""
    assert (100, 100) == open_image(png(100, 100, size=0, color=2), SPEC).size


@pytest.mark.parametrize("resize", ["nearest", "area", "bilinear", "bicubic"])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_resizing_is_bounded_for_every_shape(resize: Any, fit: Any) -> None:
    """An extreme shape takes no more than its pixels and the model's input."""
    spec = InputSpec(height=224, width=224, resize=resize, fit=fit)
    for width, height in ((1, 1), (1, 1 << 18), (1 << 18, 1), (16, 100_000), (8000, 8000)):
        assert 0 < resize_taps((width, height), spec) < 10 * (width * height + 224 * 224 + 224 * min(width, height))


def test_table_is_what_was_measured() -> None:
    """The results of `benchmarks decoding_rates` are not far above the table: time per pixel, and of noise in all."""
    reading = json.loads(RESULTS.read_text())["reading"]
    low: dict[str, tuple[float, float]] = {}
    for name, rate in reading.items():
        kind = name.split()
        if kind[0] == "png":
            types = {"grey": 0, "rgb": 2, "palette": 3, "grey-alpha": 4, "rgba": 6}
            pixel = decoding_time._PNG[types[kind[1]], int(kind[2])]
            pixel += decoding_time._PNG_INTERLACED * ("interlaced" in kind)
            byte = decoding_time._PNG_BYTE
        elif kind[0] == "jpeg":
            channels = {"L": 1, "RGB": 3, "CMYK": 4}[kind[1]]
            pixel, byte = decoding_time._JPEG[channels][int(kind[2][2:])], decoding_time._JPEG_BYTE
        elif kind[0] == "webp":
            rates = decoding_time._WEBP_LOSSLESS if kind[1] == "lossless" else decoding_time._WEBP_LOSSY
            pixel, byte = rates[kind[-1]]
        else:
            continue
        noisy = pixel + byte * rate["noise_bytes_a_pixel"]
        if noisy < 0.8 * rate["noise_ns_a_pixel"]:
            low[name] = (noisy, rate["noise_ns_a_pixel"])

    assert {} == low
