"""The kinds of image files in the tables of docs/images.md, each with a file of it.

python -m tests.contract.images.kinds     writes the tables anew
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from contract.errors import ImageError
from contract.image import decode_image
from contract.model import InputSpec
from tests.conformance.page import replace_section
from tests.contract.images import test_dicom, tiff_matrix
from tests.contract.test_colors import CLEAR
from tests.contract.test_jpeg import frame
from tests.helpers.odd_images import SIZE, picture, write
from tests.helpers.server_process import ROOT

PAGE: Final = ROOT / "docs" / "images.md"
SPEC: Final = InputSpec(SIZE[1], SIZE[0], reduced_decode=False)


@dataclass(frozen=True)
class ReadKind:
    """A kind of file that is read.

    Attributes:
        format: the format's name.
        kind: the variant.
        how: how its pixels are made.
        data: a file of it.
        shows: the picture that it shows, uint8, shape (rows, columns, 3), before resizing to SPEC.
        tolerance: largest mean difference, levels of 0-255: of codings with loss.
    """

    format: str
    kind: str
    how: str
    data: bytes
    shows: Image.Image
    tolerance: float = 0.0


@dataclass(frozen=True)
class RefusedKind:
    """A kind of file that is refused; the page has the message that the decoder gives."""

    kind: str
    data: bytes


def _over_black(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGBA", image.size, (0, 0, 0, 255))
    canvas.alpha_composite(image.convert("RGBA"))
    return canvas.convert("RGB")


def _grey_16() -> tuple[bytes, Image.Image]:
    values = (np.arange(SIZE[0] * SIZE[1], dtype=np.uint32) * 54).astype(np.uint16).reshape(SIZE[::-1])
    shown = np.rint(values / 257.0).astype(np.uint8)
    return write(Image.fromarray(values), "PNG"), Image.fromarray(shown).convert("RGB")


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return write(picture(), "JPEG", quality=95, exif=exif)


def read_kinds() -> list[ReadKind]:
    """Return the kinds that are read, in the order of the page."""
    rgb, grey, rgba = (picture(mode) for mode in ("RGB", "L", "RGBA"))
    palette = rgb.convert("P")
    grey_16, shown_16 = _grey_16()
    frames = [rgb.rotate(90)] * 2
    return [
        ReadKind("JPEG", "baseline", "libjpeg-turbo", write(rgb, "JPEG", quality=95), rgb, 3),
        ReadKind("JPEG", "progressive", "the same", write(rgb, "JPEG", quality=95, progressive=True), rgb, 3),
        ReadKind("JPEG", "grey", "becomes RGB", write(grey, "JPEG", quality=95), grey.convert("RGB"), 2),
        ReadKind("JPEG", "CMYK", "becomes RGB", write(rgb.convert("CMYK"), "JPEG", quality=95), rgb, 4),
        ReadKind("JPEG", "EXIF orientation", "applied", _turned(6), rgb.transpose(Image.Transpose.ROTATE_270), 3),
        ReadKind("JPEG", "several pictures (MPO)", "the first one", write(rgb, "MPO", quality=95, save_all=True,
                 append_images=frames), rgb, 3),
        ReadKind("JPEG", "without its end marker", "a whole picture", write(rgb, "JPEG", quality=95)[:-2], rgb, 3),
        ReadKind("PNG", "8 bits", "as stored", write(rgb, "PNG"), rgb),
        ReadKind("PNG", "16 bits", "v / 257, rounded; `sBIT` scales samples of fewer bits", grey_16, shown_16),
        ReadKind("PNG", "palette", "its colours", write(palette, "PNG"), palette.convert("RGB")),
        ReadKind("PNG", "transparency", "laid over black", write(rgba, "PNG"), _over_black(rgba), 1),
        ReadKind("PNG", "alpha that is 0 everywhere", "alpha is ignored", *CLEAR["png"]),
        ReadKind("PNG", "animation", "the first frame", write(rgb, "PNG", save_all=True, append_images=frames), rgb),
        ReadKind("WEBP", "lossy", "libwebp", write(rgb, "WEBP", quality=95), rgb, 4),
        ReadKind("WEBP", "lossless", "as stored", write(rgb, "WEBP", lossless=True), rgb),
        ReadKind("WEBP", "animation", "the first frame", write(rgb, "WEBP", save_all=True, append_images=frames,
                 lossless=True), rgb),
        ReadKind("BMP", "1 to 32 bits, RLE", "as stored", write(rgb, "BMP"), rgb),
        ReadKind("BMP", "alpha that is 0 everywhere (V4, V5)", "alpha is ignored", *CLEAR["bmp-v5"]),
        ReadKind("GIF", "picture or animation", "the first frame", write(palette, "GIF"), palette.convert("RGB")),
        ReadKind("AVIF", "8 to 12 bits, first picture", "dav1d", write(rgb, "AVIF", quality=95), rgb, 4),
    ]  # fmt: skip


def read_rows() -> list[tuple[str, str, str]]:
    """Return (format, kind, how) of every kind that is read."""
    rows = [(kind.format, kind.kind, kind.how) for kind in read_kinds()]
    rows += [("TIFF", kind, how) for kind, how in tiff_matrix.READ.items()]
    rows += [("HEIC (extra `heic`)", "8 and 10 bits, primary picture", "libheif, libde265; orientation applied")]
    return rows + [("DICOM (extra `dicom`)", kind, how) for kind, how in test_dicom.READ.items()]


def refused_kinds() -> list[RefusedKind]:
    """Return the kinds that are refused, with a file of each."""
    floats = write(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
    jp2 = write(picture(), "JPEG2000")
    dicom = {kind: test_dicom.make(**options) for kind, (options, _) in test_dicom.REFUSED.items()}
    return [
        RefusedKind("JPEG of 12 bits", frame(0xC1, bits=12)),
        RefusedKind("lossless JPEG", frame(0xC3)),
        RefusedKind("JPEG-LS", b"\xff\xd8\xff\xf7\0\x0b" + bytes(40)),
        RefusedKind("JPEG 2000", jp2),
        RefusedKind("JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20)),
        RefusedKind("TIFF, floating point", floats),
        RefusedKind("Photoshop document", b"8BPS" + bytes(40)),
        RefusedKind("Windows icon", struct.pack("<HHH", 0, 1, 1) + bytes(40)),
        RefusedKind("SVG drawing", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        RefusedKind("PDF document", b"%PDF-1.7\n"),
        RefusedKind("web page", b"<!DOCTYPE html><html></html>"),
        *(RefusedKind(f"DICOM, {kind}", data) for kind, data in dicom.items()),
        RefusedKind("a PNG that is cut", write(picture(), "PNG")[:-60]),
        RefusedKind("no bytes", b""),
    ]


def refusal(data: bytes) -> ImageError:
    """Return the error with which a file is refused.

    Raises:
        AssertionError: if it is read.
    """
    try:
        decode_image(data, SPEC)
    except ImageError as err:
        return err
    raise AssertionError("expected an ImageError")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def render() -> str:
    """Return the page with its tables as the kinds have them."""
    tables: dict[str, Callable[[], list[str]]] = {
        "read": lambda: _table(("format", "kind", "how"), read_rows()),
        "tiff-refused": lambda: _table(
            ("TIFF of", "words"),
            [(kind, f"`{words.replace('.*', '...').lstrip('-')}`") for kind, words in tiff_matrix.REFUSED.items()],
        ),
        "refused": lambda: _table(
            ("kind", "code", "message"),
            [(kind.kind, f"`{error.code}`", str(error)) for kind in refused_kinds() for error in [refusal(kind.data)]],
        ),
    }
    text = PAGE.read_text()
    for name, table in tables.items():
        text = replace_section(text, name, ["", *table(), ""])
    return text


if __name__ == "__main__":
    PAGE.write_text(render())
