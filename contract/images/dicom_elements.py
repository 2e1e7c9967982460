"""Reads the elements of a DICOM file that make pixels; pydicom, the extra `dicom`, parses them.

Names, dates and identifiers of patients are skipped by the parser.
"""

from __future__ import annotations

import functools
import logging
import warnings
from typing import Any

from contract.errors import UndecodableImageError

PIXEL_TAGS: list[Any] = [
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData", "FloatPixelData", "DoubleFloatPixelData",
]  # fmt: skip
_META_GROUP = 2
_CORRUPT = "the DICOM image cannot be decoded: its header is corrupt"


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
        syntax = UID(str(meta.TransferSyntaxUID))
    except Exception as err:
        raise UndecodableImageError(_CORRUPT) from err
    file.seek(0)
    return syntax


def read_dataset(file: Any) -> Any:
    """Return the elements of `PIXEL_TAGS`, as a data set of pydicom.

    Args:
        file: at its start, of a transfer syntax that is read.

    Raises:
        UndecodableImageError: if the file is damaged.
    """
    import pydicom

    _silence()
    try:
        dataset = pydicom.dcmread(file, specific_tags=PIXEL_TAGS)
        _merge_functional_groups(dataset)
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
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in list(dataset.get(name) or ())[:1]:
            for inner in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                for item in list(group.get(inner) or ())[:1]:
                    dataset.update({element.tag: element for element in item if element.keyword in PIXEL_TAGS})
