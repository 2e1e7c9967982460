"""feature_store.py: features survive kills, full disks and other runs, and stay within their limit."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import CacheError
from pipeline.features.feature_store import FeatureStore, make_key

SHAPE = (100,)
RECORD = 64 + 2 * 100


def store(folder: Path, *, network: str = "network", max_bytes: int = 10**9) -> FeatureStore:
    return FeatureStore(folder, network, shape=SHAPE, max_bytes=max_bytes)


def keys(count: int, view: str = "original") -> list[str]:
    return [make_key(f"{i:064x}", view) for i in range(count)]


def values(count: int, seed: int = 0) -> NDArray[np.float16]:
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float16)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """While it lasts, the system refuses to let a file grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def no_more_files() -> Iterator[None]:
    """While it lasts, this process may not open another file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)  # the lowest number
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_features_are_found_again(tmp_path: Path) -> None:
    """A store reads the rows that another one wrote, in any order, for the same network only."""
    first = store(tmp_path)
    first.add(keys(5), values(5))
    first.add(keys(3, "other"), values(3, 1))

    second = store(tmp_path)

    assert all(key in second for key in keys(5) + keys(3, "other"))
    assert keys(6)[5] not in second
    np.testing.assert_array_equal(values(5)[[4, 0]], second.batch([keys(5)[4], keys(5)[0]]))
    np.testing.assert_array_equal(values(3, 1), second.batch(keys(3, "other")))
    assert keys(1)[0] not in store(tmp_path, network="another")


def test_features_of_another_shape_are_not_used(tmp_path: Path) -> None:
    """A segment that does not hold what the network computes is left alone, with a warning."""
    store(tmp_path).add(keys(5), values(5))

    other = FeatureStore(tmp_path, "network", shape=(50,), max_bytes=10**9)

    assert keys(1)[0] not in other


def test_damaged_segment_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file cut short by a crash of the machine is reported, and its features count as missing."""
    store(tmp_path).add(keys(5), values(5))
    store(tmp_path).add(keys(5, "other"), values(5))
    damaged, _ = sorted(tmp_path.glob("network/*.npy"))
    damaged.write_bytes(damaged.read_bytes()[:300])

    again = store(tmp_path)

    assert 5 == sum(key in again for key in keys(5) + keys(5, "other"))
    assert f"{damaged} is damaged" in caplog.text


def test_longest_unused_features_make_room(tmp_path: Path) -> None:
    """At the limit, segments that no run has opened for longest go; those in use stay."""
    limit = 25 * RECORD
    for i, network in enumerate(("oldest", "old", "own")):
        store(tmp_path, network=network).add(keys(5), values(5))
        (segment,) = tmp_path.glob(f"{network}/*.npy")
        os.utime(segment, (time.time() - 1000 + i,) * 2)

    own = store(tmp_path, network="own", max_bytes=limit)
    room = own.make_room(10)

    assert room
    assert ["old", "own"] == sorted(path.parent.name for path in tmp_path.glob("*/*.npy"))


def test_too_much_for_the_limit_deletes_nothing(tmp_path: Path) -> None:
    """If the features do not fit even alone, none are given up for them."""
    store(tmp_path, network="old").add(keys(5), values(5))

    assert not store(tmp_path, max_bytes=20 * RECORD).make_room(100)
    assert 1 == len(list(tmp_path.glob("old/*.npy")))


def test_full_disk_is_named_and_leaves_what_was_there(tmp_path: Path) -> None:
    """A write that the system refuses is an error that says how to go on, and going on works."""
    features = store(tmp_path)
    features.add(keys(5), values(5))

    with largest_file(4096), pytest.raises(CacheError, match=r"the disk is full.*kept for the next run") as caught:
        features.add(keys(500, "other"), values(500))

    assert "cache.features=false" in str(caught.value)
    assert 1 == len(list(tmp_path.glob("network/*")))
    features.add(keys(500, "other"), values(500))
    assert all(key in store(tmp_path) for key in keys(5) + keys(500, "other"))


def test_what_is_no_file_is_not_called_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Only what was read and found to be wrong is."""
    (tmp_path / "network/folder.npy").mkdir(parents=True)
    (tmp_path / "network/empty.npy").touch()

    store(tmp_path)

    assert "folder.npy cannot be read and is not used; its features are computed again: Is a directory" in caplog.text
    assert "folder.npy is damaged" not in caplog.text
    assert "empty.npy is damaged" in caplog.text


MANY = """
import resource, sys
from pathlib import Path
import numpy as np
from pipeline.features.feature_store import FeatureStore, make_key
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
features = FeatureStore(Path(sys.argv[1]), "network", shape=(100,), max_bytes=10**9)
keys = [make_key(f"{i:064x}", "original") for i in range(200)]
for i, key in enumerate(keys):
    features.add([key], np.full((1, 100), i, np.float16))
for one in (features, FeatureStore(Path(sys.argv[1]), "network", shape=(100,), max_bytes=10**9)):
    np.testing.assert_array_equal(np.arange(200), one.batch(keys)[:, 0])
"""


def test_a_store_has_more_segments_than_a_process_may_open_files(tmp_path: Path) -> None:
    """A set of 65,000 images with 4 views has a thousand; a process on most machines may open 1024."""
    command = [sys.executable, "-c", MANY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert (0, "") == (done.returncode, done.stderr)
    assert 200 == len(list(tmp_path.glob("network/*.npy")))


def test_features_stay_when_another_run_makes_room(tmp_path: Path) -> None:
    """A segment that is mapped can be read after its file is gone."""
    features = store(tmp_path)
    features.add(keys(5), values(5))
    other = store(tmp_path)

    assert store(tmp_path, network="other", max_bytes=RECORD).make_room(1)

    assert [] == list(tmp_path.glob("network/*.npy"))
    for one in (features, other):
        np.testing.assert_array_equal(values(5), one.batch(keys(5)))


def test_too_many_open_files_are_no_lack_of_room(tmp_path: Path) -> None:
    """The error names the limit, and going on works once it is higher."""
    features = store(tmp_path)

    with no_more_files(), pytest.raises(CacheError, match=r"Too many open files.*ulimit -n") as caught:
        features.add(keys(5), values(5))

    assert "room" not in str(caught.value)
    features.add(keys(5), values(5))
    np.testing.assert_array_equal(values(5), store(tmp_path).batch(keys(5)))


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    """A folder that cannot be made is an error with its path."""
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(CacheError, match="cannot be written to"):
        store(tmp_path / "file").add(keys(1), values(1))


WRITER = """
import sys
from pathlib import Path
import numpy as np
from pipeline.features.feature_store import FeatureStore, make_key
folder, name = Path(sys.argv[1]), sys.argv[2]
features = FeatureStore(folder, "network", shape=(100,), max_bytes=60 * 264)
for i in range(100_000):
    if features.make_room(10):
        features.add([make_key(f"{j:064x}", f"{name}-{i}") for j in range(10)], np.full((10, 100), 7, np.float16))
    features = FeatureStore(folder, "network", shape=(100,), max_bytes=60 * 264)
    print(i, flush=True)
"""


def test_many_runs_write_at_once_and_are_killed(tmp_path: Path) -> None:
    """Processes that add and make room in one folder, killed at any moment, leave nothing that cannot be read."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for name in ("a", "b", "c")
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            for _ in range(10):
                assert writer.stdout.readline(), writer.stderr and writer.stderr.read().decode()[-1000:]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate(timeout=30)

    left = store(tmp_path)
    segments = list(tmp_path.glob("network/*.npy"))
    assert segments
    for path in segments:
        np.testing.assert_array_equal(7, np.load(path)["features"])
    left.add(keys(5), values(5))
    np.testing.assert_array_equal(values(5), store(tmp_path).batch(keys(5)))
