"""pipeline/data/image_files.py: images by suffix and content, other pictures, and what systems leave."""

import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from pipeline.data.ingest import Dataset, describe_reading, ingest
from pipeline.errors import DatasetError
from pipeline.scoring.score_folder import walk_images
from tests.contract.images import test_dicom
from tests.helpers.extras import hide_package
from tests.helpers.fixtures import FIXTURES
from tests.helpers.image_sets import png, write_files

IMAGE = png()
DICOM = bytes(128) + b"DICM" + bytes(200)


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(IMAGE)).save(buffer, kind)
    return buffer.getvalue()


def read_set(folder: Path, kind: str, files: dict[str, bytes]) -> Dataset:
    if kind == "folder":
        return ingest(write_files(folder / "set", files))
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return ingest(folder / "set.zip")


@pytest.mark.parametrize("source", ["folder", "zip"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("suffix", ["", ".jfif", ".apng", ".JPG", ".img", ".0", ".dcm", ".txt"])
def test_images_are_known_by_their_content(tmp_path: Path, source: str, kind: str, suffix: str) -> None:
    """As the gateway knows them, whatever the suffix."""
    dataset = read_set(tmp_path, source, {f"a/1{suffix}": encoded(kind), "b/2.png": IMAGE})

    assert [f"a/1{suffix}", "b/2.png"] == [example.path for example in dataset.examples]
    if source == "folder":
        assert [f"a/1{suffix}", "b/2.png"] == list(walk_images(tmp_path / "set"))


def test_texts_are_no_images(tmp_path: Path) -> None:
    texts = {"a/notes": b"BMI,age\n20,40\n", "a/GIF": b"GIF is a format", "a/empty": b"", "a/x.csv": b"path,label\n"}

    dataset = ingest(write_files(tmp_path / "set", texts | {"a/1.png": IMAGE, "b/2.png": IMAGE}))

    assert ["a/1.png", "b/2.png"] == [example.path for example in dataset.examples]
    assert {"(no suffix)": 3, ".csv": 1} == dataset.ignored


SYSTEM = {
    "a/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg": IMAGE,
    "b/@eaDir/2.png/SYNOPHOTO_THUMB_M.jpg": IMAGE,
    "a/.thumbnails/1.png": IMAGE,
    "a/.ipynb_checkpoints/1-checkpoint.png": IMAGE,
    "a/._1.png": b"x",
    "b/._2.png": b"x",
    "a/.DS_Store": b"x",
    "a/Thumbs.db": b"x",
    "b/thumbs.db": b"x",
    "a/desktop.ini": b"x",
    "__MACOSX/a/1.png": IMAGE,
    "lost+found/3.png": IMAGE,
    "#recycle/4.png": IMAGE,
    "$RECYCLE.BIN/5.png": IMAGE,
    "System Volume Information/x": b"x",
    ".hidden.png": IMAGE,
}


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_what_systems_leave_is_no_image_and_no_class(tmp_path: Path, kind: str) -> None:
    """It is counted in one line; a folder counts once."""
    dataset = read_set(tmp_path, kind, SYSTEM | {"a/1.png": IMAGE, "b/2.png": IMAGE})

    assert ("a", "b") == dataset.labels
    assert ["a/1.png", "b/2.png"] == [example.path for example in dataset.examples]
    assert {} == dataset.ignored
    expected = (
        "left out, of systems and hidden: 1 #recycle, 1 $RECYCLE.BIN, 1 .DS_Store, 2 ._*, 1 .ipynb_checkpoints, "
        "1 .thumbnails, 2 @eaDir, 1 System Volume Information, 2 Thumbs.db, 1 __MACOSX, 1 desktop.ini, 1 hidden, "
        "1 lost+found"
    )
    assert [expected] == describe_reading(dataset)
    if kind == "folder":
        assert ["a/1.png", "b/2.png"] == list(walk_images(tmp_path / "set"))


def test_empty_system_folder_is_no_empty_class(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "set", {"a/1.png": IMAGE, "b/2.png": IMAGE})
    (folder / "lost+found").mkdir()

    assert ("a", "b") == ingest(folder).labels


def test_class_of_files_that_are_left_out_says_so(tmp_path: Path) -> None:
    files = {"a/1.png": IMAGE, "c/2.png": IMAGE} | {f"b/{i}.ppm": b"P6 1 1 255 abc" for i in range(10)}

    with pytest.raises(DatasetError, match=r"Received: none in b \(10 \.ppm left out\)"):
        ingest(write_files(tmp_path / "set", files))


@pytest.mark.parametrize("suffix", [".dcm", "", ".ima"])
def test_set_of_dicom_files_gets_the_decoders_advice(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an extra that reads them; the advice is that of the gateway."""
    hide_package(monkeypatch, "pydicom")
    files = {f"{label}/{i}{suffix}": DICOM for label in "ab" for i in range(3)}

    with pytest.raises(DatasetError) as refused:
        ingest(write_files(tmp_path / "set", files))

    name = suffix or "(no suffix)"
    assert f"6 files, none of them an image (6 {name} (a DICOM file; " in str(refused.value)


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("brand", ["heic", "heix", "hevc", "hevx", "heim", "heis", "mif1", "msf1", "mif2"])
def test_heic_files_get_the_decoders_advice_whatever_their_brand(
    tmp_path: Path, brand: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra that reads them."""
    hide_package(monkeypatch, "pi_heif")
    data = b"\0\0\0\x18ftyp" + brand.encode() + b"\0\0\0\0mif1heic" + bytes(200)

    dataset = read_set(tmp_path, kind, {"a/1.png": IMAGE, "b/2.png": IMAGE, "b/3.heic": data, "b/4": data})

    assert ["a/1.png", "b/2.png"] == [example.path for example in dataset.examples]
    assert {"(no suffix)": 1, ".heic": 1} == dataset.ignored
    for name in dataset.ignored:
        assert dataset.advice[name].startswith("a HEIC image; install Fovea's extra 'heic'")


def test_set_of_heic_and_avif_files_is_read(tmp_path: Path) -> None:
    """With the extra, whatever the brand and the suffix."""
    files = {}
    for name, data in {"HEIC": (FIXTURES / "drawing.heic").read_bytes(), "AVIF": encoded("AVIF")}.items():
        for brand in (data[8:12], b"mif1", b"msf1"):
            files[f"{name}/{brand.decode()}"] = data[:8] + brand + data[12:]

    dataset = ingest(write_files(tmp_path / "set", files))

    assert sorted(files) == sorted(example.path for example in dataset.examples)


@pytest.mark.parametrize("brand", ["isom", "qt  ", "jp2 ", "crx "])
def test_other_files_of_boxes_are_no_images(tmp_path: Path, brand: str) -> None:
    """Films and raw pictures share the container with HEIC."""
    film = b"\0\0\0\x18ftyp" + brand.encode() + bytes(200)

    dataset = ingest(write_files(tmp_path / "set", {"a/1.png": IMAGE, "b/2.png": IMAGE, "b/3": film}))

    assert {"(no suffix)": 1} == dataset.ignored
    assert {} == dataset.advice


def test_set_of_dicom_files_is_read(tmp_path: Path) -> None:
    """With the extra, whatever the suffix."""
    data = test_dicom.make(test_dicom.stored_values(12, signed=False), BitsStored=12)
    files = {f"{label}/{i}{suffix}": data for label in "ab" for i, suffix in enumerate(("", ".dcm", ".ima"))}

    assert 6 == len(ingest(write_files(tmp_path / "set", files)).examples)


def test_other_pictures_are_left_out_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_package(monkeypatch, "pydicom")
    files = {"a/1.png": IMAGE, "b/2.png": IMAGE, "b/3.dcm": DICOM}

    dataset = ingest(write_files(tmp_path / "set", files))

    assert {".dcm": 1} == dataset.ignored
    assert dataset.advice[".dcm"].startswith("a DICOM file; ")
