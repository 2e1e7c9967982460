"""The kinds of TIFF: what is read and how, what is refused and with which words.

`AXES` spans them, `refusal` tells which are refused, `expected_pixels` computes the rest from samples that tifffile has
read. `READ` and `REFUSED` are the same as tables for people.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tests.contract.images.tiff_files import COMPRESSIONS, EXTRAS, FORMATS, PHOTOMETRICS, TiffCase

AXES: dict[str, Sequence[Any]] = {
    "photometric": list(PHOTOMETRICS),
    "bits": [*range(1, 17), 24, 32, 64],
    "order": ["<", ">"],
    "planar": [False, True],
    "compression": list(COMPRESSIONS),
    "predictor": [1, 2],
    "layout": ["one strip", "strips", "rows", "tiles"],
    "extra": list(EXTRAS),
    "fill_order": [1, 2],
    "big": [False, True],
    "sample_format": list(FORMATS),
}
_WHOLE_BITS = (1, 2, 4, 6, 8, 10, 12, 14, 16)
_PREDICTED = ("LZW", "Deflate", "old Deflate", "LZMA", "zstd")

READ = {
    "grey, black or white is zero": "1 to 16 bits, scaled over the range of BitsPerSample",
    "palette": "1 to 16 bits; colours below 256 throughout are 8-bit colours",
    "RGB": "1 to 16 bits, scaled over the range of BitsPerSample",
    "CMYK": "1 to 16 bits, InkSet 1",
    "YCbCr": "8 bits; subsampled chroma in JPEG compression only",
    "CIELAB, ICC Lab": "8 bits",
    "compression": "none, LZW, Deflate, PackBits, LZMA, Zstandard, JPEG (8 bits), CCITT group 3 and 4",
    "unspecified extra samples": "left out; one beside grey, up to three beside colours",
    "associated alpha": "left out: the colours are on black already",
    "unassociated alpha": "the picture is laid over black",
    "several pages": "the first page that is no thumbnail and no mask, SubIFDs included",
}
REFUSED = {
    "floating-point samples": "-bit floating-point pixels",
    "signed samples": "signed .*-bit pixels",
    "more than 16 bits": "-bit whole-number pixels",
    "YCbCr or Lab of other than 8 bits": "pixels of .* bits a sample",
    "a predictor with samples of other than 8 or 16 bits": "a predictor with .*-bit samples",
    "JPEG 2000, JPEG XL, WebP, LERC, JBIG and other compressions": "compression",
    "camera raw": "camera raw data",
    "subsampled chroma without JPEG": "subsampled chroma",
    "samples of different sizes": "samples of different sizes",
    "many channels": "channels, .* without a meaning",
    "inks": "inks other than CMYK",
    "masks": "a transparency mask",
}


def refusal(case: TiffCase) -> str | None:
    """Return a pattern of the words with which a kind is refused; None if it is read."""
    if case.sample_format != "unsigned":
        return REFUSED["signed samples" if case.sample_format == "signed" else "floating-point samples"]
    if case.bits > 16:
        return REFUSED["more than 16 bits"]
    if case.photometric in ("YCbCr", "CIELAB", "ICC Lab") and case.bits != 8:
        return REFUSED["YCbCr or Lab of other than 8 bits"]
    if case.predictor == 2 and case.compression in _PREDICTED and case.bits not in (8, 16):
        return REFUSED["a predictor with samples of other than 8 or 16 bits"]
    return None


def is_file(case: TiffCase) -> bool:
    """Return whether a file of this kind can be written: floats have 16, 32 or 64 bits, a predictor its codec."""
    if case.sample_format == "float" and case.bits not in (16, 32, 64):
        return False
    if case.predictor == 2 and (case.compression not in _PREDICTED or case.sample_format == "float"):
        return False
    return not (case.photometric == "palette" and case.bits > 16)


def whole_matrix() -> Iterator[TiffCase]:
    """Give every kind of unsigned samples; fill order and BigTIFF take turns."""
    names = ("photometric", "order", "planar", "compression", "predictor", "layout", "extra")
    for i, values in enumerate(itertools.product(_WHOLE_BITS, *(AXES[name] for name in names))):
        case = TiffCase(
            bits=values[0], **dict(zip(names, values[1:], strict=True)), fill_order=1 + i % 2, big=i % 3 == 0
        )
        if is_file(case):
            yield case


def pairwise_matrix(*, read: bool) -> Iterator[TiffCase]:
    """Give kinds among which every pair of values of two axes occurs, if a file can have both; greedy.

    Args:
        read: leave out the kinds that are refused, which would hide what else is in a pair.
    """
    names = list(AXES)
    pairs = {frozenset([(a, x), (b, y)]) for a, b in itertools.combinations(names, 2) for x in AXES[a] for y in AXES[b]}
    rng = np.random.default_rng(15)
    while pairs:
        seed = dict(min(pairs, key=lambda pair: sorted(map(str, pair))))
        best: TiffCase | None = None
        covered: set[frozenset[tuple[str, Any]]] = set()
        for _ in range(40):
            chosen = {name: AXES[name][int(rng.integers(len(AXES[name])))] for name in names} | seed
            candidate = TiffCase(**chosen)
            if not is_file(candidate) or (read and refusal(candidate)):
                continue
            new = {frozenset(pair) for pair in itertools.combinations(chosen.items(), 2)} & pairs
            if len(new) > len(covered):
                best, covered = candidate, new
        if best is None:
            pairs.discard(frozenset(seed.items()))
            continue
        pairs -= covered
        yield best


def read_samples(data: bytes) -> NDArray[Any]:
    """Return the first page's samples by tifffile, shape (height, width, samples)."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        values = np.asarray(page.asarray())
        if values.ndim == 2:
            return values[:, :, None]
        return np.moveaxis(values, 0, 2) if page.planarconfig == 2 else values


def expected_pixels(case: TiffCase, samples: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the RGB pixels of unsigned samples, on black."""
    highest = (1 << case.bits) - 1
    scaled = np.floor(samples.astype(np.float64) * 255 / highest + 0.5).astype(np.uint8)
    number = PHOTOMETRICS[case.photometric]
    if number in (0, 1):
        rgb = np.repeat(255 - scaled[:, :, :1] if number == 0 else scaled[:, :, :1], 3, axis=2)
    elif number == 3:
        rgb = (case.palette().T[samples[:, :, 0].astype(int)] // 256).astype(np.uint8)
    elif number == 2:
        rgb = scaled[:, :, :3]
    else:
        mode, colors = {5: ("CMYK", 4), 6: ("YCbCr", 3), 8: ("LAB", 3), 9: ("LAB", 3)}[number]
        values = scaled[:, :, :colors].copy()
        if number == 9:
            values[:, :, 1:] ^= 128
        image = Image.frombytes(mode, values.shape[1::-1], values.tobytes())
        rgb = np.asarray(image.convert("RGB"))
    if case.extra == "unassociated":
        alpha = Image.fromarray(scaled[:, :, -1])
        image = Image.fromarray(rgb)
        image.putalpha(alpha)
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        rgb = np.asarray(Image.alpha_composite(black, image).convert("RGB"))
    return np.ascontiguousarray(rgb)
