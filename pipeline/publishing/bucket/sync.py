"""Brings a model store in a folder and one in object storage in line, one model at a time.

Each side remembers nothing of the other but SYNCED_FILE, the roles that both had after the last time. A model that
changed on one side since then is taken to the other; one that changed on both is refused, and nothing of it is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from contract.errors import LiveChangedError, StoreError
from contract.files.durable import replace_file
from contract.files.regular import read_regular
from contract.index import Index, ModelEntry, index_document, parse_index
from contract.store import ModelStore
from pipeline.errors import BucketError, describe_os_error
from pipeline.progress import progress_bar
from pipeline.publishing.bucket.bucket import Bucket, BucketChangedError, SeenIndex, VersionTakenError

SYNCED_FILE = ".synced.json"
_ATTEMPTS = 9  # each fails only where another writer came in between


@dataclass
class Synced:
    """The result of one turn.

    Attributes:
        versions: that were copied, as NAME/VERSION.
        entries: roles that were taken over, by model.
    """

    versions: list[str] = field(default_factory=list)
    entries: dict[str, ModelEntry] = field(default_factory=dict)


class _BothChangedError(BucketError):
    """A model changed on both sides since they were in line."""


@dataclass
class _Left:
    """The models that one turn leaves as they are; it goes on with the others.

    Attributes:
        changed: on both sides.
        failed: the reason why, by model.
    """

    changed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def out(self, name: str) -> Iterator[None]:
        """Leave a model out if it cannot be brought in line."""
        try:
            yield
        except (_BothChangedError, LiveChangedError, VersionTakenError):
            self.changed.append(name)
        except (BucketError, StoreError) as err:
            self.failed[name] = str(err)
        except OSError as err:
            self.failed[name] = describe_os_error(err)

    def check(self, bucket: Bucket, advice: str) -> None:
        """Raise one error that names every model that was left out."""
        reasons = [f"{name}: {reason}" for name, reason in self.failed.items()]
        if self.changed:
            names = ", ".join(self.changed)
            reasons.append(f"{names} changed both here and in {bucket.address} since they were in line. {advice}")
        if reasons:
            raise BucketError("; ".join(reasons))


def fetch(bucket: Bucket, store: ModelStore) -> Synced:
    """Take into a folder what has changed in object storage: versions first, then the list to serve and the index.

    Raises:
        BucketError: naming every model that changed on both sides or failed. Other models are in line.
        StoreError: if the folder cannot be read or written.
    """
    done, left = Synced(), _Left()
    theirs = bucket.read_index().index
    store.ensure()
    base = _read_base(store, bucket)
    for name, entry in sorted(theirs.items()):
        if entry != base.get(name):
            with left.out(name):
                _fetch_model(bucket, store, name, entry, base.get(name), done)
    left.check(bucket, "Publish yours again after fetching into an empty folder")
    return done


def _fetch_model(
    bucket: Bucket, store: ModelStore, name: str, entry: ModelEntry, known: ModelEntry | None, done: Synced
) -> None:
    """Bring one model in line, and remember that it is: what comes after it may be interrupted."""
    mine = store.read_index().get(name)
    if mine != entry or not _has_all(bucket, store, name, entry):
        if mine not in (None, known) or mine == entry:
            raise _BothChangedError(name)
        here = () if mine is None else mine.listed
        missing = [one for one in entry.listed if one not in here and not _is_there(bucket, store, name, one)]
        _download(bucket, store, name, missing)
        store.adopt(name, entry, expected=mine)
        done.versions += [f"{name}/{version}" for version in missing]
        done.entries[name] = entry
    _remember(store, bucket, {name: entry})


def send(store: ModelStore, bucket: Bucket) -> Synced:
    """Take into object storage what has changed in a folder: versions first, the index last.

    Raises:
        BucketError: naming every model that changed on both sides or failed, such as one with a version whose folder is
            gone. Other models are in line.
        StoreError: if the folder's index cannot be read.
    """
    for _ in range(_ATTEMPTS):
        try:
            return _send_once(store, bucket, bucket.read_index())
        except BucketChangedError:
            continue
    return _send_once(store, bucket, bucket.read_index())


def _send_once(store: ModelStore, bucket: Bucket, seen: SeenIndex) -> Synced:
    done, left = Synced(), _Left()
    in_line: dict[str, ModelEntry] = {}
    base = _read_base(store, bucket)
    for name, entry in sorted(store.read_index().items()):
        if entry != base.get(name):
            with left.out(name):
                _send_model(store, bucket, name, entry, (seen.index.get(name), base.get(name)), done)
                in_line[name] = entry
    if done.entries:
        bucket.write_index({**seen.index, **done.entries}, seen)
    _remember(store, bucket, in_line)
    left.check(bucket, "Fetch that store into another folder to see what is there")
    return done


def _send_model(
    store: ModelStore,
    bucket: Bucket,
    name: str,
    entry: ModelEntry,
    others: tuple[ModelEntry | None, ModelEntry | None],
    done: Synced,
) -> None:
    """Create the versions of one model; `others` are its roles there, and when both were last in line."""
    theirs, known = others
    if entry == theirs and _has_all(bucket, store, name, entry):
        return
    if theirs != known:
        raise _BothChangedError(name)
    there = () if theirs is None else theirs.listed
    missing = [version for version in entry.listed if version not in there]
    _upload(bucket, store, name, missing)
    done.versions += [f"{name}/{version}" for version in missing]
    done.entries[name] = entry


def _has_all(bucket: Bucket, store: ModelStore, name: str, entry: ModelEntry) -> bool:
    """Return whether equal roles are those of the same versions: two writers may have used the same numbers."""
    return all(bucket.has(name, version, store.version_path(name, version)) for version in entry.listed)


def _is_there(bucket: Bucket, store: ModelStore, name: str, version: int) -> bool:
    """Return whether a version without a role was fetched before.

    Raises:
        BucketError: if the folder has another version of that number.
    """
    directory = store.version_path(name, version)
    if not directory.is_dir():
        return False
    if not bucket.has(name, version, directory):
        raise BucketError(
            f"{directory}: expected the files of {name}/{version} in {bucket.address}. Received: others; move them away"
        )
    return True


def _download(bucket: Bucket, store: ModelStore, name: str, versions: Iterable[int]) -> None:
    for version in versions:
        files = bucket.list_files(name, version)
        with store.staging() as directory, _bar(sum(files.values()), f"Fetching {name}/{version}") as bar:
            bucket.download(name, version, files, directory, bar.update)
            store.take(name, version, directory)


def _upload(bucket: Bucket, store: ModelStore, name: str, versions: Iterable[int]) -> None:
    for version in versions:
        directory = store.version_path(name, version)
        size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        with _bar(size, f"Sending {name}/{version}") as bar:
            bucket.upload(name, version, directory, bar.update)


def _bar(size: int, what: str) -> Any:
    return progress_bar(total=size, what=what, unit="B")


def _read_base(store: ModelStore, bucket: Bucket) -> Index:
    """Return the roles that folder and bucket had when they were last in line; none where they never were."""
    documents = _read_documents(store)
    return parse_index(documents[bucket.address]) if bucket.address in documents else {}


def _remember(store: ModelStore, bucket: Bucket, in_line: Index) -> None:
    """Remember the roles of models that are in line; those of others stay as they were."""
    documents = _read_documents(store)
    document = {**documents, bucket.address: index_document({**_read_base(store, bucket), **in_line})}
    if document != documents:
        replace_file(store.root / SYNCED_FILE, json.dumps(document, indent=2) + "\n")


def _read_documents(store: ModelStore) -> dict[str, Any]:
    try:
        document = json.loads(read_regular(store.root / SYNCED_FILE))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as err:
        raise BucketError(f"{store.root / SYNCED_FILE} cannot be read: {err}; remove it to begin anew") from err
    if not isinstance(document, dict):
        raise BucketError(f"{store.root / SYNCED_FILE}: expected an object. Received: {str(document)[:80]}")
    return document
