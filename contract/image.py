"""Bytes to pixels: the only image decoder and resizer in the project.

Training, evaluation, batch scoring and the gateway all call `decode_image`, so a model sees the same pixels
everywhere. A model's contract names the version of the rules (`InputSpec.decoder`). The rules of version 1:

- JPEG, PNG, WebP, BMP, the first page of TIFF, the first frame of GIF; nothing else is handed to a decoder.
- EXIF orientation is applied.
- 16-bit grey is scaled to 8 bits over the type's whole range (v / 257), never over the image's own range.
- Transparent pixels are laid over black; palette, CMYK and grey become RGB; `color: grey` is ITU-R 601 luma.
- Shrinking is antialiased for every interpolation but "nearest" (Pillow's filters).
- With `reduced_decode`, a JPEG is decoded at the smallest of the scales 1/8, 1/4, 1/2, 1 that is not smaller than
  the part of the input that is kept (libjpeg's scaled inverse DCT, Pillow's `draft`). One with further pictures (MPO)
  is decoded whole.

Both versions also read AVIF, and HEIC and DICOM with their extras. Version 2 reads more of what version 1 misreads or
refuses. What version 1 reads right has the same pixels in both:

- Alpha that is 0 everywhere is no alpha: the picture is read as if it had none. This holds for every kind of
  transparency, and for the first frame of an animation.
- TIFF is read by the rules of contract/images/tiff/reader.py: 1 to 16 bits, scaled over the range of BitsPerSample,
  rounded; the page is the first that is no thumbnail and no mask; other kinds are refused by name.
- A PNG whose samples use only the lower bits that sBIT names is scaled over these.
- A JPEG with further pictures (MPO) is decoded as the same JPEG without them, at a reduced scale too.

In both versions, parts of a file that make no pixels are passed over, damaged or not: a PNG's other chunks, a JPEG's
application segments and comments, profiles, EXIF beside its orientation. A JPEG that lacks only its end marker is
whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contract.errors import (
    EmptyImageError,
    ImageTooLargeError,
    UndecodableImageError,
    UnsupportedImageError,
)
from contract.images.colors import to_color
from contract.images.decoding_cost import check_cost, check_size
from contract.images.decoding_time import estimate_seconds
from contract.images.formats import FORMATS, open_file
from contract.images.image_file import Opened
from contract.model import DECODER, InputSpec

__all__ = ["FORMATS", "MAX_PIXELS", "ImageHeader", "OpenImage", "decode_image", "open_image", "read_header"]

MAX_PIXELS = 80_000_000  # width x height of the largest image that is read, unless the caller says otherwise

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
}
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
# Not ImageOps.exif_transpose: it also writes the EXIF data anew, and fails where another tag is damaged.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Facts from an image file's header, read before any pixel is decoded.

    Attributes:
        format: one of FORMATS.
        width: columns as stored, pixels.
        height: rows as stored, pixels.
        mode: Pillow's pixel mode, such as "RGB", "L", "P", "I;16", "CMYK".
        orientation: EXIF orientation, 1 to 8; 1 when the file does not say.
        num_frames: frames or pages; only the first is read.
    """

    format: str
    width: int
    height: int
    mode: str
    orientation: int
    num_frames: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) once the EXIF orientation is applied."""
        return (self.height, self.width) if self.orientation in _SIDEWAYS else (self.width, self.height)


@dataclass(slots=True)
class OpenImage:
    """An image file whose header has been read and whose pixels have not; see `open_image`.

    Attributes:
        format: one of FORMATS.
        size: (width, height) by the header.
        mode: Pillow's pixel mode.
        seconds: estimated CPU time of `decode`, on the machine of `contract/images/decoding_time.py`.
    """

    format: str
    size: tuple[int, int]
    mode: str
    seconds: float
    _opened: Opened
    _spec: InputSpec

    def decode(self) -> NDArray[np.uint8]:
        """Decode and resize the image, once; see `decode_image`."""
        opened, spec = self._opened, self._spec
        del self._opened  # each buffer is freed as soon as the next one exists: it may be large
        try:
            orientation = 1 if opened.turns_itself else opened.orientation
            image = opened.load()
            del opened
            upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
            del image
            upright = to_color(upright, spec.color, decoder=spec.decoder)
            pixels = _fit(upright, spec)
        except (UnsupportedImageError, ImageTooLargeError, UndecodableImageError):
            raise
        except Exception as err:
            raise UndecodableImageError(_broken(self.format, err)) from err
        return np.ascontiguousarray(np.asarray(pixels, dtype=np.uint8).reshape(spec.shape))


def open_image(data: bytes, spec: InputSpec, *, max_pixels: int = MAX_PIXELS) -> OpenImage:
    """Read an image's header, and estimate its decoding.

    Raises:
        ImageError: as `decode_image`, as far as the header tells.
    """
    opened = _open(data, max_pixels, spec.decoder)
    image, size = opened.image, opened.image.size
    try:
        if spec.reduced_decode and opened.format == "JPEG" and (spec.decoder > 1 or opened.count_frames() == 1):
            image.draft(None, _draft_size(size, opened.orientation, spec))
        check_cost(image, size, max_pixels)
        seconds = estimate_seconds(image, data, size, spec, turned=opened.orientation != 1)
    except (UnsupportedImageError, ImageTooLargeError, UndecodableImageError):
        raise
    except Exception as err:
        raise UndecodableImageError(_broken(opened.format, err)) from err
    return OpenImage(opened.format, size, image.mode, seconds, opened, spec)


def decode_image(data: bytes, spec: InputSpec, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode and resize one image to a model's input.

    Args:
        data: the image file's bytes.
        spec: size, colour, interpolation and fit, from the model's contract.
        max_pixels: refuse images whose header declares more, before decoding.

    Returns:
        uint8, shape (height, width, channels), values 0-255, channels in `spec.color` order, C-contiguous.

    Raises:
        EmptyImageError: if there are no bytes.
        UnsupportedImageError: if the format or the kind of pixel is not read.
        UndecodableImageError: if the contents are truncated or corrupt.
        ImageTooLargeError: if the header declares more than `max_pixels`.
    """
    return open_image(data, spec, max_pixels=max_pixels).decode()


def read_header(data: bytes, *, max_pixels: int = MAX_PIXELS, decoder: int = DECODER) -> ImageHeader:
    """Read what an image file says of itself, decoding no pixel, by a version of the decoder's rules.

    Raises:
        ImageError: as `decode_image`, as far as the header tells.
    """
    opened = _open(data, max_pixels, decoder)
    try:
        num_frames = opened.count_frames()
    except Exception as err:
        raise UndecodableImageError(_broken(opened.format, err)) from err
    image = opened.image
    return ImageHeader(opened.format, image.width, image.height, image.mode, opened.orientation, num_frames)


def _open(data: bytes, max_pixels: int, decoder: int) -> Opened:
    if not data:
        raise EmptyImageError("the image is empty: expected the bytes of an image file. Received: 0 bytes")
    try:
        opened = open_file(data, decoder)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as err:
        # Pillow's own limits: an error from 179 million pixels on, from 89 million a warning that may be one too.
        raise ImageTooLargeError(f"the image has more pixels than Pillow opens; the limit is {max_pixels:,}") from err
    except (UnsupportedImageError, ImageTooLargeError, UndecodableImageError):
        raise
    except Exception as err:
        raise UndecodableImageError(_broken(None, err)) from err
    check_size(opened.image, max_pixels)
    return opened


def _draft_size(size: tuple[int, int], orientation: int, spec: InputSpec) -> tuple[int, int]:
    """Return the (width, height), as stored, that a reduced decode must not go below."""
    width, height = (size[1], size[0]) if orientation in _SIDEWAYS else size
    scale_x = spec.width / (width * spec.crop_fraction)
    scale_y = spec.height / (height * spec.crop_fraction)
    if spec.fit == "crop":
        scale_x = scale_y = max(scale_x, scale_y)
    elif spec.fit == "pad":
        scale_x = scale_y = min(scale_x, scale_y)
    needed = (max(1, -int(-width * scale_x // 1)), max(1, -int(-height * scale_y // 1)))
    return (needed[1], needed[0]) if orientation in _SIDEWAYS else needed


def _fit(image: Image.Image, spec: InputSpec) -> Image.Image:
    size = (spec.width, spec.height)
    resampling = _RESAMPLING[spec.resize]
    if spec.fit == "pad":
        scale = min(spec.width / image.width, spec.height / image.height)
        inner = (
            min(spec.width, max(1, round(image.width * scale))),
            min(spec.height, max(1, round(image.height * scale))),
        )
        canvas = Image.new(image.mode, size)
        canvas.paste(image.resize(inner, resampling), ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
        return canvas
    box = _kept_box(image.size, spec)
    return image if box == (0, 0, *size) == (0, 0, *image.size) else image.resize(size, resampling, box=box)


def _kept_box(size: tuple[int, int], spec: InputSpec) -> Box:
    """Return the centred (left, upper, right, lower) that becomes the input, by `fit` "crop" or "stretch"."""
    width, height = float(size[0]), float(size[1])
    if spec.fit == "crop":
        scale = min(width / spec.width, height / spec.height)
        width, height = spec.width * scale, spec.height * scale
    width, height = width * spec.crop_fraction, height * spec.crop_fraction
    left, upper = (size[0] - width) / 2, (size[1] - height) / 2
    return (left, upper, min(left + width, size[0]), min(upper + height, size[1]))


def _broken(image_format: str | None, err: Exception) -> str:
    what = f"the {image_format} image" if image_format else "the image"
    reason = "is truncated" if "truncated" in str(err).lower() else "is corrupt"
    return f"{what} cannot be decoded: it {reason}"
