"""Reads one-frame DICOM images as a Pillow format; needs pydicom, the extra `dicom`.

Only attributes that make pixels are read, see `elements.py`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from contract.errors import UndecodableImageError, UnsupportedImageError
from contract.images.depth import scaling_table
from contract.images.dicom.elements import ElementFile, read_dataset, read_syntax
from contract.images.dicom.frame import check_frame
from contract.images.image_file import Opened, check_extra, load_pixels

FORMAT = "DICOM"
PREAMBLE_BYTES, PREFIX = 128, b"DICM"

# Transfer syntaxes that pydicom decodes with NumPy and Pillow.
_CODINGS = {
    "1.2.840.10008.1.2": "raw",
    "1.2.840.10008.1.2.1": "raw",
    "1.2.840.10008.1.2.2": "raw",
    "1.2.840.10008.1.2.5": "RLE",
    "1.2.840.10008.1.2.4.50": "JPEG",
    "1.2.840.10008.1.2.4.90": "JPEG 2000",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
}
_COLORS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_GREYS = ("MONOCHROME1", "MONOCHROME2")
_WAY_ROUND = "convert it to PNG or to an uncompressed DICOM file first (for example with dcmtk's dcmdjpeg or dcm2img)"


class DicomImageFile(ImageFile.ImageFile):
    """A DICOM file as a Pillow image of mode "L" or "RGB", 8 bits a channel.

    Grey values pass through the modality transformation (rescale slope and intercept, or its table), then the first
    window or VOI table. Without one, the whole range of BitsStored is scaled to 0-255. MONOCHROME1 is inverted.
    Source: DICOM PS3.3, C.7.6.3, C.11.1 and C.11.2.

    Raises:
        UnsupportedImageError: if the file is of a kind that is not read; the message names it.
        UndecodableImageError: if the file is damaged.
    """

    format = FORMAT
    format_description = "Digital Imaging and Communications in Medicine"
    coding: str  # "raw", "RLE", "JPEG" or "JPEG 2000"

    def _open(self) -> None:
        syntax = read_syntax(self.fp)
        _check_syntax(syntax)
        self.coding = _CODINGS[syntax]
        self._dataset = read_dataset(self.fp)
        _check_supported(self._dataset)
        self._size = (int(self._dataset.Columns), int(self._dataset.Rows))
        self._mode = "L" if self._dataset.PhotometricInterpretation in _GREYS else "RGB"
        self.tile = []

    def load(self) -> Any:
        """Decode the pixels, once."""
        if self._dataset is not None:
            dataset, self._dataset = self._dataset, None
            pixels = _to_grey(dataset) if self._mode == "L" else _to_rgb(dataset)
            self.im = Image.fromarray(pixels).im
        return super().load()


def is_dicom(data: bytes) -> bool:
    """Return whether a file's first bytes are those of a DICOM file (PS3.10)."""
    return data[PREAMBLE_BYTES : PREAMBLE_BYTES + len(PREFIX)] == PREFIX


def open_dicom(data: bytes) -> Opened:
    """Read a DICOM file's header.

    Raises:
        UnsupportedImageError: if pydicom is not installed, or the file is of a kind that is not read.
        UndecodableImageError: if the file is damaged.
    """
    check_extra("dicom", "pydicom", "a DICOM file", "for example with dcmtk's dcm2img")
    try:
        image = DicomImageFile(ElementFile(data))
    except (SyntaxError, OSError, ValueError) as err:
        raise UndecodableImageError("the DICOM image cannot be decoded: its header is corrupt") from err

    return Opened(FORMAT, image, 1, lambda: 1, partial(load_pixels, image))


def _check_syntax(syntax: Any) -> None:
    if syntax not in _CODINGS:
        _refuse(
            "a transfer syntax of uncompressed, RLE, baseline JPEG or JPEG 2000 data", f"{syntax.name} ({syntax!s})"
        )


def _check_supported(dataset: Any) -> None:
    """Refuse unsupported kinds by name.

    Raises:
        UnsupportedImageError: naming it.
        UndecodableImageError: if a needed attribute is missing.
    """
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        _refuse("whole-number pixels", "floating-point pixels")
    if "PixelData" not in dataset:
        _refuse("pixels", "a DICOM object without pixels, such as a report or a plan", way_round="")
    needed = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PhotometricInterpretation", "PixelRepresentation")
    missing = [name for name in needed if dataset.get(name) in (None, "")]
    if missing:
        raise UndecodableImageError(f"the DICOM image cannot be decoded: it has no {', '.join(missing)}")
    num_frames = int(dataset.get("NumberOfFrames") or 1)
    if num_frames != 1:
        _refuse("one frame", f"{num_frames} frames; write the frame to classify to a file of its own", way_round="")
    photometric, samples = dataset.PhotometricInterpretation, int(dataset.get("SamplesPerPixel") or 1)
    if photometric not in (*_GREYS, *_COLORS, "PALETTE COLOR"):
        _refuse("photometric interpretation MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB or YBR", photometric)
    has_tables = "RedPaletteColorLookupTableData" in dataset
    if photometric == "PALETTE COLOR" and not has_tables and "SegmentedRedPaletteColorLookupTableData" in dataset:
        _refuse("a palette in whole tables", "a palette in segments")
    if samples != (3 if photometric in _COLORS else 1):
        raise UndecodableImageError(f"the DICOM image cannot be decoded: {photometric} of {samples} samples a pixel")
    allocated, stored = dataset.BitsAllocated, dataset.BitsStored
    if allocated not in (8, 16) or (photometric.startswith("YBR") and allocated != 8):
        _refuse("8 or 16 bits allocated a sample (8 for YBR)", f"{allocated}, {photometric}")
    if not 1 <= stored <= allocated or int(dataset.get("HighBit", stored - 1)) != stored - 1:
        _refuse("a high bit of bits stored - 1", f"{stored} bits stored, high bit {dataset.get('HighBit')}")


def _refuse(expected: str, received: object, way_round: str = f"; {_WAY_ROUND}") -> NoReturn:
    raise UnsupportedImageError(f"expected {expected} in a DICOM file. Received: {received}{way_round}")


def _decode(dataset: Any) -> NDArray[Any]:
    """Return the one frame as stored: shape (rows, columns) or (rows, columns, 3), as RGB."""
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    if _CODINGS[syntax] != "raw":
        check_frame(dataset, _CODINGS[syntax])
    pixels: NDArray[Any] = get_decoder(syntax).as_array(dataset)[0]
    return pixels


def _to_grey(dataset: Any) -> NDArray[np.uint8]:
    stored, signed = dataset.BitsStored, dataset.PixelRepresentation == 1
    # Bits above BitsStored may hold overlays.
    indices = _decode(dataset).astype(np.uint16, copy=False) & np.uint16((1 << stored) - 1)
    grey: NDArray[np.uint8] = _grey_table(dataset, stored, signed=signed)[indices]
    return grey


def _grey_table(dataset: Any, stored: int, *, signed: bool) -> NDArray[np.uint8]:
    """Return the displayed value, 0-255, of every bit pattern of a stored value; shape (2 ** stored,)."""
    from pydicom.pixels.processing import apply_modality_lut

    values = np.arange(1 << stored, dtype=np.int32)
    if signed:
        values = np.where(values >= 1 << (stored - 1), values - (1 << stored), values)
    modality = np.asarray(apply_modality_lut(values, dataset), dtype=np.float64)
    shown = _apply_voi(modality, dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    return np.rint(255 * np.clip(shown, 0, 1)).astype(np.uint8)


def _apply_voi(values: NDArray[np.float64], dataset: Any) -> NDArray[np.float64]:
    """Return values in [0, 1]: by the first VOI table or window, or over the whole range where there is none."""
    from pydicom import Dataset
    from pydicom.pixels.processing import apply_voi, apply_windowing

    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        table = np.asarray(apply_voi(values.astype(np.int32), dataset), dtype=np.float64)
        shown: NDArray[np.float64] = table / ((1 << bits) - 1)
        return shown
    if dataset.get("WindowWidth") is None or dataset.get("WindowCenter") is None:
        low, high = values.min(), values.max()
        whole: NDArray[np.float64] = (values - low) / max(high - low, np.finfo(np.float64).tiny)
        return whole
    window = Dataset()
    # Of an unsigned 8-bit image without rescale, pydicom's result is in 0-255.
    window.PhotometricInterpretation, window.BitsStored, window.PixelRepresentation = "MONOCHROME2", 8, 0
    for name in ("WindowCenter", "WindowWidth", "VOILUTFunction"):
        if dataset.get(name) is not None:
            setattr(window, name, dataset.get(name))
    windowed: NDArray[np.float64] = np.asarray(apply_windowing(values, window), dtype=np.float64)
    return windowed / 255


def _to_rgb(dataset: Any) -> NDArray[np.uint8]:
    pixels = _decode(dataset)
    bits = dataset.BitsStored
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        pixels = apply_color_lut(pixels, dataset)[..., :3]
        bits = 8 * pixels.dtype.itemsize
    if bits == 8 and pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    scaled: NDArray[np.uint8] = scaling_table(bits)[pixels & pixels.dtype.type((1 << bits) - 1)]
    return scaled
