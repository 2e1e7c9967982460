"""Measures decoding by kind of file: the figures of `contract/images/decoding_time.py`.

CPU nanoseconds, smallest of several tries. Each kind is measured on pictures that compress to next to nothing, which
gives the time per pixel, and on noise, whose further time is the time per byte of the file. The table of the contract
holds these numbers, rounded up.
"""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from contract import image as decoding
from contract.images.colors import to_color
from contract.images.decoding_time import resize_taps
from contract.images.formats import open_file
from contract.model import InputSpec

SIDE = 3200
TRIES = 3
_PNG_TYPES = {"grey": (0, 1), "palette": (3, 1), "rgb": (2, 3), "grey-alpha": (4, 2), "rgba": (6, 4)}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_TIFF_CODECS = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "lzma", "zstd")


def run() -> dict[str, Any]:
    """Measure reading, colours, turning, resizing and scans."""
    return {
        "side": SIDE,
        "tries": TRIES,
        "reading": {name: _rate(easy, hard, scale) for name, easy, hard, scale in _kinds()},
        "jpeg_scan_ns_a_pixel": round(_time_scans(), 3),
        "rgb_and_grey_ns_a_pixel": {name: round(_ns_a_pixel(call), 2) for name, call in _conversions()},
        "turning_ns_a_pixel": round(max(_ns_a_pixel(call) for call in _turns()), 2),
        "resizing_ns_a_tap": {name: round(value, 3) for name, value in _resizing()},
    }


def _kinds() -> Iterator[tuple[str, list[bytes], bytes, int]]:
    """Give each kind's name, files that compress well, a noisy file, and the scale of a JPEG."""
    noise = np.random.default_rng(0).normal(128, 40, (SIDE, SIDE, 4)).clip(0, 255).astype(np.uint8)
    hard = {mode: Image.fromarray(noise).convert(mode) for mode in ("L", "RGB", "RGBA", "CMYK", "P", "1")}
    easy = {mode: Image.new(mode, (SIDE, SIDE)) for mode in hard}
    for scale in (1, 2, 4, 8):
        for mode in ("L", "RGB", "CMYK"):
            options = {"quality": 95, "subsampling": 0} if mode != "L" else {"quality": 95}
            yield f"jpeg {mode} 1/{scale}", [_save(easy[mode], "JPEG")], _save(hard[mode], "JPEG", **options), scale
    for name, (color_type, channels) in _PNG_TYPES.items():
        for bits in (1, 8, 16) if name == "grey" else (1, 8) if name == "palette" else (8, 16):
            for interlaced in (False, True):
                files = [_png(color_type, channels, bits, interlaced, noisy) for noisy in (False, True)]
                yield f"png {name} {bits}{' interlaced' * interlaced}", files[:1], files[1], 1
    ramp = Image.fromarray((np.mgrid[:SIDE, :SIDE].sum(0)[..., None] * (1, 2, 3, 4) // 32 % 256).astype(np.uint8))
    for mode in ("RGB", "RGBA"):
        lossless = [_save(easy[mode], "WEBP", lossless=True, method=0)]
        lossless += [_save(ramp.convert(mode), "WEBP", lossless=True, method=4, exact=True)]
        yield f"webp lossless {mode}", lossless, _save(hard[mode], "WEBP", lossless=True, method=0), 1
        yield f"webp {mode}", [_save(easy[mode], "WEBP", method=0)], _save(hard[mode], "WEBP", quality=90, method=0), 1
    for interlace in (0, 1):
        yield (
            f"gif{' interlaced' * interlace}",
            [_save(easy["P"], "GIF", interlace=interlace)],
            _save(hard["P"], "GIF", interlace=interlace),
            1,
        )
    for codec in _TIFF_CODECS:
        mode = "RGB" if codec == "jpeg" else "RGBA"
        yield (
            f"tiff {codec}",
            [_save(easy[mode], "TIFF", compression=codec)],
            _save(hard[mode], "TIFF", compression=codec),
            1,
        )
    for codec in ("group3", "group4"):
        yield (
            f"tiff {codec}",
            [_save(easy["1"], "TIFF", compression=codec)],
            _save(hard["1"], "TIFF", compression=codec),
            1,
        )
    yield "tiff raw", [_save(easy["RGBA"], "TIFF")], _save(hard["RGBA"], "TIFF"), 1
    yield "bmp", [_save(easy["RGB"], "BMP")], _save(hard["RGB"], "BMP"), 1
    yield "bmp rle", [_bmp_rle(255)], _bmp_rle(1), 1


def _rate(easy: list[bytes], hard: bytes, scale: int) -> dict[str, float]:
    """Return nanoseconds a pixel and, from what noise takes more, nanoseconds a byte."""
    flat = max(_time(lambda data=data: _read(data, scale)) for data in easy)  # type: ignore[misc]
    noisy = _time(lambda: _read(hard, scale))
    return {
        "ns_a_pixel": round(flat / SIDE**2, 2),
        "ns_a_byte": round(max(0.0, noisy - flat) / len(hard), 2),
        "noise_bytes_a_pixel": round(len(hard) / SIDE**2, 2),
        "noise_ns_a_pixel": round(noisy / SIDE**2, 2),
    }


def _read(data: bytes, scale: int) -> Image.Image:
    """Return the picture, neither converted nor resized."""
    opened = open_file(data)
    if scale > 1:
        opened.image.draft(None, (opened.image.width // scale, opened.image.height // scale))
    return opened.load()


def _time_scans() -> float:
    """Return nanoseconds a pixel of each further scan of a progressive JPEG."""
    flat = _save(Image.new("RGB", (SIDE, SIDE)), "JPEG", progressive=True)
    start = flat.rindex(b"\xff\xda")
    last = flat[start:-2]
    more = 100
    longer = flat[:-2] + last * more + flat[-2:]
    seconds = [_time(lambda data=data: _read(data, 1)) for data in (flat, longer)]  # type: ignore[misc]
    return (seconds[1] - seconds[0]) / more / SIDE**2


def _conversions() -> Iterator[tuple[str, Callable[[], object]]]:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8)
    rgba = Image.fromarray(noise)
    wide = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    palette = rgba.convert("RGB").quantize(32)
    clear = palette.copy()
    clear.info["transparency"] = 3
    keyed = rgba.convert("RGB")
    keyed.info["transparency"] = (1, 2, 3)
    pictures = {mode: rgba.convert("RGB").convert(mode) for mode in ("1", "L", "CMYK", "YCbCr")}
    pictures |= {"RGBA": rgba, "LA": rgba.convert("LA"), "I;16": wide, "I": wide.convert("I"), "P": palette}
    pictures |= {"P with transparency": clear, "RGB with transparency": keyed, "PA": palette.convert("PA")}
    for name, picture in pictures.items():
        yield name, lambda picture=picture: [to_color(picture, color, decoder=2) for color in ("rgb", "grey")]


def _turns() -> Iterator[Callable[[], object]]:
    picture = Image.new("RGB", (SIDE, SIDE))
    for method in Image.Transpose:
        yield lambda method=method: picture.transpose(method)


def _resizing() -> Iterator[tuple[str, float]]:
    """Give nanoseconds a tap of each kind of picture, the largest of several shapes."""
    for color, mode, channels in (("rgb", "RGB", 3), ("grey", "L", 1)):
        worst = 0.0
        for resize in ("bilinear", "bicubic", "area", "nearest"):
            for width, height in ((SIDE, SIDE), (16, 100_000), (100_000, 16), (100, 100)):
                picture = Image.new(mode, (width, height))
                for side in (64, 224, 1000):
                    spec = InputSpec(side, side, channels=channels, color=color, resize=resize)
                    taps = resize_taps((width, height), spec)
                    worst = max(worst, _time(lambda p=picture, s=spec: decoding._fit(p, s)) / taps)  # type: ignore[misc]
        yield color, worst


def _ns_a_pixel(call: Callable[[], object]) -> float:
    return _time(call) / SIDE**2


def _time(call: Callable[[], object]) -> float:
    """Return nanoseconds of CPU, the smallest of several tries."""
    best = float("inf")
    for _ in range(TRIES):
        start = time.thread_time_ns()
        call()
        best = min(best, time.thread_time_ns() - start)
    return best


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _png(color_type: int, channels: int, bits: int, interlaced: bool, noisy: bool) -> bytes:
    """Return a PNG of zeros or noise whose every row has the filter that takes longest (Paeth)."""
    rng = np.random.default_rng(0)
    raw = io.BytesIO()
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        rows, columns = -(-(SIDE - top) // down), -(-(SIDE - left) // across)
        row_bytes = -(-columns * channels * bits // 8)
        lines = np.zeros((rows, 1 + row_bytes), np.uint8)
        if noisy:
            lines[:, 1:] = rng.normal(128, 40, (rows, row_bytes)).clip(0, 255)
        lines[:, 0] = 4
        raw.write(lines.tobytes())
    header = struct.pack(">IIBBBBB", SIDE, SIDE, bits, color_type, 0, 0, int(interlaced))
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(raw.getvalue(), 6)), (b"IEND", b"")]
    if color_type == 3:
        chunks.insert(1, (b"PLTE", bytes(3 << bits)))
    packed = (struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _bmp_rle(run: int) -> bytes:
    """Return an 8-bit BMP in runs of so many pixels."""
    row = bytes((run, 1)) * (SIDE // run) + bytes((SIDE % run, 1)) * bool(SIDE % run) + b"\0\0"
    pixels = row * SIDE + b"\0\1"
    start = 14 + 40 + 1024
    head = struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    return head + info + bytes(1024) + pixels
