"""Reads the elements of a DICOM file that make pixels; pydicom, the extra `dicom`, parses them.

Names, dates and identifiers of patients are skipped by the parser. Work and memory are bounded: pydicom reads each
element by itself, builds an object for each item of a sequence, and turns a value into a list of all its numbers.
"""

from __future__ import annotations

import functools
import logging
import warnings
from typing import Any

from contract.errors import UndecodableImageError
from contract.images.image_file import ImageFile

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_SEQUENCES = ("ModalityLUTSequence", "VOILUTSequence")
_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_VALUES = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
)  # fmt: skip
_TABLES = ("RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData")
_SEGMENTED_TABLES = (
    "SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
)  # fmt: skip
_PIXEL_TAGS: list[Any] = [*_VALUES, *_TABLES, *_SEGMENTED_TABLES, *_SEQUENCES, *_FUNCTIONAL_GROUPS, *_PIXELS]
_MAX_VALUE_BYTES = 4096
_MAX_TABLE_BYTES = 2 << 16  # 65,536 entries of 16 bits
_MOST_BYTES = dict.fromkeys((*_VALUES, "LUTDescriptor"), _MAX_VALUE_BYTES)
_MOST_BYTES |= dict.fromkeys((*_TABLES, "LUTData"), _MAX_TABLE_BYTES)
_PIXEL_TYPES = (None, "OB", "OW", "OB or OW", "UN")  # pydicom keeps their values as bytes
_META_GROUP = 2
_CHARACTER_SET = (b"\x08\0\x05\0", b"\0\x08\0\x05")  # the tag, in either byte order
_HEAD_BYTES = 8  # of an element: tag, type and length
_MAX_READS = 16_384  # an element takes up to three
_BYTES_A_READ = 2048  # of the file, at least, on average, beyond those
_CORRUPT = "the DICOM image cannot be decoded: its header is corrupt"


class ElementFile(ImageFile):
    """A DICOM file's bytes, or those of a sequence, which can be read only so often.

    Raises:
        UndecodableImageError: from `read`.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data, _MAX_READS + len(data) // _BYTES_A_READ)
        self._at_character_set = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes; no more than a value's of a character set, which pydicom splits at once."""
        if self._at_character_set and (size is None or not 0 <= size <= _MAX_VALUE_BYTES):
            raise UndecodableImageError(_CORRUPT)
        data = super().read(size)
        if size == _HEAD_BYTES:
            self._at_character_set = data[:4] in _CHARACTER_SET
        return data


def read_syntax(file: Any) -> Any:
    """Return the transfer syntax that a DICOM file's head names, of pydicom's type UID.

    It is checked before the file is read: pydicom inflates a deflated one while it reads it, whatever the size.

    Args:
        file: at its start, where it is left.

    Raises:
        UndecodableImageError: if the head is damaged.
    """
    from pydicom import filereader
    from pydicom.uid import UID

    _silence()
    try:
        filereader.read_preamble(file, force=False)
        meta = filereader.read_dataset(
            file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag >> 16 != _META_GROUP
        )
        if any(len(meta.get_item(tag).value or b"") > _MAX_TABLE_BYTES for tag in list(meta.keys())):
            raise UndecodableImageError(_CORRUPT)
        syntax = UID(str(meta.TransferSyntaxUID))
    except Exception as err:
        raise UndecodableImageError(_CORRUPT) from err
    file.seek(0)
    return syntax


def read_dataset(file: Any) -> Any:
    """Return the elements that make pixels, as a data set of pydicom; of sequences the first item.

    Args:
        file: at its start, of a transfer syntax that is read.

    Raises:
        UndecodableImageError: if the file is damaged.
    """
    import pydicom

    _silence()
    try:
        dataset = pydicom.dcmread(file, specific_tags=_PIXEL_TAGS)
        _check_lengths(dataset)
        _merge_functional_groups(dataset)
        _check_lengths(dataset)
        for name in _SEQUENCES:
            _keep_first_item(dataset, name)
        str(dataset.file_meta.TransferSyntaxUID)
    except Exception as err:
        # The text of pydicom's errors may hold values of the file.
        raise UndecodableImageError(_CORRUPT) from err
    return dataset


@functools.cache
def _silence() -> None:
    """Keep values of files out of the log and off stderr, where pydicom's warnings would write them."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"pydicom\.")


def _merge_functional_groups(dataset: Any) -> None:
    """Move what an enhanced object says of its frames to the dataset itself; a frame's own values win."""
    from pydicom.datadict import keyword_for_tag

    for name in _FUNCTIONAL_GROUPS:
        group = _first_item(dataset, name)
        for inner in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            item = _first_item(group, inner)
            if item is not None:
                keywords = {tag: keyword_for_tag(tag) for tag in list(item.keys())}
                dataset.update({tag: item.get_item(tag) for tag, word in keywords.items() if word in _PIXEL_TAGS})
        if name in dataset:
            del dataset[name]


def _keep_first_item(dataset: Any, name: str) -> None:
    item = _first_item(dataset, name)
    if name in dataset:
        del dataset[name]
    if item is not None:
        _check_lengths(item)
        setattr(dataset, name, [item])


def _first_item(dataset: Any, name: str) -> Any:
    """Return the first item of a sequence; None if there is none. Others are not read, where its length is known."""
    from pydicom.dataelem import RawDataElement
    from pydicom.filereader import read_sequence_item

    if dataset is None or name not in dataset:
        return None
    element = dataset.get_item(name)
    if not isinstance(element, RawDataElement):
        return element.value[0] if element.value else None
    if not element.value:
        return None
    file = ElementFile(element.value)
    return read_sequence_item(file, element.is_implicit_VR, element.is_little_endian, dataset.original_character_set)


def _check_lengths(dataset: Any) -> None:
    """Refuse values longer than any of their kind; pydicom makes a list of those that are numbers or texts.

    Raises:
        UndecodableImageError: if there are any.
    """
    from pydicom.dataelem import RawDataElement

    for name, most in _MOST_BYTES.items():
        element = dataset.get_item(name) if name in dataset else None
        if isinstance(element, RawDataElement) and len(element.value or b"") > most:
            raise UndecodableImageError(_CORRUPT)
    if "PixelData" in dataset and getattr(dataset.get_item("PixelData"), "VR", None) not in _PIXEL_TYPES:
        raise UndecodableImageError(_CORRUPT)
