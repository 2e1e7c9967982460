"""Metadata goes, the pixels that a model sees stay, in every format and orientation."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from contract.errors import ImageError
from contract.image import decode_image, read_header
from contract.model import InputSpec
from service.gateway.records.clean_images import clean_image
from tests.helpers.pictures import truncated_jpeg

SECRET = "Jane Doe 1970-01-01"
SPECS = {
    "rgb": InputSpec(24, 16, reduced_decode=True, fit="crop"),
    "grey": InputSpec(32, 32, channels=1, color="grey", reduced_decode=False, resize="bicubic"),
}


def picture(mode: str = "RGB", width: int = 70, height: int = 50) -> Image.Image:
    """Return a picture whose corners all differ."""
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(1).integers(0, 40, (height, width))
    channels = [(rows * 4 + noise) % 256, (columns * 3 + noise) % 256, (rows * columns + noise) % 256]
    image = Image.fromarray(np.stack(channels, -1).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode == "PA":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE)
        image.info["transparency"] = 3
        return image
    if mode == "RGBA":
        image.putalpha(Image.fromarray((columns * 3).astype(np.uint8)))
        return image
    return image.convert(mode)


def save(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """Return a file of it."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    """Return EXIF data that tells who it is and where it was taken."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010E] = tags[0x013B] = SECRET
    tags.get_ifd(0x8825)[29] = SECRET
    return tags.tobytes()


def text() -> PngInfo:
    """Return PNG text chunks, compressed and not."""
    info = PngInfo()
    info.add_text("Author", SECRET)
    info.add_itxt("XML:com.adobe.xmp", f"<x>{SECRET}</x>")
    return info


FILES = {
    "jpeg": lambda o: save(picture(), "JPEG", exif=exif(o), comment=SECRET, icc_profile=SECRET.encode() * 9),
    "jpeg-progressive": lambda o: save(picture(), "JPEG", exif=exif(o), progressive=True) + SECRET.encode(),
    "jpeg-grey": lambda o: save(picture("L"), "JPEG", exif=exif(o), restart_marker_rows=1),
    "jpeg-without-end": lambda o: save(picture(), "JPEG", exif=exif(o), comment=SECRET)[:-2],
    "jpeg-half-an-end": lambda o: save(picture(), "JPEG", exif=exif(o), comment=SECRET)[:-1],
    "jpeg-of-a-camera": lambda o: save(
        picture(), "MPO", exif=exif(o), comment=SECRET, save_all=True, append_images=[picture("L").convert("RGB")]
    ),
    "jpeg-cmyk": lambda o: save(picture("CMYK"), "JPEG", exif=exif(o)),
    "jpeg-rgb": lambda o: save(picture(), "JPEG", exif=exif(o), keep_rgb=True),
    "png": lambda o: save(picture(), "PNG", exif=exif(o), pnginfo=text()) + SECRET.encode(),
    "png-palette": lambda o: save(picture("PA"), "PNG", exif=exif(o), pnginfo=text()),
    "png-alpha": lambda o: save(picture("RGBA"), "PNG", exif=exif(o), pnginfo=text()),
    "png-16-bit": lambda o: save(picture("I;16"), "PNG", exif=exif(o), pnginfo=text()),
    "webp": lambda o: save(picture(), "WEBP", exif=exif(o), quality=80),
    "webp-alpha": lambda o: save(picture("RGBA"), "WEBP", exif=exif(o), lossless=True),
    "tiff": lambda o: save(picture(), "TIFF", exif=exif(o), description=SECRET),
    "tiff-16-bit": lambda o: save(picture("I;16"), "TIFF", description=SECRET),
    "gif": lambda o: save(picture("P"), "GIF", comment=SECRET.encode()),
    "bmp": lambda o: save(picture(), "BMP") + SECRET.encode(),
}  # fmt: skip


FILES_AT_6 = {kind: make(6) for kind, make in FILES.items() if kind.startswith(("jpeg", "png"))}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("kind", FILES)
def test_only_the_picture_is_left(kind: str, orientation: int, spec: InputSpec) -> None:
    """Nothing of the text is in the file, nor anything that Pillow finds; the model's pixels are the same."""
    data = FILES[kind](orientation)
    clean = clean_image(data, spec, max_pixels=10**6)
    opened = Image.open(io.BytesIO(clean.data))

    assert np.array_equal(decode_image(data, spec), decode_image(clean.data, spec))
    assert not any(part.encode() in clean.data for part in ("Jane", "1970"))
    assert set(opened.getexif()) <= {0x0112}
    assert not {"comment", "Author", "icc_profile", "XML:com.adobe.xmp"} & set(opened.info)
    assert (".jpg" if kind.startswith("jpeg") else ".png") == clean.suffix


@pytest.mark.parametrize("kind", ["jpeg", "jpeg-progressive", "png", "png-16-bit"])
def test_compressed_data_of_jpeg_and_png_is_untouched(kind: str) -> None:
    """No second loss, no lower bit depth: the file only gets shorter, and cleaning it again changes nothing."""
    data = FILES[kind](6)
    spec = SPECS["rgb"]
    clean = clean_image(data, spec, max_pixels=10**6).data

    assert 0 < len(clean) < len(data)
    assert clean == clean_image(clean, spec, max_pixels=10**6).data
    assert 6 == read_header(clean).orientation
    assert clean[-200:-12] in data


@pytest.mark.parametrize(
    "data", [b"", b"text", truncated_jpeg(), FILES["png"](1)[:300], b"\xff\xd8\xff\xe1\xff\xff"],
    ids=["empty", "text", "truncated-jpeg", "truncated-png", "jpeg-header"],
)  # fmt: skip
def test_what_cannot_be_decoded_is_refused(data: bytes) -> None:
    """As by predictions: nothing broken goes into a training set."""
    with pytest.raises(ImageError):
        clean_image(data, SPECS["rgb"], max_pixels=10**6)


@settings(max_examples=150)
@given(
    kind=st.sampled_from(["jpeg", "jpeg-progressive", "jpeg-grey", "png", "png-palette"]),
    place=st.integers(0, 2**16),
    junk=st.binary(min_size=1, max_size=8),
    cut=st.integers(0, 40),
)
def test_damaged_file_is_refused_or_keeps_its_pixels(kind: str, place: int, junk: bytes, cut: int) -> None:
    """Whatever is overwritten and cut off: never another picture, never another error."""
    data = FILES_AT_6[kind]
    place %= len(data)
    damaged = (data[:place] + junk + data[place + len(junk) :])[: len(data) - cut]
    spec = replace(SPECS["rgb"], reduced_decode=False)
    try:
        clean = clean_image(damaged, spec, max_pixels=10**6).data
    except ImageError:
        return
    assert np.array_equal(decode_image(damaged, spec), decode_image(clean, spec))


def test_jpeg_of_odd_structure_is_written_anew() -> None:
    """Bytes between segments: libjpeg skips them, so they are not trusted but decoded."""
    data = FILES["jpeg"](6)
    end = data.index(b"\xff\xdb")
    odd = data[:end] + b"\0\0" + SECRET.encode() + data[end:]
    spec = SPECS["rgb"]
    clean = clean_image(odd, spec, max_pixels=10**6)

    assert ".png" == clean.suffix
    assert SECRET.encode() not in clean.data
    exact = replace(spec, reduced_decode=False)
    assert np.array_equal(decode_image(odd, exact), decode_image(clean.data, exact))
