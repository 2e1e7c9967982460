"""pipeline/data/names.py: names that are not UTF-8, and names that look alike."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.ingest import ingest
from pipeline.data.names import escape_name, find_twins, unescape_name
from pipeline.errors import DatasetError
from tests.helpers.image_sets import png, write_files

IMAGE = png()


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_escaped_names_can_be_written_and_lead_back(name: bytes) -> None:
    """Whatever the bytes of a name are."""
    text = os.fsdecode(name)

    escaped = escape_name(text)

    escaped.encode()
    assert text == unescape_name(escaped)


@given(st.text().filter(lambda name: "\\x" not in name))
def test_names_that_are_utf_8_stay_as_they_are(name: str) -> None:
    assert name == escape_name(name)


@pytest.mark.parametrize("name", ["grün.png".encode("latin-1"), "眼底.png".encode("gbk"), b"lone \x80.png"])
def test_file_names_that_are_not_utf_8_are_read(tmp_path: Path, name: bytes) -> None:
    """The path of the example is text, and leads to the file; the name is said."""
    folder = write_files(tmp_path / "set", {"a/1.png": IMAGE, "b/2.png": IMAGE})
    (folder / "a" / "1.png").rename(folder / "a" / os.fsdecode(name))

    dataset = ingest(folder)

    path = "a/" + name.decode("utf-8", "backslashreplace")
    assert path == dataset.examples[0].path
    assert IMAGE == dataset.source.read(path)
    assert (f"names that are not UTF-8 are written with their bytes: {path}",) == dataset.notes


def test_class_folder_that_is_not_utf_8(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "set", {"a/1.png": IMAGE, os.fsdecode(b"gr\xfcn") + "/2.png": IMAGE})

    assert ("a", "gr\\xfcn") == ingest(folder).labels


TWINS = [
    pytest.param("caf\u00e9", "cafe\u0301", id="unicode-form"),
    pytest.param("Cat", "cat", id="case"),
    pytest.param("\u00c9tat", "e\u0301tat", id="form-and-case"),
    pytest.param("cat", "cat ", id="trailing-blank"),
    pytest.param("cat", " cat", id="leading-blank"),
    pytest.param("big cat", "big  cat", id="two-blanks"),
    pytest.param("big cat", "big\u00a0cat", id="no-break-space"),
    pytest.param("cat", "cat\u200b", id="invisible"),
    pytest.param("\u0418\u0306од", "\u0419од", id="cyrillic"),
    pytest.param("\ud55c", "\u1112\u1161\u11ab", id="hangul"),
]


@pytest.mark.parametrize(("one", "other"), TWINS)
@pytest.mark.parametrize("split", [False, True], ids=["classes", "train-and-test"])
def test_classes_that_look_alike_are_refused(tmp_path: Path, one: str, other: str, *, split: bool) -> None:
    """The error shows both with their code points."""
    files = {f"{one}/1.png": IMAGE, f"{other}/2.png": IMAGE, "b/3.png": IMAGE}
    if split:
        files = {f"train/{one}/1.png": IMAGE, "train/b/3.png": IMAGE, f"test/{other}/2.png": IMAGE}

    with pytest.raises(DatasetError, match="differ in more than Unicode form, case or blanks") as refused:
        ingest(write_files(tmp_path / "set", files))
    for name in (one, other):
        assert " ".join(f"U+{ord(character):04X}" for character in name) in str(refused.value)


def test_other_names_are_no_twins() -> None:
    assert [] == find_twins(["Maße", "Masse", "a", "b", "1", "10", "x²", "x2"])
