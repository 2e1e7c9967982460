"""A model store in object storage, by obstore: files of versions are created once, index.json is compared and swapped.

The layout is the folder's. A version counts when index.json names it, which is written last. Object storage has no
locks and no renames; what it has are writes on a condition, by If-None-Match and If-Match.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from contract.commands import DISTRIBUTION
from contract.errors import StoreError
from contract.index import Index, index_document, parse_index
from contract.store import CONTRACT_FILE
from pipeline.data.objects.url import ObjectUrl
from pipeline.errors import BucketError

INDEX_FILE = "index.json"
EXTRA = "sync"  # of the distribution, with obstore
_CONNECT_TIMEOUT = timedelta(seconds=5)
_TIMEOUT = timedelta(minutes=10)  # of one file
_RETRIES, _RETRY_TIMEOUT = 3, timedelta(seconds=30)
_FIRST = "assets.extra/verification.json"  # small, and of one version alone: it claims the number


@dataclass(frozen=True)
class SeenIndex:
    """index.json as it was read.

    Attributes:
        index: roles of every model; empty where there is no index yet.
        e_tag: of the object; None where there is none.
    """

    index: Index
    e_tag: str | None


class BucketChangedError(BucketError):
    """Another writer has replaced index.json since it was read."""


class VersionTakenError(BucketError):
    """Another version has that number in the bucket."""


class Bucket:
    """A store in object storage.

    Args:
        objects: an obstore store, at the prefix of the model store.
        address: for messages.
    """

    def __init__(self, objects: Any, address: str) -> None:
        self._objects = objects
        self.address = address

    def read_index(self) -> SeenIndex:
        """Return the index.

        Raises:
            BucketError: if the storage does not give it.
            StoreError: if it is not an index of this format.
        """
        from obstore.exceptions import NotFoundError

        with self._told(INDEX_FILE):
            try:
                found = self._objects.get(INDEX_FILE)
            except (FileNotFoundError, NotFoundError):
                return SeenIndex({}, None)
            text = bytes(found.bytes())
        try:
            document = json.loads(text)
        except ValueError as err:
            raise BucketError(f"{self.address}: {INDEX_FILE} is not JSON: {err}") from err
        return SeenIndex(parse_index(document), found.meta["e_tag"])

    def write_index(self, index: Index, seen: SeenIndex) -> None:
        """Replace the index that was seen.

        Raises:
            BucketChangedError: if it is another one by now; nothing was written.
            BucketError: if the storage does not take it.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        text = (json.dumps(index_document(index), indent=2) + "\n").encode()
        mode: Any = "create" if seen.e_tag is None else {"e_tag": seen.e_tag}
        with self._told(INDEX_FILE):
            try:
                self._objects.put(INDEX_FILE, text, mode=mode)
            except (AlreadyExistsError, PreconditionError) as err:
                raise BucketChangedError(f"{self.address}: {INDEX_FILE} was replaced by another writer") from err

    def list_files(self, name: str, version: int) -> dict[str, int]:
        """Return the sizes of a version's files, in bytes, by path below its folder."""
        prefix = f"{name}/{version}/"
        with self._told(prefix):
            found = self._objects.list(prefix).collect()
        return {str(meta["path"]).removeprefix(prefix): int(meta["size"]) for meta in found}

    def has(self, name: str, version: int, directory: Path) -> bool:
        """Return whether a version there is the one in a folder: the same files, sizes and verification.json."""
        found = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
        sizes = {path: file.stat().st_size for path, file in found.items()}
        if CONTRACT_FILE not in sizes or sizes != self.list_files(name, version):
            return False
        with self._told(f"{name}/{version}/{_FIRST}"):
            return _FIRST not in found or self._digest(f"{name}/{version}/{_FIRST}") == _digest_file(found[_FIRST])

    def download(
        self, name: str, version: int, files: Mapping[str, int], directory: Path, count: Callable[[int], object]
    ) -> None:
        """Write a version's files into an empty folder.

        Args:
            name: the model.
            version: its number.
            files: as `list_files` gives them.
            directory: the folder.
            count: is called with the bytes of each piece.

        Raises:
            BucketError: if there are none, or the storage does not give one whole.
        """
        if not files:
            raise BucketError(f"{self.address}: {INDEX_FILE} names {name}/{version}, whose files are not there")
        for path, size in files.items():
            target = directory / path
            if not target.resolve().is_relative_to(directory.resolve()):
                raise BucketError(f"{self.address}: expected files below {name}/{version}/. Received: {path}")
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._told(f"{name}/{version}/{path}"), target.open("wb") as file:
                for piece in self._objects.get(f"{name}/{version}/{path}"):
                    file.write(piece)
                    count(len(piece))
            if target.stat().st_size != size:
                raise BucketError(
                    f"{self.address}: {name}/{version}/{path}: expected {size:,} bytes. "
                    f"Received: {target.stat().st_size:,}"
                )

    def upload(self, name: str, version: int, directory: Path, count: Callable[[int], object]) -> None:
        """Create a version's files; those that are there already have to be the same, as after a broken upload.

        Args:
            name: the model.
            version: its number.
            directory: the version's folder.
            count: is called with the bytes of each file.

        Raises:
            StoreError: if the folder is no version, such as one that is gone; nothing was created.
            VersionTakenError: if another version has that number there.
            BucketError: if the storage does not take a file.
        """
        from obstore.exceptions import AlreadyExistsError

        paths = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
        if CONTRACT_FILE not in paths:
            raise StoreError(
                f"index.json names {name}/{version}: expected {CONTRACT_FILE} in {directory}. Received: none. Copy the "
                "version's folder back, or let run, promote or rollback give its role to another version"
            )
        for path in sorted(paths, key=lambda path: path != _FIRST):
            key = f"{name}/{version}/{path}"
            with self._told(key):
                try:
                    self._objects.put(key, directory / path, mode="create")
                except AlreadyExistsError as err:
                    if self._digest(key) != _digest_file(directory / path):
                        raise VersionTakenError(
                            f"{self.address}: {name}/{version} is another version there, or the rest of an upload that "
                            f"was stopped: {path} differs. Fetch that store first, and publish anew"
                        ) from err
            count((directory / path).stat().st_size)

    def _digest(self, key: str) -> str:
        digest = hashlib.sha256()
        for piece in self._objects.get(key):
            digest.update(piece)
        return digest.hexdigest()

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Name address and object in errors of the storage."""
        from obstore.exceptions import BaseError

        try:
            yield
        except BaseError as err:
            reason = str(err).split("\n\nDebug source", maxsplit=1)[0]
            raise BucketError(f"{self.address}: {key}: {' '.join(reason.split())[:300]}") from err


def open_bucket(location: ObjectUrl) -> Bucket:
    """Return the store at an address; keys are those of the environment or of the machine's role.

    Raises:
        BucketError: if obstore is not installed, or the address is none of its own.
    """
    try:
        from obstore.store import from_url
    except ImportError as err:
        raise BucketError(
            f"stores in object storage need obstore, which is not installed: pip install '{DISTRIBUTION}[{EXTRA}]'"
        ) from err
    parts = urlsplit(location.text)
    address = parts._replace(query="").geturl()
    options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    config: dict[str, str] = {}
    if "region" in options:
        config["region"] = options["region"]
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if "endpoint_override" in options:
        endpoint = config["endpoint"] = f"{options.get('scheme', 'https')}://{options['endpoint_override']}"
    client: Any = {"connect_timeout": _CONNECT_TIMEOUT, "timeout": _TIMEOUT}
    if endpoint.startswith("http://"):
        client["allow_http"] = True
    retries: Any = {"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT}
    try:
        return Bucket(from_url(address, config=config or None, client_options=client, retry_config=retries), address)
    except Exception as err:  # obstore has an error of its own for each kind of wrong configuration
        raise BucketError(f"{address}: cannot be opened: {' '.join(str(err).split())[:300]}") from err


def _digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
