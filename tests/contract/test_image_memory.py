"""How much memory decoding takes, measured as the process's peak; and that saving it changes no pixel."""

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

import contract.image
from contract.errors import ImageTooLargeError
from contract.image import decode_image
from contract.model import InputSpec
from tests.helpers.server_process import ROOT

SIDE = 2000
SPEC = InputSpec(height=224, width=224, reduced_decode=False)
GREY = InputSpec(height=64, width=64, channels=1, color="grey", reduced_decode=False)
PICTURE = np.tile(np.random.default_rng(0).integers(0, 256, (50, 50, 4), dtype=np.uint8), (SIDE // 50, SIDE // 50, 1))
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
files = sorted(pathlib.Path(sys.argv[1]).iterdir())
for path in [*files, *files]:  # the first round loads Pillow's plugins
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
        "narrow.png": save(Image.new("RGB", (10, 400_000)), "PNG"),
        "flat.png": save(Image.new("RGB", (400_000, 10)), "PNG"),
    }


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="the kernel does not tell a process's peak")
def test_peak_memory_is_bounded_by_the_pixels(tmp_path: Path) -> None:
    """At most 16 MB and 8 bytes a pixel, whatever the pixels are; WebP and progressive JPEG are in another test."""
    saved = pictures(SIDE)
    for name, data in saved.items():
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], cwd=ROOT, capture_output=True, timeout=300, check=True
    )
    peaks = json.loads(done.stdout)

    assert set(saved) == set(peaks)
    assert {} == {name: peak for name, peak in peaks.items() if peak > 16e6 + 8 * SIDE * SIDE}


@pytest.mark.parametrize("name", ["jpeg-cmyk", "png-alpha", "png-palette-transparent", "png-16-bit", "gif"])
@pytest.mark.parametrize("spec", [SPEC, GREY], ids=["rgb", "grey"])
def test_strips_change_no_pixel(monkeypatch: pytest.MonkeyPatch, name: str, spec: InputSpec) -> None:
    """Colours are converted in strips to save memory; in one piece they are the same."""
    data = pictures(90)[name]
    whole = decode_image(data, spec)
    monkeypatch.setattr(contract.image, "_STRIP_PIXELS", 500)  # 5 rows

    np.testing.assert_array_equal(whole, decode_image(data, spec))


@pytest.mark.parametrize(
    ("form", "options", "cost"),
    [("PNG", {}, 8), ("JPEG", {}, 8), ("JPEG", {"progressive": True}, 12), ("WEBP", {}, 20)],
    ids=["png", "jpeg", "progressive-jpeg", "webp"],
)
def test_kinds_that_take_more_memory_may_have_fewer_pixels(form: str, options: dict[str, Any], cost: int) -> None:
    """The largest of every kind takes the same memory."""
    limit = 100 * 100
    allowed = int((limit * 8 // cost) ** 0.5)
    decode_image(save(Image.new("RGB", (allowed, allowed)), form, **options), SPEC, max_pixels=limit)

    with pytest.raises(ImageTooLargeError, match="expected at most"):
        decode_image(save(Image.new("RGB", (allowed + 1, allowed + 1)), form, **options), SPEC, max_pixels=limit)


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
