"""contract/image.py: `crop_fraction` keeps the centre of what `fit` keeps, as resizing and a centre crop do."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from contract.image import decode_image
from contract.images.decoding_time import resize_taps
from contract.model import InputSpec

IMAGENET = InputSpec(224, 224, resize="bicubic", fit="crop", crop_fraction=0.875)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def waves(width: int, height: int) -> Image.Image:
    """A picture with detail in each channel, none of it at the limit of resolution."""
    y, x = np.mgrid[:height, :width]
    channels = [np.sin(x / 9 + y / 31), np.sin(y / 7), np.sin((x * y) ** 0.5 / 11)]
    return Image.fromarray((127.5 + 120 * np.stack(channels, -1)).astype(np.uint8))


@pytest.mark.parametrize("resize", ["bilinear", "bicubic", "area"])
@pytest.mark.parametrize(("width", "height"), [(600, 400), (400, 600), (256, 256), (300, 200), (1200, 800)])
def test_it_is_resizing_the_shorter_side_and_cropping_the_centre(resize: str, width: int, height: int) -> None:
    """The standard of ImageNet models: the shorter side to 256, then the middle 224 x 224."""
    image = waves(width, height)
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC, "area": Image.Resampling.BOX}
    scale = 256 / min(width, height)
    whole = image.resize((round(width * scale), round(height * scale)), filters[resize])
    left, upper = (whole.width - 224) // 2, (whole.height - 224) // 2
    expected = np.asarray(whole.crop((left, upper, left + 224, upper + 224)), int)

    actual = decode_image(encode(image), replace(IMAGENET, resize=resize))

    assert np.abs(expected - actual).max() <= 2  # rounding, of two passes each


def kept_by(fit: str, size: tuple[int, int], spec: InputSpec) -> tuple[float, float, float, float]:
    width, height = size
    if fit == "crop":
        side = min(width / spec.width, height / spec.height)
        width, height = spec.width * side, spec.height * side
    width, height = width * spec.crop_fraction, height * spec.crop_fraction
    return (size[0] - width) / 2, (size[1] - height) / 2, width, height


@given(
    st.integers(150, 255),
    st.integers(150, 255),
    st.floats(0.4, 1.0),
    st.sampled_from(["crop", "stretch"]),
    st.sampled_from(["PNG", "JPEG"]),
    st.sampled_from([1, 3, 6, 8]),
)
def test_every_output_pixel_is_where_it_should_be(
    width: int, height: int, fraction: float, fit: str, kind: str, orientation: int
) -> None:
    """A picture that holds its own coordinates: red is x, green is y, as seen upright."""
    spec = InputSpec(32, 48, fit=fit, crop_fraction=fraction)
    y, x = np.mgrid[:height, :width]
    upright = Image.fromarray(np.stack([x, y, np.full_like(x, 128)], -1).astype(np.uint8))
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    stored = upright.transpose(turns[orientation]) if orientation in turns else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    left, upper, kept_width, kept_height = kept_by(fit, (width, height), spec)

    actual = decode_image(encode(stored, kind, exif=exif, **options), spec).astype(float)

    columns = left + (np.arange(48) + 0.5) * kept_width / 48 - 0.5
    rows = upper + (np.arange(32) + 0.5) * kept_height / 32 - 0.5
    assert np.abs(actual[:, 2:-2, 0] - columns[2:-2]).max() < 6
    assert np.abs(actual[2:-2, :, 1] - rows[2:-2, None]).max() < 6


@pytest.mark.parametrize("fit", ["crop", "stretch"])
@pytest.mark.parametrize("fraction", [1.0, 0.875, 0.5, 0.3])
def test_reduced_decode_leaves_the_kept_part_its_pixels(fit: str, fraction: float) -> None:
    """A JPEG is not decoded at a scale at which the part that is kept is smaller than the input."""
    spec = InputSpec(200, 200, fit=fit, crop_fraction=fraction)
    columns = np.tile(np.arange(1600), (1600, 1))
    shades = 127.5 + 100 * np.sin(columns * 2 * np.pi / (8 * 10 * fraction))
    fine = Image.fromarray(shades.astype(np.uint8)).convert("RGB")
    data = encode(fine, "JPEG", quality=95)

    reduced, full = (decode_image(data, replace(spec, reduced_decode=flag)).astype(int) for flag in (True, False))

    assert full.std() > 30
    assert np.abs(reduced - full).mean() < 3


def test_pixels_at_fraction_1_are_what_they_were() -> None:
    """The field's default changes no pixel of any fit."""
    data = encode(waves(333, 217))
    for fit, box in (("stretch", (0, 0, 333, 217)), ("crop", (58, 0, 275, 217))):
        expected = np.asarray(waves(333, 217).resize((100, 100), Image.Resampling.BILINEAR, box=box))
        assert np.array_equal(expected, decode_image(data, InputSpec(100, 100, fit=fit)))


def test_the_estimate_of_time_counts_the_kept_part() -> None:
    """Half of each side is about a quarter of the pixels to add up."""
    whole, half = (resize_taps((4000, 4000), InputSpec(224, 224, fit="crop", crop_fraction=f)) for f in (1.0, 0.5))

    assert 0.2 < half / whole < 0.35
