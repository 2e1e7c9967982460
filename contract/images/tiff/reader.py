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
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from contract.errors import ImageError, UndecodableImageError
from contract.images.depth import scale_to_8, scaling_table
from contract.images.tiff import codec as tiff_codec
from contract.images.tiff.directory import Directory, Tag, TiffFile
from contract.images.tiff.layout import (
    CIELAB,
    CMYK,
    ICCLAB,
    JPEG,
    NONE,
    PALETTE,
    WHITE_ZERO,
    YCBCR,
    Layout,
    corrupt,
    read_layout,
    unsupported,
)

_CONVERTED = {CMYK: "CMYK", YCBCR: "YCbCr"}  # by Pillow
_BATCH_BYTES = 1 << 20  # unpacked at a time, unless one strip is larger
_BAND_BYTES = 1 << 18  # converted at a time
_MAX_COPIES = 8  # how often each byte of a file may be unpacked
_SPARE_BYTES = 1 << 20
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_READ = (0xC0, 0xC1, 0xC2)


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
        """Upper bound of the memory that decoding takes beside the file."""
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


def _decode(data: bytes, page: Directory, layout: Layout) -> Image.Image:
    try:
        packed = _Segments(data, page, layout)
        return _decode_page(packed, page) if layout.as_page else _decode_samples(packed, page)
    except ImageError:
        raise
    except OSError as err:
        raise corrupt("a strip or tile is damaged") from err


class _Segments:
    """The strips or tiles of a page, as they are stored."""

    def __init__(self, data: bytes, page: Directory, layout: Layout) -> None:
        self.layout = layout
        self._data = data
        count = layout.across * layout.down * layout.planes
        self._places = self._numbers(page, Tag.TILE_OFFSETS if layout.tiled else Tag.STRIP_OFFSETS, count)
        sizes = Tag.TILE_BYTES if layout.tiled else Tag.STRIP_BYTES
        self._sizes: NDArray[np.generic] = np.empty(0, np.uint32)  # of what is not compressed, rows tell
        if layout.compression == NONE:
            pass
        elif sizes in page.tags:
            self._sizes = self._numbers(page, sizes, count)
        elif count == 1:
            self._sizes = np.array([len(data) - int(self._places[0])])
        else:
            raise corrupt("the sizes of its strips are missing")
        if int(self._sizes[:count].astype(np.float64).sum()) > _limit(len(data), layout):
            raise corrupt("its strips or tiles overlap")

    def batches(self) -> Iterator[tuple[int, int]]:
        """Give (first, last + 1) of compressed strips or tiles that are unpacked together."""
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
            raise UndecodableImageError(
                "the TIFF image cannot be decoded: it is truncated (a strip or tile has no data)"
            )
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
                raise unsupported("JPEG compression that is lossless or arithmetic")
            if strip[place + 4] != 8:
                raise unsupported(f"JPEG compression of {strip[place + 4]}-bit samples")
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
    return picture or Image.new(layout.mode, (layout.width, layout.height))


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
    if layout.photometric != PALETTE:
        return None
    size = 1 << layout.bits
    colors = page.tags[Tag.COLOR_MAP][: 3 * size].astype(np.uint16).reshape(3, size).T
    return np.ascontiguousarray(colors if colors.max() <= 0xFF else colors >> 8).astype(np.uint8)


def _to_image(samples: NDArray[Any], layout: Layout, palette: NDArray[np.uint8] | None) -> Image.Image:
    """Return rows of samples as an image of the layout's mode."""
    colors = samples[:, :, : layout.colors]
    if palette is not None:
        pixels = palette[colors[:, :, 0]]
    elif layout.photometric == WHITE_ZERO:
        pixels = 255 - scale_to_8(colors, layout.bits)
    else:
        pixels = colors if layout.bits == 8 else scaling_table(layout.bits)[colors]
    if layout.photometric == ICCLAB:  # Pillow takes a and b as signed bytes; here they have an offset of 128
        pixels = pixels ^ np.array([0, 128, 128], np.uint8)
    if layout.photometric in (CIELAB, ICCLAB):
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
