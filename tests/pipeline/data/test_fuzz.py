"""Random folders, zips and tables: a set, or a refusal in words; never another exception."""

import contextlib
import os
import tempfile
import warnings
import zipfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.ingest import describe_reading, ingest
from pipeline.errors import DatasetError
from pipeline.recipe.data_settings import Data
from tests.helpers.image_sets import png

IMAGE = png()
PARTS = st.one_of(
    st.sampled_from(
        [
            "train",
            "test",
            "val",
            "training_set",
            "test_set",
            "seg_train",
            "seg_pred",
            "dev",
            "fold1",
            "fold2",
            "cats",
            "dogs",
            "Cats",
            "images",
            "@eaDir",
            "lost+found",
            "._x",
            ".git",
            "a",
            "b",
            "0",
            "1",
            "train.csv",
        ]
    ),
    st.binary(min_size=1, max_size=6)
    .filter(lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b".."))
    .map(os.fsdecode),
)
NAMES = st.tuples(st.lists(PARTS, max_size=4), PARTS, st.sampled_from(["", ".png", ".JPG", ".txt", ".dcm", ".zip"]))
CONTENTS = st.sampled_from([IMAGE, b"", b"text", bytes(128) + b"DICM", b"BM", b"II*\0", b"\0\0\0\x18ftypheic"])
SPLITS = st.one_of(st.none(), st.dictionaries(st.sampled_from(["fold1", "a", "train"]), st.just("train"), max_size=2))


def accepts(location: Path, data: Data) -> None:
    """Read a set, and all of its images."""
    try:
        dataset = ingest(location, data)
    except DatasetError as err:
        str(err).encode()
        return
    "\n".join([*describe_reading(dataset), *dataset.labels]).encode()
    for example in dataset.examples:
        example.path.encode()
        dataset.source.read(example.path)


@settings(max_examples=150)
@given(st.lists(st.tuples(NAMES, CONTENTS), max_size=12), st.lists(st.tuples(PARTS, PARTS), max_size=3), SPLITS)
def test_folders(files: list, links: list, splits: dict | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder, "set")
        top.mkdir()
        for (folders, name, suffix), content in files:
            try:
                path = top.joinpath(*folders, name + suffix)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            except OSError:  # a file stands where a folder is wanted
                continue
        for name, target in links:
            if not (top / name).exists() and not (top / name).is_symlink():
                (top / name).symlink_to(target)
        accepts(top, Data(splits=splits))


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.text(max_size=20), CONTENTS), max_size=8),
    st.sampled_from([None, "gbk", "cp437", "shift_jis"]),
    st.binary(max_size=30),
    st.integers(0, 400),
)
def test_zips(files: list, encoding: str | None, noise: bytes, place: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        location = Path(folder, "set.zip")
        with zipfile.ZipFile(location, "w") as archive, warnings.catch_warnings(action="ignore"):
            for number, (name, content) in enumerate(files):
                info = zipfile.ZipInfo(f"{'ab'[number % 2]}/{number}.png")
                info.filename = name.encode("utf-8", "replace").decode() or info.filename
                archive.writestr(info, content)
        data = bytearray(location.read_bytes())
        start = max(0, len(data) - place)  # the directory is at the end
        data[start : start + len(noise)] = noise
        location.write_bytes(data)
        with contextlib.suppress(OSError):  # a damaged member, which the audit names
            accepts(location, Data(zip_encoding=encoding))


CELLS = st.one_of(
    st.sampled_from(["a.png", "b.png", "../x", "/etc", "a", "1.0", "[1]", "", "a b", "\0"]), st.text(max_size=5)
)
HEADERS = st.sampled_from(["path,label", "path;label", ",path,label", "path,label,split,group", "a,b", "path", ""])


@settings(max_examples=150)
@given(
    HEADERS,
    st.lists(st.lists(CELLS, max_size=4).map(",".join), max_size=6),
    st.sampled_from(["utf-8", "utf-16", "utf-8-sig", "utf-16-le"]),
    st.binary(max_size=4),
    st.sampled_from(["csv", "tsv", "parquet"]),
)
def test_tables(header: str, rows: list[str], encoding: str, noise: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.png", "b.png"):
            Path(folder, name).write_bytes(IMAGE)
        location = Path(folder, f"set.{suffix}")
        location.write_bytes("\n".join([header, *rows]).encode(encoding, "replace") + noise)
        accepts(location, Data())
