"""contract/images/dicom/: grey and colour DICOM images become the pixels that the standard says."""

from __future__ import annotations

import io
import logging
import struct
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless  # noqa: E402

from contract.errors import ImageError, ImageTooLargeError, UndecodableImageError, UnsupportedImageError  # noqa: E402
from contract.image import decode_image, open_image, read_header  # noqa: E402
from contract.model import InputSpec  # noqa: E402
from tests.contract.test_image_file import overlapping_tags, segment  # noqa: E402

ROWS, COLUMNS = 12, 16
GREY = InputSpec(ROWS, COLUMNS, channels=1, color="grey", reduced_decode=False)
RGB = InputSpec(ROWS, COLUMNS, reduced_decode=False)
PATIENT = "Musterfrau^Erika"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS = (f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 70))
JPEG_2000_LOSSLESS, JPEG_LS, DEFLATED = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.1.99"


def make(pixels: NDArray[Any] | bytes, syntax: str = ExplicitVRLittleEndian, **attributes: object) -> bytes:
    """Return a DICOM file of one frame; `pixels` as bytes are the value of PixelData."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SECONDARY_CAPTURE
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.4"
    dataset.PatientName, dataset.PatientID = PATIENT, "4711"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = ROWS, COLUMNS, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated = 8
    if not isinstance(pixels, bytes):
        dataset.BitsAllocated = 8 * pixels.dtype.itemsize
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        if pixels.ndim == 3:
            dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PhotometricInterpretation = 3, 0, "RGB"
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        pixels = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset.BitsStored = dataset.BitsAllocated
    for name, value in attributes.items():
        setattr(dataset, name, value)
    if "HighBit" not in dataset:
        dataset.HighBit = dataset.BitsStored - 1
    dataset.add_new("PixelData", "OB" if dataset.BitsAllocated == 8 else "OW", pixels)
    dataset["PixelData"].is_undefined_length = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def stored_values(bits: int, *, signed: bool) -> NDArray[Any]:
    """Return values over the whole range of `bits`, shape (ROWS, COLUMNS)."""
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    kind = ("i" if signed else "u") + ("1" if bits <= 8 else "2")
    return np.linspace(low, high, ROWS * COLUMNS).round().astype(kind).reshape(ROWS, COLUMNS)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (8, True), (10, False), (12, False), (12, True), (16, True)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_grey_without_a_window_is_scaled_by_the_bits_stored(
    syntax: str, bits: int, signed: bool, photometric: str
) -> None:
    values = stored_values(bits, signed=signed)
    data = make(values, syntax, BitsStored=bits, PhotometricInterpretation=photometric)

    low = -(1 << bits - 1) if signed else 0
    expected = (values.astype(float) - low) * 255 / ((1 << bits) - 1)
    expected = 255 - expected if photometric == "MONOCHROME1" else expected
    assert np.abs(decode_image(data, GREY)[:, :, 0] - expected).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("slope_and_intercept", [(1.0, 0.0), (2.0, -1024.0), (0.5, 100.0)])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
def test_window_applies_to_rescaled_values(slope_and_intercept: tuple[float, float], function: str | None) -> None:
    """The formulas of PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    (slope, intercept), (center, width) = slope_and_intercept, (600.0, 900.0)
    values = stored_values(12, signed=False)
    options = {"VOILUTFunction": function} if function else {}
    data = make(
        values, BitsStored=12, RescaleSlope=slope, RescaleIntercept=intercept,
        WindowCenter=[center, 40], WindowWidth=[width, 400], **options,
    )  # fmt: skip

    x = values * slope + intercept
    shown = {
        "LINEAR": (x - (center - 0.5)) / (width - 1) + 0.5,
        "LINEAR_EXACT": (x - center) / width + 0.5,
        "SIGMOID": 1 / (1 + np.exp(-4 * (x - center) / width)),
    }[function or "LINEAR"]
    expected = 255 * np.clip(shown, 0, 1)
    assert np.abs(decode_image(data, GREY)[:, :, 0] - expected).max() <= 0.5 + 1e-6


def test_tables_take_the_place_of_rescale_and_window() -> None:
    values = stored_values(8, signed=False)
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 16], (np.arange(256)[::-1] * 257).astype("<u2").tolist()
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "US"
    expected = 255 - values

    voi = decode_image(make(values, VOILUTSequence=[table]), GREY)[:, :, 0]
    assert np.array_equal(voi, expected)
    table.ModalityLUTType = "US"
    modality = decode_image(make(values, ModalityLUTSequence=[table]), GREY)[:, :, 0]
    assert np.array_equal(modality, expected)


def test_functional_groups_of_an_enhanced_object_are_read() -> None:
    values, window, group = stored_values(12, signed=False), pydicom.Dataset(), pydicom.Dataset()
    window.WindowCenter, window.WindowWidth = 1000.5, 1001
    group.FrameVOILUTSequence = [window]
    enhanced = make(values, BitsStored=12, NumberOfFrames=1, SharedFunctionalGroupsSequence=[group])
    plain = make(values, BitsStored=12, WindowCenter=1000.5, WindowWidth=1001)

    assert np.array_equal(decode_image(enhanced, GREY), decode_image(plain, GREY))


def test_bits_above_those_stored_are_not_the_picture() -> None:
    values = stored_values(12, signed=False)
    overlay = values | np.uint16(0xA000)

    assert np.array_equal(
        decode_image(make(overlay, BitsStored=12), GREY), decode_image(make(values, BitsStored=12), GREY)
    )


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_colours(planar: int, kind: str) -> None:
    largest = np.iinfo(kind).max
    pixels = np.linspace(0, largest, ROWS * COLUMNS * 3).round().astype(kind).reshape(ROWS, COLUMNS, 3)
    stored = np.moveaxis(pixels, 2, 0) if planar else pixels
    data = make(stored.tobytes(), SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=planar,
                BitsAllocated=8 * pixels.itemsize, BitsStored=8 * pixels.itemsize)  # fmt: skip

    assert np.abs(decode_image(data, RGB) - pixels * (255.0 / largest)).max() <= 0.5 + 1e-9


def test_palette() -> None:
    indices = (np.arange(ROWS * COLUMNS) % 256).astype("u1").reshape(ROWS, COLUMNS)
    tables = {"Red": np.arange(256), "Green": np.arange(256)[::-1], "Blue": np.full(256, 7)}
    attributes: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for color, table in tables.items():
        attributes[f"{color}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        attributes[f"{color}PaletteColorLookupTableData"] = (table * 257).astype("<u2").tobytes()

    expected = np.stack([table[indices] for table in tables.values()], axis=-1)
    assert np.array_equal(decode_image(make(indices, **attributes), RGB), expected)


def _jpeg(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return encapsulate([buffer.getvalue()])


def test_compressed_frames() -> None:
    """RLE and JPEG 2000 without loss are exact; baseline JPEG is what the same JPEG is by itself."""
    values = stored_values(8, signed=False)
    dataset = pydicom.dcmread(io.BytesIO(make(values)))
    dataset.compress(RLELossless)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    picture = Image.fromarray(values)
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG")

    assert np.array_equal(decode_image(buffer.getvalue(), GREY)[:, :, 0], values)
    assert np.array_equal(
        decode_image(make(_jpeg(picture, "JPEG2000", no_jp2=True), JPEG_2000_LOSSLESS), GREY)[:, :, 0], values
    )
    assert np.array_equal(decode_image(make(_jpeg(picture), JPEG_BASELINE), GREY), decode_image(jpeg.getvalue(), GREY))


@pytest.mark.parametrize("name", [
    "693_J2KI", "ExplVR_BigEnd", "MR_small_RLE", "SC_rgb_jpeg_dcmtk", "SC_rgb_rle_16bit",
    "SC_ybr_full_422_uncompressed", "examples_palette", "examples_jpeg2k",
])  # fmt: skip
def test_files_of_other_programs_are_read(name: str) -> None:
    """Files that come with pydicom, written by GDCM, dcmtk and scanners."""
    from pydicom.data import get_testdata_file

    pixels = decode_image(Path(str(get_testdata_file(f"{name}.dcm", download=False))).read_bytes(), RGB)
    assert pixels.std() > 5


READ = {
    "MONOCHROME1, MONOCHROME2": "8 or 16 bits allocated, signed or not; bits above BitsStored are masked",
    "modality": "RescaleSlope and RescaleIntercept, or ModalityLUTSequence",
    "window": "the first WindowCenter and WindowWidth or VOI table; without one, the whole range of BitsStored",
    "RGB, YBR_FULL, YBR_FULL_422, YBR_ICT, YBR_RCT, PALETTE COLOR": "become RGB",
    "transfer syntaxes": "implicit and explicit VR, both byte orders; RLE; JPEG baseline; JPEG 2000",
    "frames": "one; enhanced objects of one frame with their functional groups",
    "names, dates and identifiers": "are not parsed, logged or kept",
}
REFUSED = {
    "transfer syntax": (dict(syntax=JPEG_LOSSLESS, pixels=_jpeg(Image.new("L", (COLUMNS, ROWS)))), "JPEG Lossless"),
    "12-bit JPEG": (dict(syntax=JPEG_EXTENDED, pixels=_jpeg(Image.new("L", (COLUMNS, ROWS)))), "JPEG Extended"),
    "JPEG-LS": (dict(syntax=JPEG_LS, pixels=_jpeg(Image.new("L", (COLUMNS, ROWS)))), "JPEG-LS Lossless"),
    "several frames": (dict(pixels=bytes(2 * ROWS * COLUMNS), NumberOfFrames=2), "one frame.* 2 frames"),
    "32 bits": (dict(pixels=bytes(4 * ROWS * COLUMNS), BitsAllocated=32, BitsStored=32), "8 or 16 bits"),
    "1 bit": (dict(pixels=bytes(ROWS * COLUMNS // 8), BitsAllocated=1, BitsStored=1), "8 or 16 bits"),
    "high bit": (dict(pixels=bytes(2 * ROWS * COLUMNS), BitsAllocated=16, BitsStored=12, HighBit=15), "high bit 15"),
    "photometric interpretation": (
        dict(pixels=bytes(4 * ROWS * COLUMNS), SamplesPerPixel=4, PhotometricInterpretation="CMYK"),
        "photometric interpretation .* CMYK",
    ),
    "palette in segments": (
        dict(
            pixels=bytes(ROWS * COLUMNS), PhotometricInterpretation="PALETTE COLOR",
            RedPaletteColorLookupTableDescriptor=[256, 0, 16], SegmentedRedPaletteColorLookupTableData=bytes(8),
        ),
        "palette in whole tables .* a palette in segments",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_other_kinds_are_refused_by_name(kind: str) -> None:
    options, words = REFUSED[kind]
    with pytest.raises(UnsupportedImageError, match=words):
        decode_image(make(**options), GREY)  # type: ignore[arg-type]


def test_a_frame_larger_than_declared_is_refused_before_it_is_decoded() -> None:
    data = make(_jpeg(Image.new("L", (3000, 2000))), JPEG_BASELINE)

    with pytest.raises(ImageTooLargeError, match="3000 x 2000"):
        decode_image(data, GREY)


def test_header() -> None:
    header = read_header(make(stored_values(12, signed=False), BitsStored=12))

    assert ("DICOM", COLUMNS, ROWS, "L") == (header.format, header.width, header.height, header.mode)
    with pytest.raises(ImageTooLargeError, match="at most 100 pixels"):
        decode_image(make(stored_values(8, signed=False)), GREY, max_pixels=100)


def test_damaged_files_end_in_one_error_without_a_value_of_the_file(caplog: pytest.LogCaptureFixture) -> None:
    """Every cut and 600 changed bytes: pixels, or an ImageError that does not name the patient."""
    caplog.set_level(logging.DEBUG)
    data = make(stored_values(12, signed=False), BitsStored=12, WindowCenter=1000, WindowWidth=500)
    changed = [data[:end] for end in range(0, len(data), 7)]
    rng = np.random.default_rng(1)
    for place, value in zip(rng.integers(0, len(data), 600), rng.integers(0, 256, 600), strict=True):
        changed.append(data[:place] + bytes([value]) + data[place + 1 :])
    said = []
    with warnings.catch_warnings(record=True) as caught:
        for variant in changed:
            try:
                decode_image(variant, GREY)
            except ImageError as err:
                said.append(str(err))
    said += [str(warning.message) for warning in caught] + [record.getMessage() for record in caplog.records]
    assert any(isinstance(text, str) and "DICOM" in text for text in said)
    assert not [text for text in said if "Musterfrau" in text or "4711" in text]


def test_missing_attributes_are_named() -> None:
    with pytest.raises(UndecodableImageError, match="it has no Rows"):
        decode_image(make(stored_values(8, signed=False), Rows=None), GREY)


def peak_bytes(call: Callable[[], object]) -> int:
    """Return the most memory that Python's objects take while a function runs."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_deflated_file_is_refused_before_it_is_inflated() -> None:
    """A kilobyte may inflate to a megabyte."""
    data = make(stored_values(8, signed=False), DEFLATED, TextValue="a" * (32 << 20))

    def refuse() -> None:
        with pytest.raises(UnsupportedImageError, match="Received: Deflated Explicit VR Little Endian"):
            decode_image(data, GREY)

    assert len(data) < 1 << 20
    assert peak_bytes(refuse) < 4 << 20


EMPTY_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)


def element(group: int, number: int, value: bytes, num_bytes: int | None = None) -> bytes:
    """Return an element of a file with implicit types; 0xFFFFFFFF is an unknown length."""
    return struct.pack("<HHI", group, number, len(value) if num_bytes is None else num_bytes) + value


def table_item(entries: bytes) -> bytes:
    """Return an item that holds a table of 256 values of 16 bits."""
    table = element(0x0028, 0x3002, struct.pack("<3H", 256, 0, 16)) + element(0x0028, 0x3006, entries)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(table)) + table


UNBOUNDED = {
    "empty elements": element(0x0009, 0x1001, b"") * 500_000,
    "items of unknown length": element(0x0008, 0x1140, EMPTY_ITEM * 500_000, 0xFFFFFFFF) + element(0xFFFE, 0xE0DD, b""),
    "a window of many values": element(0x0028, 0x1050, b"1\\" * 500_000),
    "a character set of many names": element(0x0008, 0x0005, b"\\" * 2_000_000),
    "a table of many entries": element(0x0028, 0x3010, table_item(bytes(2_000_000))),
}


@pytest.mark.parametrize("kind", UNBOUNDED)
def test_elements_beyond_those_of_a_picture_are_refused(kind: str) -> None:
    """Each takes work or memory of its own, long before a pixel is decoded."""
    data = make(stored_values(8, signed=False), ImplicitVRLittleEndian) + UNBOUNDED[kind]

    def refuse() -> None:
        with pytest.raises(UndecodableImageError, match="header is corrupt"):
            open_image(data, GREY)

    assert peak_bytes(refuse) < 8 * len(data) + (8 << 20)


def test_of_a_sequence_only_the_first_item_is_read() -> None:
    """Those behind it take no memory."""
    values = stored_values(8, signed=False)
    item = table_item((np.arange(256)[::-1] * 257).astype("<u2").tobytes())
    data = make(values, ImplicitVRLittleEndian) + element(0x0028, 0x3010, item + EMPTY_ITEM * 200_000)
    pixels = []

    assert peak_bytes(lambda: pixels.append(decode_image(data, GREY))) < 8 * len(data) + (8 << 20)
    assert np.array_equal(pixels[0][:, :, 0], 255 - values)


def rle(segment: bytes) -> bytes:
    """Return an RLE frame of one segment."""
    return struct.pack("<16I", 1, 64, *[0] * 14) + segment


def test_an_rle_frame_that_unpacks_to_more_than_the_picture_is_refused() -> None:
    """Two bytes unpack to 128."""
    data = make(encapsulate([rle(b"\x81\0" * (1 << 20))]), RLELossless)

    def refuse() -> None:
        with pytest.raises(ImageTooLargeError, match="expected RLE data of 16 x 12"):
            decode_image(data, GREY)

    assert peak_bytes(refuse) < 4 * len(data)


def test_an_rle_frame_whose_segments_overlap_is_refused() -> None:
    """Each of three would be unpacked to the end of the file."""
    frame = struct.pack("<16I", 3, 64, 1 << 20, 64, *[0] * 12) + bytes(1 << 21)
    data = make(encapsulate([frame]), RLELossless, SamplesPerPixel=3, PhotometricInterpretation="RGB",
                PlanarConfiguration=0)  # fmt: skip

    with pytest.raises(UndecodableImageError, match="RLE segments are corrupt"):
        decode_image(data, RGB)


def test_a_frame_is_all_fragments_whatever_the_tables_of_places_say() -> None:
    """Fragments of one frame are joined; a hidden frame of another size is not found."""
    picture = Image.fromarray(stored_values(8, signed=False))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG")
    plain = decode_image(make(encapsulate([buffer.getvalue()]), JPEG_BASELINE), GREY)
    parted = encapsulate([buffer.getvalue()], fragments_per_frame=4)
    wrong = struct.pack("<HHII", 0xFFFE, 0xE000, 4, 200) + encapsulate([buffer.getvalue()], has_bot=False)[8:]

    for pixels in (parted, wrong):
        assert np.array_equal(plain, decode_image(make(pixels, JPEG_BASELINE), GREY))


def test_very_many_fragments_are_refused() -> None:
    """Each is read by itself, also behind a frame."""
    buffer = io.BytesIO()
    Image.fromarray(stored_values(8, signed=False)).save(buffer, "JPEG")
    data = make(encapsulate([buffer.getvalue()]) + EMPTY_ITEM * 500_000, JPEG_BASELINE)

    with pytest.raises(UndecodableImageError):
        decode_image(data, GREY)


@pytest.mark.timeout(60)
def test_a_box_without_a_length_ends_in_an_error() -> None:
    """The search for the code stream behind it would stay in its place for ever."""
    values = stored_values(8, signed=False)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "JPEG2000")
    boxes = buffer.getvalue()
    place = boxes.index(b"jp2c") - 4
    endless = boxes[:place] + bytes(4) + b"abcd" + boxes[place:]

    assert np.array_equal(decode_image(make(encapsulate([boxes]), JPEG_2000_LOSSLESS), GREY)[:, :, 0], values)
    with pytest.raises(UndecodableImageError, match="JPEG 2000 data is corrupt"):
        decode_image(make(encapsulate([endless]), JPEG_2000_LOSSLESS), GREY)


def test_notes_in_a_jpeg_frame_are_passed_over() -> None:
    """EXIF data whose 4,000 tags all refer to the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(stored_values(8, signed=False)).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    noted = jpeg[:20] + segment(0xE1, b"Exif\0\0" + overlapping_tags("<", 65_000)) + jpeg[20:]
    pixels = []

    peak = peak_bytes(lambda: pixels.append(decode_image(make(encapsulate([noted]), JPEG_BASELINE), GREY)))
    assert peak < 16 << 20
    assert np.array_equal(pixels[0], decode_image(make(encapsulate([jpeg]), JPEG_BASELINE), GREY))


def test_a_jpeg_frame_of_very_many_scans_is_refused() -> None:
    """A few bytes make a scan, and each looks at all pixels."""
    buffer = io.BytesIO()
    Image.fromarray(stored_values(8, signed=False)).save(buffer, "JPEG", progressive=True)
    jpeg = buffer.getvalue()
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]

    assert decode_image(make(encapsulate([jpeg]), JPEG_BASELINE), GREY).any()
    with pytest.raises(UndecodableImageError, match="too many scans"):
        decode_image(make(encapsulate([jpeg[:-2] + scan * 200 + jpeg[-2:]]), JPEG_BASELINE), GREY)


def test_a_compressed_file_with_implicit_types_is_read() -> None:
    """Against the standard; pydicom warns, and names the type of the pixels by its dictionary."""
    from pydicom.data import get_testdata_file

    data = Path(str(get_testdata_file("SC_rgb_jpeg.dcm", download=False))).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert decode_image(data, RGB).mean() > 200
