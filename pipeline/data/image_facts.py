"""Reads the facts of an image that are not its subject: its container's, and those of its borders and mean colour."""

from __future__ import annotations

import io
import re
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from contract.image import ImageHeader

GRID = 16  # cells along each side of a picture, of which the rim is kept
_RIM_DEPTH, _CORNER_DEPTH = 2, 4  # cells
_LEAST_SIDE = 64  # pixels; larger pictures are reduced by a whole factor, to no less
_LUMA = np.array([0.299, 0.587, 0.114])
_STANDARD_LUMINANCE = 3688  # sum of the JPEG standard's luminance table, which is quality 50
_SUBSAMPLING = {((1, 1),) * 3: "4:4:4", ((2, 1), (1, 1), (1, 1)): "4:2:2", ((2, 2), (1, 1), (1, 1)): "4:2:0"}
_BITS = re.compile(r";(1|2|4|16|32)(?!\d)")
# What Pillow's `info` holds beside the texts of a PNG, by its key.
_NOTES = {
    "comment": "comment",
    "gamma": "gamma",
    "icc_profile": "ICC profile",
    "chromaticity": "chromaticities",
    "photoshop": "Photoshop data",
    "srgb": "sRGB",
    "xmp": "XMP",
    "XML:com.adobe.xmp": "XMP",
}
_WITH_TEXTS, _WITH_RESOLUTION = frozenset({"PNG"}), frozenset({"JPEG", "PNG", "TIFF"})
_MAKE, _MODEL, _SOFTWARE, _ORIENTATION = 271, 272, 305, 274
# Tags without which there is no TIFF, and those of its resolution: no metadata.
_LAYOUT_TAGS = frozenset({*range(254, 270), 273, *range(277, 301), 317, 318, 319, *range(320, 351), 512, 513, 514, 529,
                          530, 531, 532})  # fmt: skip
_MAX_NAMES, _MAX_TEXT = 64, 80


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts of one image that should not tell its class.

    Attributes:
        num_bytes: size of the file.
        bits: of a stored sample.
        compression: of a JPEG its subsampling, coding and marker, of a TIFF or WebP the method; "" for others.
        jpeg_quality: 1 to 100, by the luminance table and the JPEG standard's scale; 0 for other formats.
        jpeg_tables: checksum of the quantisation tables; "" for other formats.
        metadata: names of the metadata in the file, such as "EXIF Make" and "ICC profile", sorted.
        camera: EXIF make and model.
        software: EXIF or PNG software.
        profile: checksum of the ICC profile.
        resolution: stored resolution, such as "72 x 72".
        color: mean of each channel, 0-255.
        rim: mean grey levels of the cells that `rim_cells` names.
        extremes: grey levels of each of `AREAS` at each share of `EXTREMES`.
    """

    num_bytes: int
    bits: int
    compression: str
    jpeg_quality: int
    jpeg_tables: str
    metadata: tuple[str, ...]
    camera: str
    software: str
    profile: str
    resolution: str
    color: tuple[float, ...]
    rim: tuple[int, ...]
    extremes: tuple[int, ...]


# Parts of the picture beside its subject: corners are a quarter of the sides, borders a thirty-second deep.
AREAS = (
    *("upper left corner", "upper right corner", "lower left corner", "lower right corner"),
    *("upper border", "lower border", "left border", "right border"),
)
EXTREMES = {"darkest": 0.0, "5 % darkest": 0.05, "5 % lightest": 0.95, "lightest": 1.0}


def rim_cells() -> NDArray[np.bool_]:
    """Return which cells of the grid are kept, bool, shape (GRID, GRID): two deep at the sides, four in corners."""
    depth = np.minimum(np.arange(GRID), GRID - 1 - np.arange(GRID))
    rows, columns = depth[:, None], depth[None, :]
    return (np.minimum(rows, columns) < _RIM_DEPTH) | (np.maximum(rows, columns) < _CORNER_DEPTH)


_RIM = rim_cells()


def read_facts(file: bytes, header: ImageHeader, pixels: NDArray[np.uint8] | None) -> ImageFacts:
    """Read the facts of one image.

    Args:
        file: its bytes.
        header: of the file.
        pixels: decoded, uint8, shape (height, width, channels), 1 or 3 channels; None leaves the picture's facts empty.
    """
    container = _read_container(file, header)
    return ImageFacts(len(file), *container, *(((), (), ()) if pixels is None else _measure_picture(pixels)))


def _read_container(file: bytes, header: ImageHeader) -> tuple[int, str, int, str, tuple[str, ...], str, str, str, str]:
    """Return bits to resolution, as ImageFacts has them; what a damaged part of the file would say is left out."""
    names: set[str] = set()
    if header.orientation != 1:
        names.add("EXIF Orientation")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(file), formats=(header.format,))
            info: dict[Any, Any] = image.info
            exif = image.getexif() if "exif" in info or header.format == "TIFF" else {}
    except Exception:  # noqa: BLE001 the picture is read by readers that pass over such parts
        return _bits(header.mode), "", 0, "", tuple(sorted(names)), "", "", "", ""
    if header.format in _WITH_TEXTS:
        names.update(f"text {key}" for key, text in info.items() if isinstance(text, str) and key not in _NOTES)
    names.update(note for key, note in _NOTES.items() if key in info)
    names.update(f"EXIF {ExifTags.TAGS.get(tag, tag)}" for tag in exif if tag not in _LAYOUT_TAGS)
    raw_mode = _raw_mode(image)
    tables = getattr(image, "quantization", None) or {}
    resolution = info.get("dpi") if header.format in _WITH_RESOLUTION else None
    return (
        _bits(raw_mode if _BITS.search(raw_mode) else header.mode),
        _compression(file, header, image),
        _jpeg_quality(tables),
        f"{zlib.crc32(repr(sorted(tables.items())).encode()):08x}" if tables else "",
        tuple(_cut(name) for name in sorted(names)[:_MAX_NAMES]),
        " ".join(text for tag in (_MAKE, _MODEL) if (text := _cut(exif.get(tag, "")))),
        _cut(exif.get(_SOFTWARE) or info.get("Software", "")),
        f"{zlib.crc32(info['icc_profile']):08x}" if info.get("icc_profile") else "",
        " x ".join(f"{float(value):.4g}" for value in resolution) if resolution else "",
    )


def _bits(mode: str) -> int:
    found = _BITS.search(mode)
    if found:
        return int(found[1])
    return {"1": 1, "I": 32, "F": 32}.get(mode, 8)


def _raw_mode(image: Image.Image) -> str:
    """Return how samples are stored, such as "RGB;16B"."""
    tiles: Any = getattr(image, "tile", None)
    args: Any = tiles[0].args if tiles else ""
    return args if isinstance(args, str) else next((arg for arg in args or () if isinstance(arg, str)), "")


def _compression(file: bytes, header: ImageHeader, image: Image.Image) -> str:
    if header.format == "JPEG":
        sampling = tuple((across, down) for _, across, down, *_ in getattr(image, "layer", ()))
        words = [_SUBSAMPLING.get(sampling, "") if len(sampling) == 3 else ""]
        words += ["progressive" if "progressive" in image.info else "", "JFIF" if "jfif" in image.info else ""]
        return " ".join(word for word in [*words, "Adobe" if "adobe" in image.info else ""] if word)
    if header.format == "WEBP":
        return "lossless" if b"VP8L" in file else "lossy"
    if header.format == "PNG":
        return "interlaced" if image.info.get("interlace") else "not interlaced"
    return str(image.info.get("compression", "")) if header.format == "TIFF" else ""


def _jpeg_quality(tables: dict[int, list[int]]) -> int:
    """Return the quality by the standard's scale that gives a luminance table of this sum; 0 without a table."""
    if not tables:
        return 0
    scale = 100 * sum(tables[min(tables)]) / _STANDARD_LUMINANCE
    return round(min(100.0, max(1.0, 5000 / scale if scale > 100 else (200 - scale) / 2)))


def _cut(text: object) -> str:
    return str(text).strip("\0 ")[:_MAX_TEXT]


def _measure_picture(pixels: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[int, ...], tuple[int, ...]]:
    """Return color, rim and extremes, as ImageFacts has them."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    factor = min(image.size) // _LEAST_SIDE
    image = image.reduce(factor) if factor > 1 else image
    cells = np.asarray(image.resize((GRID, GRID), Image.Resampling.BOX)).reshape(GRID, GRID, -1)
    grey = cells @ _LUMA if cells.shape[2] == 3 else cells[:, :, 0]
    levels = np.asarray(image.convert("L"))
    height, width = (max(1, size // 4) for size in levels.shape)
    down, across = (max(1, size // 32) for size in levels.shape)
    corners = [levels[:height, :width], levels[:height, -width:], levels[-height:, :width], levels[-height:, -width:]]
    borders = [levels[:down], levels[-down:], levels[:, :across], levels[:, -across:]]
    extremes = []
    for area in (*corners, *borders):
        ordered = np.sort(area, axis=None)
        extremes += [int(ordered[round(share * (ordered.size - 1))]) for share in EXTREMES.values()]
    return tuple(cells.mean(axis=(0, 1)).tolist()), tuple(grey[_RIM].astype(int).tolist()), tuple(extremes)
