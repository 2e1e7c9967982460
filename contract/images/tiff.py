"""Reads TIFF by decoder version 2: each kind of pixel exactly, or refused by its name.

- The page is the first that does not call itself a reduced image or a mask (NewSubfileType, SubfileType), SubIFDs
  included. Orientation is the page's own, or else the first page's.
- Samples are unsigned and of 1 to 16 bits: grey (either end white), palette, RGB, CMYK, YCbCr, CIELAB; chunky or
  planar, in strips or tiles, either byte order and fill order, TIFF and BigTIFF.
- Samples scale to 8 bits over the range of BitsPerSample. MaxSampleValue is a statistic and is not used: 12-bit data
  in 16-bit samples cannot be told from a dark picture and stay dark.
- A predictor counts where libtiff heeds it: LZW, Deflate, Zstandard, LZMA.
- Associated alpha is a picture on black already and is dropped; unassociated alpha is kept for the caller to lay over
  black; unspecified extra samples are dropped.
- A palette of values below 256 holds 8-bit colours, as libtiff reads it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from contract.errors import ImageError, ImageTooLargeError, UndecodableImageError, UnsupportedImageError
from contract.images import tiff_codec
from contract.images.depth import scale_to_8, scaling_table
from contract.images.tiff_directory import Directory, Tag, TiffFile

NONE, CCITT, JPEG, PACKBITS = 1, (2, 3, 4), 7, 32773
_BYTE_CODECS = {NONE: "none", 5: "LZW", 8: "Deflate", 32946: "Deflate", PACKBITS: "PackBits", 34925: "LZMA", 50000: "zstd"}
_PREDICTED = (5, 8, 32946, 34925, 50000)
_OTHER_CODECS = {
    6: "old-style JPEG compression", 9: "JBIG compression", 10: "JBIG compression", 32766: "NeXT compression",
    32771: "CCITT RLE compression with word alignment", 32809: "ThunderScan compression", 32908: "PixarFilm compression",
    32909: "PixarLog compression", 33003: "JPEG 2000 compression", 33004: "JPEG 2000 compression",
    33005: "JPEG 2000 compression", 33007: "JPEG compression of an unknown kind", 34661: "JBIG compression",
    34676: "SGI LogLuv compression", 34677: "SGI LogLuv compression", 34712: "JPEG 2000 compression",
    34887: "LERC compression", 34892: "lossy JPEG compression of raw data", 34933: "PNG compression",
    34934: "JPEG XR compression", 50001: "WebP compression", 50002: "JPEG XL compression", 52546: "JPEG XL compression",
}  # fmt: skip
_WHITE_ZERO, _BLACK_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _CIELAB, _ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
_SAMPLES = {_WHITE_ZERO: 1, _BLACK_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _CIELAB: 3, _ICCLAB: 3}
_NAMES = {_RGB: "RGB", _PALETTE: "palette", _CMYK: "CMYK", _YCBCR: "YCbCr", _CIELAB: "CIELAB", _ICCLAB: "ICC Lab"}
_CONVERTED = {_CMYK: "CMYK", _YCBCR: "YCbCr"}  # by Pillow
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
_BATCH_BYTES = 1 << 20  # unpacked at a time, unless one strip is larger
_BAND_BYTES = 1 << 18  # converted at a time
_MIN_TILE_PIXELS = 1 << 20  # a tile may be larger than the image, but not by any amount
_MAX_COPIES = 8  # how often each byte of a file may be unpacked
_SPARE_BYTES = 1 << 20
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_READ = (0xC0, 0xC1, 0xC2)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a page's pixels are stored, checked: only what is read has a layout.

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
        """How often the picture's area is stored."""
        return self.samples if self.planar else 1

    @property
    def row_bytes(self) -> int:
        """Bytes of a tile's row, unpacked."""
        return math.ceil(self.tile[0] * self.bits * (1 if self.planar else self.samples) / 8)

    @property
    def mode(self) -> str:
        """Pillow's mode of the decoded picture."""
        grey = self.photometric in (_WHITE_ZERO, _BLACK_ZERO)
        return ("L" if grey else "RGB") + ("A" if self.alpha is not None else "")

    @property
    def as_page(self) -> bool:
        """Whether Pillow decodes the page whole: the codec knows pixels, or chroma is subsampled."""
        return self.compression == JPEG or self.compression in CCITT


class TiffPage(Image.Image):
    """The picture of a TIFF file: its header has been read and its pixels have not; `load` decodes them.

    Raises:
        ImageError: if the kind of page is not read, or the header is broken.
    """

    format = "TIFF"

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data
        self._file = TiffFile(data)
        self._page, self._turn = self._file.picture()
        self.layout = read_layout(self._page)
        self._size = (self.layout.width, self.layout.height)
        self._mode = self.layout.mode
        self._done = False

    @property
    def n_frames(self) -> int:
        """Pages of the file."""
        return self._file.count_pages()

    @property
    def orientation(self) -> int:
        """EXIF orientation of the pixels, 1 to 8."""
        return self._turn

    def load(self) -> Any:
        """Decode the pixels, once.

        Raises:
            ImageError: if a strip or tile is truncated or corrupt.
        """
        if not self._done:
            self.im = _decode(self._data, self._page, self.layout).im
            self._done = True
            self._data = b""
        return super().load()

    @property
    def memory_bytes(self) -> int:
        """What decoding takes beside the file, at most."""
        layout = self.layout
        num_pixels = layout.width * layout.height
        picture = num_pixels * (1 if layout.mode == "L" else 4)
        if layout.compression == NONE:
            return picture
        strip = layout.row_bytes * layout.tile[1] * layout.planes
        if layout.as_page:
            return picture + strip + len(self._data)
        packed = min(len(self._data), 2 * strip)
        if layout.across * layout.down == 1 and not layout.planar:
            return max(2 * strip + packed, strip + picture)
        return 2 * strip + packed + picture


def read_layout(page: Directory) -> Layout:
    """Check a page's tags, and return how its pixels are stored.

    Raises:
        UnsupportedImageError: with the name of what is not read, and the way round.
        UndecodableImageError: if tags are missing or contradict each other.
    """
    width, height = page.value(Tag.WIDTH, 0), page.value(Tag.LENGTH, 0)
    if width <= 0 or height <= 0:
        raise _corrupt("it has no width or no height")
    samples = page.value(Tag.SAMPLES, 1)
    photometric, compression = page.value(Tag.PHOTOMETRIC, 0), page.value(Tag.COMPRESSION, 1)
    if photometric in _OTHER_PHOTOMETRICS:
        raise _unsupported(_OTHER_PHOTOMETRICS[photometric])
    if photometric not in _SAMPLES:
        raise _unsupported(f"pixels of an unknown kind (PhotometricInterpretation {photometric})")
    bits = _check_bits(page, samples)
    if compression in _OTHER_CODECS:
        raise _unsupported(_OTHER_CODECS[compression])
    if compression not in _BYTE_CODECS and compression not in (*CCITT, JPEG):
        raise _unsupported(f"an unknown compression ({compression})")
    if page.value(Tag.IMAGE_DEPTH, 1) != 1:
        raise _unsupported("a volume (ImageDepth)", "save one slice as PNG")
    colors = _SAMPLES[photometric]
    alpha = _check_extra(page, photometric, samples, colors)
    planar = page.value(Tag.PLANAR, 1) == 2 and samples > 1
    _check_color(page, photometric, bits, compression, planar)
    _check_codec(compression, photometric, bits, samples)
    predictor = page.value(Tag.PREDICTOR, 1) if compression in _PREDICTED else 1
    if predictor == 2 and bits not in (8, 16):
        raise _unsupported(f"a predictor with {bits}-bit samples")
    if predictor not in (1, 2):
        raise _unsupported(f"predictor {predictor} with whole-number samples")
    tile, tiled = _check_tiles(page, width, height)
    reverse = page.value(Tag.FILL_ORDER, 1) == 2
    order = page.order
    return Layout(
        width, height, bits, samples, colors, alpha, photometric, compression, predictor, planar, tile, tiled, order, reverse
    )  # fmt: skip


def _check_bits(page: Directory, samples: int) -> int:
    """Return the bits of every sample, which are unsigned numbers."""
    if not 1 <= samples <= 0xFFFF:
        raise _corrupt(f"it has {samples} samples a pixel")
    all_bits = page.values(Tag.BITS) or [1]
    formats = set(page.values(Tag.SAMPLE_FORMAT)[:samples]) or {1}
    bits = all_bits[0]
    for number, name in _FORMATS.items():
        if number in formats:
            raise _unsupported(f"{name.format(bits)} pixels", "save it as unsigned 8 or 16 bits, or as PNG")
    if len(set(all_bits[:samples])) > 1:
        raise _unsupported(f"samples of different sizes ({', '.join(map(str, all_bits[: min(samples, 6)]))} bits)")
    if bits < 1:
        raise _corrupt("its samples have 0 bits")
    if bits > 16:
        raise _unsupported(f"{bits}-bit whole-number pixels", "save it as 8 or 16 bits, or as PNG")
    return bits


def _check_extra(page: Directory, photometric: int, samples: int, colors: int) -> int | None:
    """Return the place of the alpha that the caller must lay over black."""
    if samples < colors:
        if photometric == _YCBCR and samples == 1:
            raise _unsupported("YCbCr pixels of one sample")
        raise _corrupt(f"{_NAMES.get(photometric, 'grey')} needs {colors} samples a pixel, it has {samples}")
    kinds = page.values(Tag.EXTRA_SAMPLES)[: samples - colors]
    if not kinds and (photometric, samples) == (_RGB, 4):
        kinds = [_UNASSOCIATED]  # many programs leave the tag out
    kinds += [0] * (samples - colors - len(kinds))
    unknown = [kind for kind in kinds if kind not in (_ASSOCIATED, _UNASSOCIATED, _COREL)]
    if len(unknown) > (1 if colors == 1 else _MAX_EXTRA) or len(kinds) > _MAX_EXTRA:
        raise _unsupported(f"{samples} channels, {len(unknown)} of them without a meaning", "save the colours alone")
    alphas = [i for i, kind in enumerate(kinds) if kind in (_ASSOCIATED, _UNASSOCIATED, _COREL)]
    if not alphas or kinds[alphas[0]] == _ASSOCIATED:
        return None
    return colors + alphas[0]


def _check_color(page: Directory, photometric: int, bits: int, compression: int, planar: bool) -> None:
    """Refuse colours that have no fixed meaning here."""
    name = _NAMES.get(photometric, "grey")
    if photometric in (_YCBCR, _CIELAB, _ICCLAB) and bits != 8:
        raise _unsupported(f"{name} pixels of {bits} bits a sample")
    if photometric == _CMYK and page.value(Tag.INK_SET, 1) != 1:
        raise _unsupported("inks other than CMYK", "save it as RGB")
    if photometric == _PALETTE and page.tags.get(Tag.COLOR_MAP, np.empty(0)).size < 3 << bits:
        raise _corrupt("its palette is too short")
    if photometric != _YCBCR or compression == JPEG:
        return
    if page.values(Tag.YCBCR_SUBSAMPLING)[:2] != [1, 1]:
        raise _unsupported("YCbCr pixels with subsampled chroma and no JPEG compression", "save it as RGB")
    for tag, default in ((Tag.YCBCR_COEFFICIENTS, _DEFAULT_COEFFICIENTS), (Tag.REFERENCE_BLACK_WHITE, _DEFAULT_REFERENCE)):
        found = page.tags.get(tag)
        if found is not None and not (found.size == len(default) and np.allclose(found.astype(float), default, atol=1e-3)):
            raise _unsupported("YCbCr pixels of other coefficients than JPEG's", "save it as RGB")


def _check_codec(compression: int, photometric: int, bits: int, samples: int) -> None:
    """Refuse codecs with pixels that they do not hold."""
    if compression in CCITT and (bits != 1 or samples != 1 or photometric not in (_WHITE_ZERO, _BLACK_ZERO)):
        raise _corrupt("CCITT compression holds only black and white")
    if compression != JPEG:
        return
    if bits != 8:
        raise _unsupported(f"JPEG compression of {bits}-bit samples")
    if samples != _SAMPLES[photometric]:
        raise _unsupported("JPEG compression with extra samples")
    if photometric in (_PALETTE, _CIELAB, _ICCLAB):
        raise _unsupported(f"JPEG compression of {_NAMES[photometric]} pixels")


def _check_tiles(page: Directory, width: int, height: int) -> tuple[tuple[int, int], bool]:
    """Return the size of a tile, or of a strip, and whether it is a tile."""
    if Tag.TILE_WIDTH not in page.tags:
        rows = page.value(Tag.ROWS_PER_STRIP, height)
        return (width, min(rows, height) if rows > 0 else height), False
    tile = page.value(Tag.TILE_WIDTH, 0), page.value(Tag.TILE_LENGTH, 0)
    if min(tile) <= 0:
        raise _corrupt("its tiles have no size")
    if math.prod(tile) > max(width * height, _MIN_TILE_PIXELS):
        raise ImageTooLargeError(f"expected tiles no larger than the image. Received: tiles of {math.prod(tile)} pixels")
    return tile, True


def _decode(data: bytes, page: Directory, layout: Layout) -> Image.Image:
    try:
        packed = _Segments(data, page, layout)
        return _decode_page(packed, page) if layout.as_page else _decode_samples(packed, page)
    except ImageError:
        raise
    except OSError as err:
        raise _corrupt("a strip or tile is damaged") from err


class _Segments:
    """The strips or tiles of a page, as they are stored."""

    def __init__(self, data: bytes, page: Directory, layout: Layout) -> None:
        self.layout = layout
        self._data = data
        count = layout.across * layout.down * layout.planes
        self._places = self._numbers(page, Tag.TILE_OFFSETS if layout.tiled else Tag.STRIP_OFFSETS, count)
        sizes = Tag.TILE_BYTES if layout.tiled else Tag.STRIP_BYTES
        if layout.compression == NONE:
            self._sizes = None
        elif sizes in page.tags:
            self._sizes = self._numbers(page, sizes, count)
        elif count == 1:
            self._sizes = np.array([len(data) - int(self._places[0])])
        else:
            raise _corrupt("the sizes of its strips are missing")
        if self._sizes is not None and int(self._sizes[:count].astype(np.float64).sum()) > _limit(len(data), layout):
            raise _corrupt("its strips or tiles overlap")

    def batches(self) -> Iterator[tuple[int, int]]:
        """Give (first, last + 1) of compressed strips or tiles that are unpacked together."""
        assert self._sizes is not None
        strip_bytes = self.layout.row_bytes * self.layout.tile[1] * self.layout.planes
        total = self.layout.across * self.layout.down
        first, num_bytes = 0, 0
        for index in range(total):
            num_bytes += max(strip_bytes, int(self._sizes[index]))
            if num_bytes >= _BATCH_BYTES or index == total - 1:
                yield first, index + 1
                first, num_bytes = index + 1, 0

    @staticmethod
    def _numbers(page: Directory, tag: Tag, count: int) -> NDArray[np.generic]:
        # Some programs write tiles' places into the tags of strips.
        other = {Tag.TILE_OFFSETS: Tag.STRIP_OFFSETS, Tag.TILE_BYTES: Tag.STRIP_BYTES}.get(tag, tag)
        found = page.tags.get(tag, page.tags.get(other, np.empty(0, np.uint32)))
        if found.size < count:
            raise UndecodableImageError(
                f"the TIFF image cannot be decoded: it is truncated ({found.size} of {count} strips or tiles)"
            )
        return found

    def packed(self, index: int) -> bytes:
        """Return a compressed strip or tile."""
        assert self._sizes is not None
        layout = self.layout
        size = int(self._sizes[index])
        place = int(self._places[index])
        if place + size > len(self._data) and place < len(self._data):
            size = len(self._data) - place  # its own end says whether it is whole
        # No codec needs more than twice the bytes; a size may claim anything.
        most = size if layout.as_page else 2 * layout.row_bytes * layout.tile[1] + 4096
        return self._cut(place, min(size, most))

    def rows(self, index: int, first: int, num_rows: int) -> NDArray[np.uint8]:
        """Return rows of a strip or tile that is not compressed."""
        row_bytes = self.layout.row_bytes
        raw = self._cut(int(self._places[index]) + first * row_bytes, num_rows * row_bytes)
        return np.frombuffer(raw, np.uint8).reshape(num_rows, row_bytes)

    def _cut(self, place: int, size: int) -> bytes:
        if place <= 0 or size <= 0 or place + size > len(self._data):
            raise UndecodableImageError("the TIFF image cannot be decoded: it is truncated (a strip or tile has no data)")
        raw = self._data[place : place + size]
        return raw.translate(_REVERSED) if self.layout.reversed and not self.layout.as_page else raw


def _limit(num_bytes: int, layout: Layout) -> int:
    """Return how many bytes strips may have together; some programs let equal tiles share theirs."""
    return num_bytes + _SPARE_BYTES if layout.as_page else _MAX_COPIES * num_bytes + _SPARE_BYTES


def _decode_page(packed: _Segments, page: Directory) -> Image.Image:
    layout = packed.layout
    count = layout.across * layout.down * layout.planes
    strips = [packed.packed(i) for i in range(count)]
    table = page.tags.get(Tag.JPEG_TABLES)
    if layout.compression == JPEG:
        _check_jpeg(strips[0])
    kept = (
        Tag.WIDTH, Tag.LENGTH, Tag.BITS, Tag.COMPRESSION, Tag.PHOTOMETRIC, Tag.SAMPLES, Tag.ROWS_PER_STRIP, Tag.PLANAR,
        Tag.T4_OPTIONS, Tag.T6_OPTIONS, Tag.TILE_WIDTH, Tag.TILE_LENGTH, Tag.YCBCR_SUBSAMPLING,
    )  # fmt: skip
    tags = {int(tag): page.values(tag) for tag in kept}
    tags[Tag.BITS], tags[Tag.PHOTOMETRIC] = [layout.bits] * layout.samples, [layout.photometric]
    if not layout.tiled:
        tags[Tag.ROWS_PER_STRIP] = [layout.tile[1]]
    if layout.reversed and layout.compression != JPEG:
        tags[Tag.FILL_ORDER] = [2]
    image = tiff_codec.decode_page(strips, tags, b"" if table is None else table.tobytes())
    return image if image.mode == layout.mode else image.convert(layout.mode)


def _check_jpeg(strip: bytes) -> None:
    """Refuse JPEG's rare processes by name; the frame comes before the first scan."""
    place = 2
    while place + 5 < len(strip) and strip[place] == 0xFF:
        marker = strip[place + 1]
        if marker in _JPEG_FRAMES:
            if marker not in _JPEG_READ:
                raise _unsupported("JPEG compression that is lossless or arithmetic")
            if strip[place + 4] != 8:
                raise _unsupported(f"JPEG compression of {strip[place + 4]}-bit samples")
            return
        place += 2 + int.from_bytes(strip[place + 2 : place + 4], "big")


def _decode_samples(packed: _Segments, page: Directory) -> Image.Image:
    layout = packed.layout
    palette = _read_palette(page, layout)
    picture: Image.Image | None = None
    for left, top, planes in _blocks(packed):
        if picture is None:  # after the first strip is unpacked: it may be large, and the codec's own copy is gone
            picture = Image.new(layout.mode, (layout.width, layout.height))
        width, height = min(layout.tile[0], layout.width - left), min(planes[0].shape[0], layout.height - top)
        step = max(1, _BAND_BYTES // (layout.row_bytes * layout.planes))
        for first in range(0, height, step):
            last = min(first + step, height)
            samples = _samples([plane[first:last] for plane in planes], layout)[:, :width]
            picture.paste(_to_image(samples, layout, palette), (left, top + first))
    assert picture is not None
    return picture


def _blocks(packed: _Segments) -> Iterator[tuple[int, int, list[NDArray[np.uint8]]]]:
    """Give (left, top, unpacked rows of each plane) of blocks that cover the picture."""
    layout = packed.layout
    plane_size = layout.across * layout.down
    tile_rows = layout.tile[1]
    block_bytes = layout.row_bytes * layout.planes
    if layout.compression == NONE:
        step = max(1, min(tile_rows, _BATCH_BYTES // block_bytes))
        for index in range(plane_size):
            left, top = index % layout.across * layout.tile[0], index // layout.across * tile_rows
            for first in range(0, min(tile_rows, layout.height - top), step):
                num_rows = min(step, tile_rows - first, layout.height - top - first)
                planes = [packed.rows(index + k * plane_size, first, num_rows) for k in range(layout.planes)]
                yield left, top + first, planes
        return
    for index, last in packed.batches():
        num_rows = (last - index) * tile_rows
        if not layout.tiled:
            num_rows = min(num_rows, layout.height - index * tile_rows)
        planes = []
        for k in range(layout.planes):
            strips = [packed.packed(i + k * plane_size) for i in range(index, last)]
            planes.append(tiff_codec.unpack(strips, layout.compression, layout.row_bytes, tile_rows, num_rows))
        if not layout.tiled:
            yield 0, index * tile_rows, planes
            continue
        for i in range(index, last):
            part = slice((i - index) * tile_rows, (i - index + 1) * tile_rows)
            yield i % layout.across * layout.tile[0], i // layout.across * tile_rows, [plane[part] for plane in planes]


def _samples(planes: list[NDArray[np.uint8]], layout: Layout) -> NDArray[Any]:
    """Return unpacked rows as numbers, shape (rows, tile width, samples)."""
    width = layout.tile[0]
    depth = 1 if layout.planar else layout.samples
    numbers = [_numbers(plane, width * depth, layout).reshape(-1, width, depth) for plane in planes]
    if layout.predictor == 2:
        numbers = [np.cumsum(values, axis=1, dtype=values.dtype) for values in numbers]
    return numbers[0] if len(numbers) == 1 else np.concatenate(numbers, axis=2)


def _numbers(rows: NDArray[np.uint8], count: int, layout: Layout) -> NDArray[Any]:
    """Return the samples of rows of bytes; other bits than 8 and 16 lie behind each other, the highest first."""
    bits = layout.bits
    if bits == 8:
        return rows
    if bits == 16:
        return np.ascontiguousarray(rows).view(layout.order + "u2").astype(np.uint16)
    single = np.unpackbits(rows, axis=1, count=count * bits).reshape(-1, bits)
    if bits == 1:
        return single
    room = 8 if bits < 8 else 16
    padded = np.zeros((single.shape[0], room), np.uint8)
    padded[:, room - bits :] = single
    return np.packbits(padded, axis=1).view(">u2" if room == 16 else "u1").astype(np.uint16)


def _read_palette(page: Directory, layout: Layout) -> NDArray[np.uint8] | None:
    """Return the palette's 8-bit colours, shape (entries, 3)."""
    if layout.photometric != _PALETTE:
        return None
    size = 1 << layout.bits
    colors = page.tags[Tag.COLOR_MAP][: 3 * size].astype(np.uint16).reshape(3, size).T
    return np.ascontiguousarray(colors if colors.max() <= 0xFF else colors >> 8).astype(np.uint8)


def _to_image(samples: NDArray[Any], layout: Layout, palette: NDArray[np.uint8] | None) -> Image.Image:
    """Return rows of samples as an image of the layout's mode."""
    colors = samples[:, :, : layout.colors]
    if palette is not None:
        pixels = palette[colors[:, :, 0]]
    elif layout.photometric == _WHITE_ZERO:
        pixels = 255 - scale_to_8(colors, layout.bits)
    else:
        pixels = colors if layout.bits == 8 else scaling_table(layout.bits)[colors]
    if layout.photometric == _ICCLAB:  # Pillow takes a and b as signed bytes; here they have an offset of 128
        pixels = pixels ^ np.array([0, 128, 128], np.uint8)
    if layout.photometric in (_CIELAB, _ICCLAB):
        image = _lab_to_rgb().apply(_image(pixels, "LAB"))
    elif layout.photometric in _CONVERTED:
        image = _image(pixels, _CONVERTED[layout.photometric]).convert("RGB")
    else:
        image = _image(pixels, layout.mode.removesuffix("A"))
    if layout.alpha is not None:
        image.putalpha(_image(scale_to_8(samples[:, :, layout.alpha, None], layout.bits), "L"))
    return image


@functools.cache
def _lab_to_rgb() -> ImageCms.ImageCmsTransform:
    """Return the transform that Pillow's convert makes anew each time."""
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def _image(pixels: NDArray[np.uint8], mode: str) -> Image.Image:
    return Image.frombytes(mode, (pixels.shape[1], pixels.shape[0]), np.ascontiguousarray(pixels).tobytes())


def _unsupported(what: str, way_round: str = _WAY_ROUND) -> UnsupportedImageError:
    return UnsupportedImageError(f"expected a kind of TIFF that is read. Received: a TIFF of {what}; {way_round}")


def _corrupt(why: str) -> UndecodableImageError:
    return UndecodableImageError(f"the TIFF image cannot be decoded: it is corrupt ({why})")
