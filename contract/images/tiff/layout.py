"""Checks a TIFF page's tags: only a page that is read has a layout, every other is refused by its name."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from contract.errors import ImageTooLargeError, UndecodableImageError, UnsupportedImageError
from contract.images.tiff.directory import Directory, Tag

NONE, CCITT, JPEG, PACKBITS = 1, (2, 3, 4), 7, 32773
_BYTE_CODECS = {
    NONE: "none",
    5: "LZW",
    8: "Deflate",
    32946: "Deflate",
    PACKBITS: "PackBits",
    34925: "LZMA",
    50000: "zstd",
}
_PREDICTED = (5, 8, 32946, 34925, 50000)
_OTHER_CODECS = {
    6: "old-style JPEG compression", 9: "JBIG compression", 10: "JBIG compression", 32766: "NeXT compression",
    32771: "CCITT RLE compression with word alignment", 32809: "ThunderScan compression",
    32908: "PixarFilm compression", 32909: "PixarLog compression", 33003: "JPEG 2000 compression",
    33004: "JPEG 2000 compression",
    33005: "JPEG 2000 compression", 33007: "JPEG compression of an unknown kind", 34661: "JBIG compression",
    34676: "SGI LogLuv compression", 34677: "SGI LogLuv compression", 34712: "JPEG 2000 compression",
    34887: "LERC compression", 34892: "lossy JPEG compression of raw data", 34933: "PNG compression",
    34934: "JPEG XR compression", 50001: "WebP compression", 50002: "JPEG XL compression", 52546: "JPEG XL compression",
}  # fmt: skip
WHITE_ZERO, BLACK_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
_SAMPLES = {WHITE_ZERO: 1, BLACK_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}
_NAMES = {RGB: "RGB", PALETTE: "palette", CMYK: "CMYK", YCBCR: "YCbCr", CIELAB: "CIELAB", ICCLAB: "ICC Lab"}
_OTHER_PHOTOMETRICS = {
    4: "a transparency mask", 10: "ITU Lab pixels", 32803: "camera raw data (a colour filter array)",
    32844: "LogL pixels", 32845: "LogLuv pixels", 34892: "camera raw data (linear raw)", 51177: "a depth map",
    52527: "a semantic mask",
}  # fmt: skip
_FORMATS = {2: "signed {}-bit", 3: "{}-bit floating-point", 5: "complex whole-number", 6: "complex floating-point"}
_ASSOCIATED, _UNASSOCIATED, _COREL = 1, 2, 999  # CorelDRAW 10 writes 999 for unassociated alpha
_DEFAULT_COEFFICIENTS = (0.299, 0.587, 0.114)
_DEFAULT_REFERENCE = (0, 255, 128, 255, 128, 255)
_WAY_ROUND = "convert it to PNG or JPEG first"
_MAX_EXTRA = 3
_MIN_TILE_PIXELS = 1 << 20  # a tile may be larger than the image, but not by any amount


@dataclass(frozen=True, slots=True)
class Layout:
    """The checked storage of a page's pixels; kinds that are not read have no layout.

    Attributes:
        width, height: pixels.
        bits: of a sample, 1 to 16.
        samples: a pixel, extra samples included.
        colors: samples that are colours.
        alpha: place of the unassociated alpha among the samples; None without it.
        photometric, compression, predictor: as in the tags.
        planar: whether each sample has strips of its own.
        tile: (width, height) of a tile, or of a strip.
        tiled: whether they are tiles.
        order: "<" or ">".
        reversed: whether the lowest bit of a byte comes first.
    """

    width: int
    height: int
    bits: int
    samples: int
    colors: int
    alpha: int | None
    photometric: int
    compression: int
    predictor: int
    planar: bool
    tile: tuple[int, int]
    tiled: bool
    order: str
    reversed: bool

    @property
    def across(self) -> int:
        """Tiles beside each other."""
        return math.ceil(self.width / self.tile[0])

    @property
    def down(self) -> int:
        """Tiles, or strips, below each other."""
        return math.ceil(self.height / self.tile[1])

    @property
    def planes(self) -> int:
        """The number of times that the picture's area is stored."""
        return self.samples if self.planar else 1

    @property
    def row_bytes(self) -> int:
        """Bytes of a tile's row, unpacked."""
        return math.ceil(self.tile[0] * self.bits * (1 if self.planar else self.samples) / 8)

    @property
    def mode(self) -> str:
        """Pillow's mode of the decoded picture."""
        grey = self.photometric in (WHITE_ZERO, BLACK_ZERO)
        return ("L" if grey else "RGB") + ("A" if self.alpha is not None else "")

    @property
    def as_page(self) -> bool:
        """True if Pillow decodes the page whole: the codec knows pixels, or chroma is subsampled."""
        return self.compression == JPEG or self.compression in CCITT


def read_layout(page: Directory) -> Layout:
    """Check a page's tags, and return how its pixels are stored.

    Raises:
        UnsupportedImageError: with the unsupported kind, and the way round.
        UndecodableImageError: if tags are missing or contradict each other.
    """
    width, height = page.value(Tag.WIDTH, 0), page.value(Tag.LENGTH, 0)
    if width <= 0 or height <= 0:
        raise corrupt("it has no width or no height")
    samples = page.value(Tag.SAMPLES, 1)
    photometric, compression = page.value(Tag.PHOTOMETRIC, 0), page.value(Tag.COMPRESSION, 1)
    if photometric in _OTHER_PHOTOMETRICS:
        raise unsupported(_OTHER_PHOTOMETRICS[photometric])
    if photometric not in _SAMPLES:
        raise unsupported(f"pixels of an unknown kind (PhotometricInterpretation {photometric})")
    bits = _check_bits(page, samples)
    if compression in _OTHER_CODECS:
        raise unsupported(_OTHER_CODECS[compression])
    if compression not in _BYTE_CODECS and compression not in (*CCITT, JPEG):
        raise unsupported(f"an unknown compression ({compression})")
    if page.value(Tag.IMAGE_DEPTH, 1) != 1:
        raise unsupported("a volume (ImageDepth)", "save one slice as PNG")
    colors = _SAMPLES[photometric]
    alpha = _check_extra(page, photometric, samples, colors)
    planar = page.value(Tag.PLANAR, 1) == 2 and samples > 1
    _check_color(page, photometric, bits, compression, planar)
    _check_codec(compression, photometric, bits, samples)
    predictor = page.value(Tag.PREDICTOR, 1) if compression in _PREDICTED else 1
    if predictor == 2 and bits not in (8, 16):
        raise unsupported(f"a predictor with {bits}-bit samples")
    if predictor not in (1, 2):
        raise unsupported(f"predictor {predictor} with whole-number samples")
    tile, tiled = _check_tiles(page, width, height)
    reverse = page.value(Tag.FILL_ORDER, 1) == 2
    order = page.order
    return Layout(
        width, height, bits, samples, colors, alpha, photometric, compression, predictor, planar, tile, tiled,
        order, reverse,
    )  # fmt: skip


def _check_bits(page: Directory, samples: int) -> int:
    """Return the bits of every sample, which are unsigned numbers."""
    if not 1 <= samples <= 0xFFFF:
        raise corrupt(f"it has {samples} samples a pixel")
    all_bits = page.values(Tag.BITS) or [1]
    formats = set(page.values(Tag.SAMPLE_FORMAT)[:samples]) or {1}
    bits = all_bits[0]
    for number, name in _FORMATS.items():
        if number in formats:
            raise unsupported(f"{name.format(bits)} pixels", "save it as unsigned 8 or 16 bits, or as PNG")
    if len(set(all_bits[:samples])) > 1:
        raise unsupported(f"samples of different sizes ({', '.join(map(str, all_bits[: min(samples, 6)]))} bits)")
    if bits < 1:
        raise corrupt("its samples have 0 bits")
    if bits > 16:
        raise unsupported(f"{bits}-bit whole-number pixels", "save it as 8 or 16 bits, or as PNG")
    return bits


def _check_extra(page: Directory, photometric: int, samples: int, colors: int) -> int | None:
    """Return the place of the alpha that the caller must lay over black."""
    if samples < colors:
        if photometric == YCBCR and samples == 1:
            raise unsupported("YCbCr pixels of one sample")
        raise corrupt(f"{_NAMES.get(photometric, 'grey')} needs {colors} samples a pixel, it has {samples}")
    kinds = page.values(Tag.EXTRA_SAMPLES)[: samples - colors]
    if not kinds and (photometric, samples) == (RGB, 4):
        kinds = [_UNASSOCIATED]  # many programs leave the tag out
    kinds += [0] * (samples - colors - len(kinds))
    unknown = [kind for kind in kinds if kind not in (_ASSOCIATED, _UNASSOCIATED, _COREL)]
    if len(unknown) > (1 if colors == 1 else _MAX_EXTRA) or len(kinds) > _MAX_EXTRA:
        raise unsupported(f"{samples} channels, {len(unknown)} of them without a meaning", "save the colours alone")
    alphas = [i for i, kind in enumerate(kinds) if kind in (_ASSOCIATED, _UNASSOCIATED, _COREL)]
    if not alphas or kinds[alphas[0]] == _ASSOCIATED:
        return None
    return colors + alphas[0]


def _check_color(page: Directory, photometric: int, bits: int, compression: int, planar: bool) -> None:
    """Refuse colours that have no fixed meaning here."""
    name = _NAMES.get(photometric, "grey")
    if photometric in (YCBCR, CIELAB, ICCLAB) and bits != 8:
        raise unsupported(f"{name} pixels of {bits} bits a sample")
    if photometric == CMYK and page.value(Tag.INK_SET, 1) != 1:
        raise unsupported("inks other than CMYK", "save it as RGB")
    if photometric == PALETTE and page.tags.get(Tag.COLOR_MAP, np.empty(0)).size < 3 << bits:
        raise corrupt("its palette is too short")
    if photometric != YCBCR or compression == JPEG:
        return
    if page.values(Tag.YCBCR_SUBSAMPLING)[:2] != [1, 1]:
        raise unsupported("YCbCr pixels with subsampled chroma and no JPEG compression", "save it as RGB")
    for tag, default in (
        (Tag.YCBCR_COEFFICIENTS, _DEFAULT_COEFFICIENTS),
        (Tag.REFERENCE_BLACK_WHITE, _DEFAULT_REFERENCE),
    ):
        found = page.tags.get(tag)
        if found is not None and not (
            found.size == len(default) and np.allclose(found.astype(float), default, atol=1e-3)
        ):
            raise unsupported("YCbCr pixels of other coefficients than JPEG's", "save it as RGB")


def _check_codec(compression: int, photometric: int, bits: int, samples: int) -> None:
    """Refuse codecs with pixels that they do not hold."""
    if compression in CCITT and (bits != 1 or samples != 1 or photometric not in (WHITE_ZERO, BLACK_ZERO)):
        raise corrupt("CCITT compression holds only black and white")
    if compression != JPEG:
        return
    if bits != 8:
        raise unsupported(f"JPEG compression of {bits}-bit samples")
    if samples != _SAMPLES[photometric]:
        raise unsupported("JPEG compression with extra samples")
    if photometric in (PALETTE, CIELAB, ICCLAB):
        raise unsupported(f"JPEG compression of {_NAMES[photometric]} pixels")


def _check_tiles(page: Directory, width: int, height: int) -> tuple[tuple[int, int], bool]:
    """Return the size of a tile, or of a strip, and whether it is a tile."""
    if Tag.TILE_WIDTH not in page.tags:
        rows = page.value(Tag.ROWS_PER_STRIP, height)
        return (width, min(rows, height) if rows > 0 else height), False
    tile = page.value(Tag.TILE_WIDTH, 0), page.value(Tag.TILE_LENGTH, 0)
    if min(tile) <= 0:
        raise corrupt("its tiles have no size")
    if math.prod(tile) > max(width * height, _MIN_TILE_PIXELS):
        raise ImageTooLargeError(
            f"expected tiles no larger than the image. Received: tiles of {math.prod(tile)} pixels"
        )
    return tile, True


def unsupported(what: str, way_round: str = _WAY_ROUND) -> UnsupportedImageError:
    """Return the error that names a kind of TIFF that is not read."""
    return UnsupportedImageError(f"expected a kind of TIFF that is read. Received: a TIFF of {what}; {way_round}")


def corrupt(why: str) -> UndecodableImageError:
    """Return the error of a file whose contents contradict each other."""
    return UndecodableImageError(f"the TIFF image cannot be decoded: it is corrupt ({why})")
