"""pipeline/data/ingest.py: folders and zips become examples, or a clear refusal."""

import stat
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from pipeline.data.ingest import ingest
from pipeline.data.zip_source import ZipSource
from pipeline.errors import DatasetError
from pipeline.recipe.data_settings import Data
from tests.helpers.image_sets import png, write_files

IMAGE = png()
SET = {
    "train/a/1.png": IMAGE,
    "train/a/2.JPG": IMAGE,
    "train/b/sub/3.png": IMAGE,
    "test/a/4.png": IMAGE,
    "test/b/5.png": IMAGE,
}


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("wrapped", ["", "wrap/", "a/b/c/"], ids=["bare", "one-folder", "three-folders"])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_split_folders_in_any_wrapping(tmp_path: Path, kind: str, wrapped: str) -> None:
    """train/ and test/ are found inside folders that hold nothing else, in a folder and in a zip alike."""
    files = {wrapped + name: data for name, data in SET.items()}
    location = write_files(tmp_path / "set", files) if kind == "folder" else write_zip(tmp_path / "set.zip", files)

    dataset = ingest(location)

    assert ("a", "b") == dataset.labels
    assert [
        ("a", "test", "4.png"),
        ("b", "test", "5.png"),
        ("a", "train", "1.png"),
        ("a", "train", "2.JPG"),
        ("b", "train", "sub/3.png"),
    ] == [(e.label, e.split, e.name) for e in dataset.examples]
    assert IMAGE == dataset.source.read(dataset.examples[0].path)


@pytest.mark.parametrize("wrapped", ["", "wrap/"], ids=["bare", "wrapped"])
def test_class_folders_without_splits(tmp_path: Path, wrapped: str) -> None:
    """A folder of classes is a set whose splits are still to be made."""
    dataset = ingest(write_files(tmp_path / "set", {wrapped + "x/1.png": IMAGE, wrapped + "y/2.png": IMAGE}))

    assert ("x", "y") == dataset.labels
    assert {None} == {example.split for example in dataset.examples}


def test_class_order_is_by_name(tmp_path: Path) -> None:
    """Classes are sorted as text, whatever order the file system has."""
    dataset = ingest(write_files(tmp_path / "set", {f"train/{name}/1.png": IMAGE for name in ("10", "2", "b", "A")}))

    assert ("10", "2", "A", "b") == dataset.labels


def test_hidden_and_system_files_are_passed_over(tmp_path: Path) -> None:
    """What macOS, Windows and version control leave behind is neither a class nor an image; the rest is counted."""
    files = SET | {
        "__MACOSX/train/a/._1.png": b"x",
        "train/.ipynb_checkpoints/1.png": b"x",
        "train/a/.DS_Store": b"x",
        "train/a/Thumbs.db": b"x",
        "train/a/scan.dcm": b"x",
        "notes": b"x",
    }

    dataset = ingest(write_files(tmp_path / "set", files))

    assert ("a", "b") == dataset.labels
    assert 5 == len(dataset.examples)
    assert {".dcm": 1, "(no suffix)": 1} == dataset.ignored


def test_links_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    """A linked class folder is read; a link back up does not hang."""
    write_files(tmp_path / "elsewhere", {"1.png": IMAGE})
    folder = write_files(tmp_path / "set", {"train/a/1.png": IMAGE})
    (folder / "train" / "b").symlink_to(tmp_path / "elsewhere")
    (folder / "train" / "a" / "loop").symlink_to(folder)

    dataset = ingest(folder)

    assert ["a", "b"] == sorted(e.label for e in dataset.examples)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        pytest.param({}, "has no images: expected .* Received: nothing", id="empty"),
        pytest.param({"a/notes.txt": b"x"}, "Received: 1 files, none of them an image", id="no-images"),
        pytest.param({"1.png": IMAGE}, "outside a class folder", id="loose-image"),
        pytest.param({"train/1.png": IMAGE}, "outside a class folder", id="image-in-train"),
        pytest.param({"a/1.png": IMAGE}, "at least two classes. Received: one, a", id="one-class"),
        pytest.param({"train/a/1.png": IMAGE, "test/a/1.png": IMAGE}, "Received: one, a", id="one-class-split"),
        pytest.param(
            {"train/a/1.png": IMAGE, "train/b/1.png": IMAGE, "test/c/1.png": IMAGE},
            "Received: c without any",
            id="class-only-in-test",
        ),
        pytest.param({"test/a/1.png": IMAGE, "test/b/1.png": IMAGE}, "no training images", id="test-only"),
        pytest.param(
            {"train/a/1.png": IMAGE, "train/b/1.png": IMAGE, "c/1.png": IMAGE}, "mixes two layouts", id="mixed"
        ),
        pytest.param(
            {"train/a/1.png": IMAGE, "train/b/1.png": IMAGE, "train/c/x.txt": b""}, "none in c", id="empty-class"
        ),
    ],
)
def test_sets_that_cannot_be_trained_on_are_refused(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    """Each refusal says what was expected and what was received, for folders and zips alike."""
    folder = tmp_path / "set"
    folder.mkdir()

    with pytest.raises(DatasetError, match=words):
        ingest(write_files(folder, files))
    with pytest.raises(DatasetError, match=words):
        ingest(write_zip(tmp_path / "set.zip", files))


@pytest.mark.parametrize("name", ["../evil/1.png", "/etc/1.png", "a\\..\\1.png", "C:/a/1.png"])
def test_zip_with_paths_outside_itself_is_refused(tmp_path: Path, name: str) -> None:
    """A hostile name is named, and nothing is written anywhere."""
    location = write_zip(tmp_path / "set.zip", SET | {name: IMAGE})

    with pytest.raises(DatasetError, match="expected paths inside the archive"):
        ingest(location)
    assert [location] == list(tmp_path.iterdir())


def test_zip_with_a_link_is_refused(tmp_path: Path) -> None:
    """A link inside an archive could point anywhere."""
    location = write_zip(tmp_path / "set.zip", SET)
    with zipfile.ZipFile(location, "a") as archive:
        link = zipfile.ZipInfo("train/a/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")

    with pytest.raises(DatasetError, match=r"a link, 'train/a/link\.png'"):
        ingest(location)


def test_zip_bomb_is_refused_unread(tmp_path: Path) -> None:
    """An archive that would unpack to far more than its size is refused from its directory."""
    location = tmp_path / "set.zip"
    with zipfile.ZipFile(location, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in SET:
            archive.writestr(name, b"\0" * 10_000_000)

    with pytest.raises(DatasetError, match="times its size unpacked"):
        ingest(location)


def test_encrypted_zip_is_refused(tmp_path: Path) -> None:
    """A password cannot be asked for in the middle of a run."""
    location = write_zip(tmp_path / "set.zip", SET)
    data = bytearray(location.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    location.write_bytes(data)

    with pytest.raises(DatasetError, match="without a password"):
        ingest(location)


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04 cut"], ids=["empty", "text", "cut"])
def test_file_that_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    """A file of another kind gets a plain answer."""
    path = tmp_path / "set.zip"
    path.write_bytes(data)

    with pytest.raises(DatasetError, match="expected a folder or a zip"):
        ingest(path)


def test_missing_location_is_refused(tmp_path: Path) -> None:
    """A path with a typo is not an empty set."""
    with pytest.raises(DatasetError, match="no such file or folder"):
        ingest(tmp_path / "nowhere")


def test_damaged_member_reads_as_an_os_error(tmp_path: Path) -> None:
    """A file broken inside its zip is reported like one broken on disk, so that the audit can name it."""
    location = write_zip(tmp_path / "set.zip", SET)
    data = bytearray(location.read_bytes())
    data[data.index(IMAGE) + 50] ^= 0xFF
    location.write_bytes(data)

    dataset = ingest(location)
    broken = []
    for example in dataset.examples:
        try:
            dataset.source.read(example.path)
        except OSError as err:
            broken.append((example.name, "damaged in the zip" in str(err)))
    assert [("1.png", True)] == broken


@pytest.mark.parametrize("place", ["lengths", "contents", "end"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_damage_of_a_member_reads_as_an_os_error(tmp_path: Path, method: int, place: str) -> None:
    """Compressions have errors of their own; other members can be read."""
    location = tmp_path / "set.zip"
    with zipfile.ZipFile(location, "w") as archive:
        archive.writestr("a/1.png", IMAGE, compress_type=method)
        archive.writestr("b/2.png", IMAGE)
        start = len("a/1.png") + 30  # of the member's data, which comes first
        end = start + archive.getinfo("a/1.png").compress_size
    data = bytearray(location.read_bytes())
    if place == "lengths":  # of LZMA's properties, and of bzip2's blocks
        data[start : start + 4] = bytes(4)
    elif place == "contents":
        data[start + 9 : end] = bytes(end - start - 9)
    else:  # the directory says that the member begins where the file ends
        entry = data.index(b"PK\x01\x02")
        data[entry + 42 : entry + 46] = (len(data) + 9).to_bytes(4, "little")
    location.write_bytes(data)

    source = ZipSource(location)

    with pytest.raises(OSError) as caught:
        source.read("a/1.png")
    assert type(caught.value) is OSError
    assert IMAGE == source.read("b/2.png")


ROWS: dict[str, list[Any]] = {
    "path": ["photos/1.png", "photos/2.png", "./photos/sub/3.png", "photos/4.png"],
    "label": ["a", "b", "a", "b"],
}
FILES = {"photos/1.png": IMAGE, "photos/2.png": IMAGE, "photos/sub/3.png": IMAGE, "photos/4.png": IMAGE, "secret": b"x"}


def write_table(folder: Path, kind: str, columns: dict[str, list[Any]]) -> Path:
    """Write a table beside the images it names."""
    write_files(folder, FILES)
    path = folder / f"set.{kind}"
    if kind == "parquet":
        parquet.write_table(pyarrow.table(columns), path)
        return path
    rows = [
        ",".join(columns),
        *(",".join("" if v is None else str(v) for v in row) for row in zip(*columns.values(), strict=True)),
    ]
    path.write_text("\ufeff" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_table_names_images_labels_groups_and_splits(tmp_path: Path, kind: str) -> None:
    """Paths are relative to the table; a number is a label or a group like any other; a BOM from Excel is no matter."""
    location = write_table(
        tmp_path, kind, ROWS | {"group": [7, 7, 8, 9], "split": ["train", "training", "test", "Train"]}
    )

    dataset = ingest(location)

    assert ("a", "b") == dataset.labels
    assert [
        ("photos/1.png", "a", "train", "7"),
        ("photos/2.png", "b", "train", "7"),
        ("photos/4.png", "b", "train", "9"),
        ("photos/sub/3.png", "a", "test", "8"),
    ] == [(e.path, e.label, e.split, e.group) for e in dataset.examples]
    assert IMAGE == dataset.source.read(dataset.examples[0].path)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_table_with_columns_of_other_names(tmp_path: Path, kind: str) -> None:
    """Named columns are found, the others are passed over, whole numbers stay whole."""
    location = write_table(tmp_path, kind, {"file": ROWS["path"], "grade": [0, 1, 0, 1], "age": [61, None, 70, 54]})

    dataset = ingest(location, Data(columns={"path": "file", "label": "grade"}))

    assert ("0", "1") == dataset.labels
    assert {(None, None)} == {(e.group, e.split) for e in dataset.examples}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"label": ["a", None, "a", " "]}, "a label in every row. Received: none in row 2, 4", id="blanks"),
        pytest.param({"path": ["photos/1.png", None, *ROWS["path"][2:]]}, "a path in every row", id="blank-path"),
        pytest.param(
            {"group": ["x", "x", None, "y"]}, "a group in every row. Received: none in row 3", id="blank-group"
        ),
        pytest.param({"split": ["train", "train", "test", None]}, "without a split, others with one", id="blank-split"),
        pytest.param({"split": ["train", "train", "tst", "test"]}, "Received: 'tst' in row 3", id="unknown-split"),
        pytest.param({"patient": [1, 2, 3, 4]}, "unknown: patient", id="unknown-column"),
        pytest.param({"lable": [1, 2, 3, 4]}, "did you mean label", id="misspelt-column"),
        pytest.param(
            {"path": ["photos/9.png", *ROWS["path"][1:]]}, "Received: no file photos/9.png", id="missing-file"
        ),
        pytest.param({"path": ["../set.csv", *ROWS["path"][1:]]}, r"Received: \.\./set\.csv", id="path-outside"),
        pytest.param({"path": ["/etc/hosts", *ROWS["path"][1:]]}, "Received: /etc/hosts", id="absolute-path"),
        pytest.param({"path": [".", *ROWS["path"][1:]]}, r"Received: no file \.", id="folder"),
        pytest.param({"path": ["photos/2.png", *ROWS["path"][1:]]}, "photos/2.png as a and b", id="two-labels"),
        pytest.param({"path": ["photos/sub/3.png", *ROWS["path"][1:]]}, "more than once photos/sub/3.png", id="twice"),
        pytest.param({"label": ["a", "a", "a", "a"]}, "at least two classes. Received: one, a", id="one-class"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, kind: str, change: dict[str, list[Any]], words: str) -> None:
    """Each refusal names the rows, columns or paths; nothing outside the table's folder is touched."""
    location = write_table(tmp_path, kind, ROWS | change)

    with pytest.raises(DatasetError, match=words):
        ingest(location)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        pytest.param("set.csv", b"", "no path; no label", id="empty-csv"),
        pytest.param("set.csv", b"path,label\n", "expected one row an image. Received: no rows", id="no-rows"),
        pytest.param("set.csv", b"path,label\na.png,b,c\n", "2 cells in every row", id="too-many-cells"),
        pytest.param("set.csv", b"path,label\na.png\n", "2 cells in every row", id="too-few-cells"),
        pytest.param("set.csv", b"path,label,label\na.png,b,c\n", "label more than once", id="repeated-column"),
        pytest.param("set.csv", b"path,label\n\xff\xfe,b\n", "a CSV file in UTF-8", id="not-utf-8"),
        pytest.param("set.csv", b"path;label\na.png;b\n", "no file a.png", id="semicolons"),
        pytest.param("set.parquet", b"PAR1 cut", "expected a Parquet file", id="no-parquet"),
    ],
)
def test_files_that_are_no_table_are_refused(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    """A damaged file gets a plain answer."""
    (tmp_path / name).write_bytes(data)

    with pytest.raises(DatasetError, match=words):
        ingest(tmp_path / name)
