"""contract/store.py: a store that serves what it served before, whatever happens to a writer."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from contract.errors import LiveChangedError, StoreError
from contract.files.durable import sync_directory
from contract.store import ModelEntry, ModelStore
from contract.tensors import model_server_config_pb2
from tests.helpers.killed_publisher import publish_and_die


@pytest.fixture(name="store")
def fixture_store(tmp_path: Path) -> ModelStore:
    """A store that does not exist yet."""
    return ModelStore(tmp_path / "models")


def publish(store: ModelStore, name: str = "eyes", **options: Any) -> int:
    with store.staging() as directory:
        (directory / "saved_model.pb").write_bytes(b"model")
        (directory / "variables").mkdir()
        return store.publish(name, directory, **options)


def configured(store: ModelStore) -> dict[str, list[int]]:
    """The versions that a server would load."""
    config = text_format.Parse(store.config_path.read_text(), model_server_config_pb2.ModelServerConfig())
    return {item.name: list(item.model_version_policy.specific.versions) for item in config.model_config_list.config}


def test_absent_store_is_empty(store: ModelStore) -> None:
    """Reading makes nothing."""
    assert {} == store.read_index()
    assert not store.root.exists()


def test_ensure_makes_a_config_that_servers_can_read(store: ModelStore) -> None:
    """An empty store has an empty config, not a missing one."""
    store.ensure()

    assert {} == configured(store)


def test_first_version_is_live_and_second_moves_it_to_previous(store: ModelStore) -> None:
    """Roles follow publication, and the config lists what has a role."""
    publish(store)
    assert ModelEntry(live=1, highest=1) == store.read_index()["eyes"]

    publish(store)
    assert ModelEntry(live=2, previous=1, highest=2) == store.read_index()["eyes"]
    assert {"eyes": [1, 2]} == configured(store)

    publish(store)
    assert {"eyes": [2, 3]} == configured(store)


def test_candidate_is_loaded_but_not_live(store: ModelStore) -> None:
    """A version published with live=False waits for promote."""
    publish(store)
    publish(store, live=False)
    assert ModelEntry(live=1, candidate=2, highest=2) == store.read_index()["eyes"]
    assert {"eyes": [1, 2]} == configured(store)

    assert ModelEntry(live=2, previous=1, highest=2) == store.promote("eyes")


def test_first_version_may_stay_candidate(store: ModelStore) -> None:
    """It is loaded, but not live until it is promoted; a better one that comes first becomes live."""
    publish(store, live=False)
    assert ModelEntry(candidate=1, highest=1) == store.read_index()["eyes"]
    assert {"eyes": [1]} == configured(store)
    with pytest.raises(StoreError, match=r"eyes has no live version; version 1 is a candidate.* promote eyes 1$"):
        store.resolve("eyes")
    assert ("eyes", 1) == store.resolve("eyes/candidate")
    with pytest.raises(StoreError, match="no previous"):
        store.rollback("eyes")

    assert ModelEntry(live=1, highest=1) == store.promote("eyes")
    assert (1, 1) == (store.read_index()["eyes"].first, store.read_index()["eyes"].promoted)

    publish(store, "nose", live=False)
    publish(store, "nose")
    assert ModelEntry(live=2, highest=2) == store.read_index()["nose"]


def test_any_version_can_be_promoted_by_its_number(store: ModelStore) -> None:
    """The candidate stays unless it is the one; what is live already, or not there, is refused."""
    for live in (True, True, True, False):
        publish(store, live=live)

    assert ModelEntry(live=1, previous=3, candidate=4, highest=4) == store.promote("eyes", 1)
    assert {"eyes": [1, 3, 4]} == configured(store)
    assert ModelEntry(live=4, previous=1, highest=4) == store.promote("eyes", 4)
    with pytest.raises(StoreError, match="eyes/4 is live already"):
        store.promote("eyes", 4)
    with pytest.raises(StoreError, match=r"expected one of the versions 1, 2, 3, 4\. Received: 5"):
        store.promote("eyes", 5)


def test_anchor_is_the_version_last_promoted_else_the_first(store: ModelStore) -> None:
    """A version that was rolled back is none; the first one stands in for a promoted one."""
    for live in (True, True, False):
        publish(store, live=live)
    assert 1 == store.read_index()["eyes"].anchor

    assert 3 == store.promote("eyes").anchor
    publish(store)
    assert 3 == store.read_index()["eyes"].anchor

    store.rollback("eyes")  # 4 is left: it was no anchor
    assert (3, 3) == (store.read_index()["eyes"].live, store.read_index()["eyes"].anchor)
    assert 1 == store.rollback("eyes").anchor  # 3 is left
    publish(store)
    publish(store)
    assert 1 == store.read_index()["eyes"].anchor

    store.promote("eyes", 1)
    assert store.rollback("eyes").anchor is None


def test_index_of_an_earlier_version_has_version_1_as_first(store: ModelStore) -> None:
    """Every first version was live then; readers of today's index that know no anchor pass it over."""
    publish(store)
    publish(store)
    document = json.loads((store.root / "index.json").read_text())
    assert 1 == document["models"]["eyes"]["first"]
    for field in ("first", "promoted"):
        del document["models"]["eyes"][field]
    (store.root / "index.json").write_text(json.dumps(document))

    assert 1 == store.read_index()["eyes"].anchor


def test_rollback_twice_changes_nothing(store: ModelStore) -> None:
    """Rollback swaps live and previous."""
    publish(store)
    publish(store)

    assert ModelEntry(live=1, previous=2, highest=2) == store.rollback("eyes")
    assert ModelEntry(live=2, previous=1, highest=2) == store.rollback("eyes")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda s: s.promote("eyes"), "no candidate", id="promote"),
        pytest.param(lambda s: s.rollback("eyes"), "no previous", id="rollback"),
        pytest.param(lambda s: s.rollback("nose"), "no model 'nose'", id="unknown"),
        pytest.param(lambda s: publish(s, "../eyes"), "model name", id="name"),
        pytest.param(lambda s: s.read_contract("eyes", 7), "no contract for eyes/7", id="contract"),
    ],
)
def test_impossible_changes_say_why(store: ModelStore, change: Callable[[ModelStore], object], words: str) -> None:
    """A refused change names the reason and leaves the store as it was."""
    publish(store)

    with pytest.raises(StoreError, match=words):
        change(store)
    assert ModelEntry(live=1, highest=1) == store.read_index()["eyes"]
    assert [] == list((store.root / ".staging").iterdir())


def test_version_numbers_never_come_back(store: ModelStore) -> None:
    """A folder that a killed writer left behind uses its number up, and so does a deleted version."""
    publish(store)
    (store.root / "eyes" / "5").mkdir()

    assert 6 == publish(store)
    assert {"eyes": [1, 6]} == configured(store)


def test_only_existing_versions_are_configured(store: ModelStore) -> None:
    """TensorFlow Serving unloads everything when a listed version does not exist, so none is listed."""
    publish(store)
    publish(store)
    (store.version_path("eyes", 1) / "saved_model.pb").unlink()

    store.ensure()

    assert {"eyes": [2]} == configured(store)


def test_modes_let_containers_read(store: ModelStore) -> None:
    """Folders are 0755 and files 0644, whatever the umask was."""
    before = os.umask(0o077)
    try:
        publish(store)
    finally:
        os.umask(before)

    version = store.version_path("eyes", 1)
    assert 0o755 == version.stat().st_mode & 0o777
    assert 0o755 == (version / "variables").stat().st_mode & 0o777
    assert 0o644 == (version / "saved_model.pb").stat().st_mode & 0o777
    assert 0o644 == store.config_path.stat().st_mode & 0o777


def test_failing_body_publishes_nothing(store: ModelStore) -> None:
    """An error while a version is being written leaves no trace of it."""
    publish(store)

    with pytest.raises(RuntimeError), store.staging() as directory:
        (directory / "half").write_bytes(b"")
        raise RuntimeError

    assert [] == list((store.root / ".staging").iterdir())
    assert ModelEntry(live=1, highest=1) == store.read_index()["eyes"]


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"format": 1}', '{"format": 9, "models": {}}', '{"format": 1, "models": {"eyes": {"live": "one"}}}'],
    ids=["cut", "list", "no-models", "format", "version"],
)
def test_broken_index_is_an_error_not_an_empty_store(store: ModelStore, text: str) -> None:
    """A store that cannot be read must not be taken for one without models."""
    store.ensure()
    (store.root / "index.json").write_text(text)

    with pytest.raises(StoreError, match=r"index\.json"):
        store.read_index()


def test_newer_fields_in_the_index_are_passed_over(store: ModelStore) -> None:
    """An older Fovea can read a newer one's index of the same format."""
    publish(store)
    path = store.root / "index.json"
    document = json.loads(path.read_text())
    document["models"]["eyes"]["canary"] = 3
    path.write_text(json.dumps(document))

    assert ModelEntry(live=1, highest=1) == store.read_index()["eyes"]


def _publish_many(root: Path, times: int) -> list[int]:
    store = ModelStore(root)
    return [publish(store) for _ in range(times)]


def test_two_publishers_get_different_versions(store: ModelStore) -> None:
    """Two processes publishing at once both finish, and no number is used twice."""
    with get_context("spawn").Pool(2) as pool:
        results = pool.starmap(_publish_many, [(store.root, 5)] * 2)

    assert list(range(1, 11)) == sorted(results[0] + results[1])
    assert 10 == store.read_index()["eyes"].live


def test_kill_at_any_step_of_publish_leaves_the_store_serving(store: ModelStore) -> None:
    """Kill -9 before each file system change in turn: old or new version live, config readable, next publish works."""
    publish(store)
    killed = 0
    for step in range(1, 40):
        process = publish_and_die(store, step=step)
        entry = store.read_index()["eyes"]
        assert (store.version_path("eyes", entry.live or 0) / "saved_model.pb").is_file()
        listed = configured(store)["eyes"]
        assert listed
        assert all((store.version_path("eyes", version) / "saved_model.pb").is_file() for version in listed)
        if process.returncode == 0:
            break
        assert -signal.SIGKILL == process.returncode, process.stderr.decode()
        killed += 1

    assert killed >= 5
    assert publish(store) == store.read_index()["eyes"].live
    assert [] == list((store.root / ".staging").iterdir())


def test_full_disk_is_a_clear_error_and_changes_nothing(tmp_path: Path) -> None:
    """On a file system without room, publish fails with the reason and what was served goes on being served."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        store = ModelStore(mount / "models")
        publish(store)
        filler = mount / "filler"
        with store.staging() as directory:
            (directory / "saved_model.pb").write_bytes(b"model")
            with pytest.raises(OSError, match="No space"):
                filler.write_bytes(b"0" * 512 * 1024)
            with pytest.raises(StoreError, match="No space left"):
                store.publish("eyes", directory)
        assert ModelEntry(live=1, highest=1) == store.read_index()["eyes"]
        assert {"eyes": [1]} == configured(store)
        filler.unlink()
        assert 2 == publish(store)
    finally:
        subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.timeout(60)
def test_a_pipe_in_place_of_the_lock_is_refused_at_once(store: ModelStore) -> None:
    store.root.mkdir()
    os.mkfifo(store.root / ".lock")

    with pytest.raises(StoreError, match=r"models cannot be written: expected a regular file\. Received: a pipe"):
        publish(store)


@pytest.mark.timeout(60)
def test_a_pipe_among_staging_folders_is_passed_over(store: ModelStore) -> None:
    publish(store)
    os.mkfifo(store.root / ".staging" / "pipe")

    assert 2 == publish(store)


def test_staging_folders_of_living_writers_are_kept(store: ModelStore) -> None:
    """Cleaning up after the dead must not touch what another process is writing right now."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom contract.store import ModelStore\n"
        "with ModelStore(Path(sys.argv[1])).staging() as directory:\n"
        "    print(directory, flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(store.root)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        directory = Path(process.stdout.readline().strip())
        publish(store)
        assert directory.is_dir()

        process.kill()
        process.wait(60)
        deadline = time.monotonic() + 120
        while directory.is_dir() and time.monotonic() < deadline:
            publish(store)
        assert not directory.is_dir()


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("eyes", ("eyes", 3)),
        ("eyes/live", ("eyes", 3)),
        ("eyes/previous", ("eyes", 2)),
        ("eyes/candidate", ("eyes", 4)),
        ("eyes/1", ("eyes", 1)),
    ],
)
def test_references_name_a_version(store: ModelStore, reference: str, expected: tuple[str, int]) -> None:
    """A model alone means its live version; roles and numbers follow a slash."""
    for live in (True, True, True, False):
        publish(store, live=live)

    assert expected == store.resolve(reference)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nose", "no model 'nose'"),
        ("eyes/7", "expected eyes, or eyes/ with one of 1, live, previous, candidate"),
        ("eyes/01", "Received: '01'"),
        ("eyes/1/2", "Received: '1/2'"),
        ("eyes/previous", "no previous version"),
        ("../eyes", "model name"),
    ],
)
def test_references_to_nothing_say_what_there_is(store: ModelStore, reference: str, words: str) -> None:
    """The error lists what could have been meant."""
    publish(store)

    with pytest.raises(StoreError, match=words):
        store.resolve(reference)


def test_removing_keeps_the_number_used(store: ModelStore) -> None:
    """A deleted version is gone whole, what servers load is unchanged, and its number never comes back."""
    for _ in range(3):
        publish(store)
    before = store.config_path.read_text()

    store.remove("eyes", 1)

    assert (2, 3) == store.read_versions("eyes")
    assert before == store.config_path.read_text()
    assert [] == list((store.root / ".staging").iterdir())
    assert 4 == publish(store)


def test_removing_what_a_killed_writer_left_uses_its_number_up(store: ModelStore) -> None:
    """The number of a folder that the index does not know is written down before the folder goes."""
    publish(store)
    (store.root / "eyes" / "5").mkdir()

    store.remove("eyes", 5)

    assert 6 == publish(store)


@pytest.mark.parametrize(
    ("version", "words"),
    [(1, "is previous"), (2, "is live"), (3, "is candidate"), (9, "no version 9")],
    ids=["previous", "live", "candidate", "absent"],
)
def test_versions_with_a_role_cannot_be_removed(store: ModelStore, version: int, words: str) -> None:
    """Versions that servers load stay."""
    for live in (True, True, False):
        publish(store, live=live)

    with pytest.raises(StoreError, match=words):
        store.remove("eyes", version)
    assert (1, 2, 3) == store.read_versions("eyes")


def test_a_judgement_by_an_old_live_version_does_not_count(store: ModelStore) -> None:
    """When another version became live since the decision, nothing is published, and deciding again works."""
    publish(store)
    seen = store.read_index()["eyes"]
    publish(store)

    with store.staging() as directory:
        (directory / "saved_model.pb").write_bytes(b"model")
        with pytest.raises(LiveChangedError, match="version 1 to be live still"):
            store.publish("eyes", directory, judged_against=seen)
        assert 3 == store.publish("eyes", directory, judged_against=store.read_index()["eyes"])


@pytest.mark.parametrize("interrupted", [True, False], ids=["ctrl-c", "disk"])
def test_a_version_that_the_index_names_stays(
    store: ModelStore, interrupted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C, or a disk that fails, while the replaced index is pushed to the disk: the version is live already."""
    publish(store)
    failures: list[BaseException] = [KeyboardInterrupt() if interrupted else OSError(errno.EIO, "no answer")]

    def fail_once(path: Path) -> None:
        if failures:
            raise failures.pop()
        sync_directory(path)

    monkeypatch.setattr("contract.files.durable.sync_directory", fail_once)
    numbers: list[int] = []
    with pytest.raises(KeyboardInterrupt if interrupted else StoreError) as caught:
        publish(store, told=numbers.append)

    assert [2] == numbers
    assert ModelEntry(live=2, previous=1, highest=2) == store.read_index()["eyes"]
    assert (store.version_path("eyes", 2) / "saved_model.pb").is_file()
    if interrupted:
        assert {"eyes": [1, 2]} == configured(store)
    else:
        assert "eyes/2 is published, as index.json says, but models.config" in str(caught.value)
        assert "no answer" in str(caught.value)
    assert 3 == publish(store)
    assert {"eyes": [2, 3]} == configured(store)


def test_a_version_stays_where_the_index_cannot_be_read(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the live one."""
    publish(store)

    def fail(path: Path) -> None:
        (path / "index.json").write_text("{")
        raise OSError(errno.EIO, "no answer")

    monkeypatch.setattr("contract.files.durable.sync_directory", fail)
    with pytest.raises(StoreError, match="no answer"):
        publish(store)

    assert (1, 2) == store.read_versions("eyes")


def test_a_folder_that_cannot_be_pushed_to_the_disk_is_no_version(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version's folder is there already, the index does not name it: it goes again."""
    publish(store)

    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "no answer")

    with monkeypatch.context() as patch, pytest.raises(StoreError, match="cannot be written: no answer"):
        patch.setattr("contract.store.sync_directory", fail)
        publish(store)

    assert (1,) == store.read_versions("eyes")
    assert 2 == publish(store)


def test_a_list_for_servers_that_cannot_be_written_is_named(store: ModelStore) -> None:
    """What the index says has happened all the same; the next change writes the list."""
    publish(store)
    store.config_path.unlink()
    (store.config_path / "in the way").mkdir(parents=True)

    with pytest.raises(StoreError, match=r"^eyes/2 is published, as index\.json says, but models\.config.* up to date"):
        publish(store)
    with pytest.raises(StoreError, match=r"^eyes: live is version 1, as index\.json says, but models\.config"):
        store.rollback("eyes")

    assert ModelEntry(live=1, previous=2, highest=2) == store.read_index()["eyes"]
    (store.config_path / "in the way").rmdir()
    store.config_path.rmdir()
    store.rollback("eyes")
    assert ModelEntry(live=2, previous=1, highest=2) == store.read_index()["eyes"]
    assert {"eyes": [1, 2]} == configured(store)
