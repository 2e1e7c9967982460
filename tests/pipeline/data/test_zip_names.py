"""pipeline/data/zip_source.py: names as Windows programs write them, and files that are no zip of images."""

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from pipeline.data.ingest import ingest
from pipeline.errors import DatasetError
from pipeline.recipe.data_settings import Data
from tests.helpers.image_sets import png

IMAGE = png()
FLAG = 0x800


def write_raw_zip(path: Path, names: list[bytes], *, flagged: bool = False, extras: bool = False) -> Path:
    """Write a zip whose members have these bytes for names, as programs write them that know no UTF-8."""
    with zipfile.ZipFile(path, "w") as archive:
        for i, name in enumerate(names):
            info = zipfile.ZipInfo(chr(65 + i) * len(name))
            if extras:
                text = name.decode("gbk").encode()
                field = struct.pack("<BI", 1, zlib.crc32(name)) + text
                info.extra = struct.pack("<HH", 0x7075, len(field)) + field
            archive.writestr(info, b"" if name.endswith((b"/", b"\\")) else IMAGE)
    data = path.read_bytes()
    for i, name in enumerate(names):
        data = data.replace(chr(65 + i).encode() * len(name), name)
    if flagged:
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            data = b"".join(
                part if not n else signature + part[: offset - 4] + struct.pack("<H", FLAG) + part[offset - 2 :]
                for n, part in enumerate(data.split(signature))
            )
    path.write_bytes(data)
    return path


def names_of(encoding: str, *labels: str) -> list[bytes]:
    return [f"set/{label}/{i}.png".encode(encoding) for i, label in enumerate(labels)]


def test_backslashes_separate_folders(tmp_path: Path) -> None:
    """PowerShell 5.1 writes them, folders included."""
    names = [rb"set\a" + b"\\", rb"set\a\1.png", rb"set\b\xff\2.png", rb"set\b\3.png"]
    location = write_raw_zip(tmp_path / "set.zip", names)

    dataset = ingest(location)

    assert [("a", "1.png"), ("b", "3.png"), ("b", "xff/2.png")] == [(e.label, e.name) for e in dataset.examples]
    assert {IMAGE} == {dataset.source.read(example.path) for example in dataset.examples}


@pytest.mark.parametrize("name", [rb"set\..\..\evil.png", rb"\etc\1.png", rb"C:\set\a\1.png", rb"\\server\a\1.png"])
def test_backslashes_outside_the_archive_are_refused(tmp_path: Path, name: bytes) -> None:
    location = write_raw_zip(tmp_path / "set.zip", [b"a/1.png", b"b/2.png", name])

    with pytest.raises(DatasetError, match="expected paths inside the archive"):
        ingest(location)


@pytest.mark.parametrize(
    ("encoding", "labels"),
    [
        ("gbk", ("青光眼", "正常")),
        ("shift_jis", ("緑内障", "表示")),  # the second byte of 表 is a backslash
        ("big5", ("青光眼", "正常")),
        ("euc_kr", ("녹내장", "정상")),
        ("cp437", ("größer", "normal")),
        ("cp850", ("größer", "Øre")),
        ("cp1252", ("größer", "normal")),
        ("cp866", ("глаукома", "норма")),
    ],
)
def test_class_names_of_unknown_encoding_are_never_guessed(
    tmp_path: Path, encoding: str, labels: tuple[str, str]
) -> None:
    """The error shows how the name reads in each encoding; the one that is named gives the classes."""
    location = write_raw_zip(tmp_path / "set.zip", names_of(encoding, *labels))

    with pytest.raises(DatasetError, match="--zip-encoding") as refused:
        ingest(location)

    assert f"'{labels[0]}' in " in str(refused.value)
    dataset = ingest(location, Data(zip_encoding=encoding))
    assert tuple(sorted(labels)) == dataset.labels
    assert {IMAGE} == {dataset.source.read(example.path) for example in dataset.examples}


@pytest.mark.parametrize("labels", [("青光眼", "正常"), ("größer", "normal")])
@pytest.mark.parametrize("flagged", [True, False])
def test_utf_8_is_read_with_and_without_its_mark(tmp_path: Path, labels: tuple[str, str], *, flagged: bool) -> None:
    """The archiver of macOS writes no mark."""
    location = write_raw_zip(tmp_path / "set.zip", names_of("utf-8", *labels), flagged=flagged)

    assert tuple(sorted(labels)) == ingest(location).labels


def test_unicode_extra_field_is_read(tmp_path: Path) -> None:
    """WinRAR and Info-ZIP write the name a second time."""
    location = write_raw_zip(tmp_path / "set.zip", names_of("gbk", "青光眼", "正常"), extras=True)

    assert ("正常", "青光眼") == ingest(location).labels


@pytest.mark.parametrize("encoding", ["gbk", "shift_jis", "utf-8"])
def test_names_that_another_program_has_garbled(tmp_path: Path, encoding: str) -> None:
    """Names that were read as code page 437 and packed again, marked as UTF-8, are no class names either."""
    garbled = [name.decode("cp437").encode() for name in names_of(encoding, "緑内障", "正常")]
    location = write_raw_zip(tmp_path / "set.zip", garbled, flagged=True)

    if encoding != "utf-8":
        with pytest.raises(DatasetError, match=f"'緑内障' in {encoding}.*--zip-encoding"):
            ingest(location)
    assert ("正常", "緑内障") == ingest(location, Data(zip_encoding=encoding)).labels


def test_encoding_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    location = write_raw_zip(tmp_path / "set.zip", names_of("cp1252", "größer", "normal"))

    with pytest.raises(
        DatasetError, match=r"expected names in utf-8 \(data.zip_encoding\). Received: set/gr\\xf6\\xdf"
    ):
        ingest(location, Data(zip_encoding="utf-8"))


def test_file_names_of_unknown_encoding_are_escaped(tmp_path: Path) -> None:
    """They are no classes: the bytes are written down, and said."""
    location = write_raw_zip(tmp_path / "set.zip", [b"a/gr\xfcn.png", b"b/1.png"])

    dataset = ingest(location)

    assert "a/gr\\xfcn.png" == dataset.examples[0].path
    assert IMAGE == dataset.source.read("a/gr\\xfcn.png")
    assert ("names that are not UTF-8 are written with their bytes: a/gr\\xfcn.png",) == dataset.notes


def test_mark_of_utf_8_on_other_bytes_is_refused(tmp_path: Path) -> None:
    location = write_raw_zip(tmp_path / "set.zip", [b"a/gr\xfcn.png", b"b/1.png"], flagged=True)

    with pytest.raises(DatasetError, match="expected names in UTF-8, as they are marked"):
        ingest(location)


def test_path_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    location = write_raw_zip(tmp_path / "set.zip", [b"a/1.png", rb"a\1.png", b"b/2.png"])

    with pytest.raises(DatasetError, match=r"expected every path once. Received: 'a/1\.png'"):
        ingest(location)


def test_compression_that_is_not_read_is_named(tmp_path: Path) -> None:
    """Windows takes Deflate64 for files over 2 GB."""
    location = write_raw_zip(tmp_path / "set.zip", [b"a/1.png", b"b/2.png"])
    data = bytearray(location.read_bytes())
    data[data.index(b"PK\x01\x02") + 10] = 9
    location.write_bytes(data)

    with pytest.raises(DatasetError, match=r"'a/1\.png' by Deflate64; unpack it"):
        ingest(location)


def tar(mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        info = tarfile.TarInfo("a/1.png")
        info.size = len(IMAGE)
        archive.addfile(info, io.BytesIO(IMAGE))
    return buffer.getvalue()


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("set.tar.gz", tar("w:gz"), "a gzip archive; unpack it"),
        ("set.tgz", tar("w:gz"), "a gzip archive; unpack it"),
        ("set.tar", tar("w"), "a tar archive; unpack it"),
        ("set.tar.xz", tar("w:xz"), "an xz archive; unpack it"),
        ("set.tar.bz2", tar("w:bz2"), "a bzip2 archive; unpack it"),
        ("set.7z", b"7z\xbc\xaf\x27\x1c" + bytes(50), "a 7z archive; unpack it"),
        ("set.rar", b"Rar!\x1a\x07\x01\x00", "a RAR archive; unpack it"),
        ("set.rar", b"", "a .rar file; unpack it"),
        ("set.xlsx", zipped("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook; save its table as CSV"),
        ("set.zip", zipped("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook"),
        ("set.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "such as .xls"),
        ("set.ods", zipped("mimetype", "content.xml"), "an OpenDocument file"),
        ("set.npz", zipped("x.npy", "y.npy"), "NumPy arrays"),
        ("set.json", b"{}", "File is not a zip file"),
    ],
)
def test_other_containers_are_named(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    """The error says which containers are read."""
    (tmp_path / name).write_bytes(data)

    with pytest.raises(
        DatasetError, match=r"expected a folder or a zip, or a table \(.csv, .tsv, .parquet\)"
    ) as refused:
        ingest(tmp_path / name)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (("train.csv", "images/1.png", "images/2.png"), "a table (train.csv), which is not read from a zip: unpack it"),
        (("inner.zip",), "archives (inner.zip), which are not read from within"),
        (("a/b.tar.gz", "notes.txt"), "archives (a/b.tar.gz)"),
    ],
)
def test_table_or_archive_in_a_zip_is_named(tmp_path: Path, members: tuple[str, ...], words: str) -> None:
    location = tmp_path / "set.zip"
    with zipfile.ZipFile(location, "w") as archive:
        for name in members:
            archive.writestr(name, IMAGE if name.endswith(".png") else b"path,label\n")

    with pytest.raises(DatasetError) as refused:
        ingest(location)
    assert words in str(refused.value)
