"""Memory of decoding, measured as the process's peak; reduced decoding changes no pixel."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import contract.images.colors
from contract.errors import ImageTooLargeError
from contract.image import decode_image, read_header
from contract.images.decoding_cost import MAX_SIDE
from contract.model import InputSpec
from tests.helpers.server_process import ROOT

SIDE = 2000
SPEC = InputSpec(height=224, width=224, reduced_decode=False)
GREY = InputSpec(height=64, width=64, channels=1, color="grey", reduced_decode=False)
# Rows of one colour each: what takes memory is their number, and such files are written and read fast.
PICTURE = np.repeat(np.random.default_rng(0).integers(0, 256, (SIDE, 1, 4), dtype=np.uint8), SIDE, axis=1)
CLEAR_REFS = Path("/proc/self/clear_refs")

# Run on its own: prints, for every file in a folder, by how much the process's peak rises while it is decoded.
MEASURE = """
import ctypes, gc, json, pathlib, sys
from contract.image import decode_image
from contract.model import InputSpec

def read(field):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

spec = InputSpec(height=224, width=224, reduced_decode=False)
peaks = {}
small, large = (sorted(pathlib.Path(folder).iterdir()) for folder in sys.argv[1:])
for path in [*small, *large]:  # the small ones load Pillow's plugins
    data = path.read_bytes()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = read("VmRSS")
    decode_image(data, spec)
    peaks[path.name] = read("VmHWM") - before
print(json.dumps(peaks))
"""


def save(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def area(data: bytes) -> int:
    """Return how many pixels an image file declares."""
    header = read_header(data)
    return header.width * header.height


def rgba_clear(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(0)
    return image


def pictures(side: int) -> dict[str, bytes]:
    """Return every kind of pixel, at side x side."""
    rgba = Image.fromarray(PICTURE).crop((0, 0, side, side))
    rgb = rgba.convert("RGB")
    grey16 = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    palette = rgb.quantize(32)
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "jpeg": save(rgb, "JPEG"),
        "jpeg-turned": save(rgb, "JPEG", exif=turned),
        "jpeg-cmyk": save(rgb.convert("CMYK"), "JPEG"),
        "jpeg-progressive": save(rgb, "JPEG", progressive=True),
        "jpeg-progressive-422": save(rgb, "JPEG", progressive=True, subsampling="4:2:2", exif=turned),
        "jpeg-progressive-444": save(rgb, "JPEG", progressive=True, subsampling="4:4:4"),
        "jpeg-without-end": save(rgb, "JPEG")[:-2],
        "jpeg-of-a-camera": save(rgb, "MPO", save_all=True, append_images=[rgb]),
        "png-clear": save(rgba_clear(rgb), "PNG", compress_level=1),
        "webp": save(rgb, "WEBP", method=0),
        "webp-turned": save(rgb, "WEBP", method=0, exif=turned),
        "webp-alpha": save(rgba, "WEBP", method=0),
        "webp-lossless": save(rgba, "WEBP", lossless=True, method=0, quality=0),
        "webp-animation": save(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)], method=0),
        "png": save(rgb, "PNG", compress_level=1),
        "png-alpha": save(rgba, "PNG", compress_level=1),
        "png-grey-alpha": save(rgba.convert("LA"), "PNG", compress_level=1),
        "png-one-transparent-colour": save(rgb, "PNG", compress_level=1, transparency=(1, 2, 3)),
        "png-palette-transparent": save(palette, "PNG", compress_level=1, transparency=3),
        "png-16-bit": save(grey16, "PNG", compress_level=1),
        "bmp": save(rgb, "BMP"),
        "gif": save(palette, "GIF"),
        "tiff": save(rgb, "TIFF", compression="tiff_lzw"),
        "tiff-16-bit": save(grey16, "TIFF"),
        "tiff-one-strip": save(rgba, "TIFF", compression="tiff_lzw", strip_size=1 << 30),
        "narrow.png": save(Image.new("RGB", (1, MAX_SIDE)), "PNG"),
        "flat.png": save(Image.new("RGB", (MAX_SIDE, 1)), "PNG"),
    }


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="the kernel does not tell a process's peak")
def test_peak_memory_is_bounded_by_the_pixels(tmp_path: Path) -> None:
    """At most 16 MB and 8 bytes a pixel; 20 of WebP, 10 of a JPEG with all coefficients or a TIFF in one strip."""
    saved = pictures(SIDE)
    folders = {"small": pictures(32), "large": saved}
    for folder, files in folders.items():
        (tmp_path / folder).mkdir()
        for name, data in files.items():
            (tmp_path / folder / name).write_bytes(data)
    command = [sys.executable, "-c", MEASURE, *(str(tmp_path / folder) for folder in folders)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300, check=True)
    peaks = json.loads(done.stdout)

    assert set(saved) == set(peaks)
    a_pixel = {
        name: 20 if name.startswith("webp") else 10 if name.endswith(("444", "one-strip")) else 8 for name in peaks
    }
    assert {} == {name: peak for name, peak in peaks.items() if peak > 16e6 + a_pixel[name] * area(saved[name])}


@pytest.mark.parametrize("name", ["jpeg-cmyk", "png-alpha", "png-palette-transparent", "png-16-bit", "gif"])
@pytest.mark.parametrize("spec", [SPEC, GREY], ids=["rgb", "grey"])
def test_strips_change_no_pixel(monkeypatch: pytest.MonkeyPatch, name: str, spec: InputSpec) -> None:
    """Colours are converted in strips to save memory; in one piece they are the same."""
    data = pictures(90)[name]
    whole = decode_image(data, spec)
    monkeypatch.setattr(contract.images.colors, "_STRIP_PIXELS", 500)  # 5 rows

    np.testing.assert_array_equal(whole, decode_image(data, spec))


def test_a_progressive_jpeg_is_refused_where_its_coefficients_leave_no_room() -> None:
    """Without subsampling they take 6 bytes a pixel and the picture 4; at a reduced scale it takes less."""
    data = save(Image.new("RGB", (3000, 3000)), "JPEG", progressive=True, subsampling="4:4:4")
    assert (224, 224, 3) == decode_image(data, InputSpec(height=224, width=224), max_pixels=9_000_000).shape
    assert (224, 224, 3) == decode_image(data, SPEC).shape

    with pytest.raises(ImageTooLargeError, match=r"progressive JPEG .* 8 for each of 9,000,000 pixels .* baseline"):
        decode_image(data, SPEC, max_pixels=9_000_000)


def test_a_jpeg_whose_components_follow_each_other_is_like_a_progressive_one() -> None:
    """Its first scan has one of three components: libjpeg keeps the coefficients of all."""
    data = save(Image.new("RGB", (3000, 3000)), "JPEG", subsampling="4:4:4")
    scan = data.index(b"\xff\xda\0\x0c\x03")
    alone = data[:scan] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + data[scan + 14 :]

    assert (224, 224, 3) == decode_image(data, SPEC, max_pixels=9_000_000).shape
    with pytest.raises(ImageTooLargeError, match="progressive JPEG"):
        decode_image(alone, SPEC, max_pixels=9_000_000)


def test_a_tiff_in_one_large_strip_of_wide_pixels_is_refused() -> None:
    """Four channels of 16 bits: libtiff unpacks the whole strip, 8 bytes a pixel beside the picture's 4."""
    side = 2500
    # Width, height, bits, compression, photometric, strip, samples, rows a strip, size, one alpha channel.
    tags = {256: side, 257: side, 258: 16, 259: 8, 262: 2, 273: 8, 277: 4, 278: side, 279: 12, 338: 2}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    entries[2] = struct.pack("<HHII", 258, 3, 4, 20 + 2 + 12 * len(tags) + 4)
    data = struct.pack("<2sHI", b"II", 42, 20) + bytes(12) + struct.pack("<H", len(tags))
    data += b"".join(entries) + bytes(4) + struct.pack("<4H", 16, 16, 16, 16)

    with pytest.raises(ImageTooLargeError, match=r"expected a TIFF .* small strips"):
        decode_image(data, SPEC, max_pixels=side * side)


def test_an_enormous_side_is_refused() -> None:
    """Resizing takes memory for every pixel of a side."""
    with pytest.raises(ImageTooLargeError, match=f"sides of at most {MAX_SIDE}"):
        decode_image(save(Image.new("L", (MAX_SIDE + 1, 1)), "PNG"), SPEC)


def test_more_pixels_than_the_cap_are_refused() -> None:
    """The same number for every kind of file."""
    for form in ("PNG", "JPEG", "WEBP", "TIFF"):
        data = save(Image.new("RGB", (100, 101)), form)
        decode_image(data, SPEC, max_pixels=10_100)
        with pytest.raises(ImageTooLargeError, match="at most 10000 pixels"):
            decode_image(data, SPEC, max_pixels=10_000)


def test_tiff_with_enormous_tiles_is_refused() -> None:
    """A tile's memory is taken before a pixel is read, however small the image is."""
    # Width, height, bits, compression, photometric, samples, tile width and length, one tile's place and size.
    tags = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: 32768, 323: 32768, 324: 8, 325: 20}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = struct.pack("<2sHI", b"II", 42, 28) + bytes(20) + struct.pack("<H", len(tags)) + entries + bytes(4)

    with pytest.raises(ImageTooLargeError, match="tiles"):
        decode_image(data, SPEC)


def test_largest_of_a_kind_is_decoded_whole() -> None:
    """Strips are for memory only: an image of many strips has all its rows."""
    rows = np.repeat(np.arange(256, dtype=np.uint8), 8)[:, None].repeat(SIDE, axis=1)
    data = save(Image.fromarray(rows).convert("LA"), "PNG", compress_level=1)
    spec = InputSpec(height=256, width=1, resize="nearest")

    np.testing.assert_array_equal(np.arange(256), decode_image(data, spec)[:, 0, 0])
