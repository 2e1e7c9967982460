"""The model store on disk: versions, index, atomic writes. The only reader and writer of `models/`.

    models/
      index.json                    which version of each model is live, previous, candidate: the truth
      models.config                 what a server loads, in TensorFlow Serving's format; derived from the index
      .lock                         held (flock) by whoever writes
      .staging/<random>/            versions being written, a name no server reads; its writer holds a flock on it
      <name>/<version>/             finished versions, never changed, numbers never reused

Readers take no lock: index and config are replaced atomically. Writers order their steps so that being killed between
any two leaves a store that serves what it served before: the version directory appears first, by one rename, then the
index names it, then the config is derived.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from contract.errors import StoreError
from contract.model import ModelContract

FORMAT = 1
NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
CONTRACT_FILE = "assets.extra/contract.json"
VERIFICATION_FILE = "assets.extra/verification.json"
REPORT_FILE = "assets.extra/report.html"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
CONTAINER_ROOT = "/models"  # where servers see the store; TensorFlow Serving wants absolute base paths
ROLES = ("live", "previous", "candidate")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """Which versions of one model play which role.

    Attributes:
        live: the version that answers unless a request names another.
        previous: what was live before; answers when the live one is not loaded.
        candidate: loaded and reachable by number or label, but not live.
        highest: the highest version number ever used.
    """

    live: int | None = None
    previous: int | None = None
    candidate: int | None = None
    highest: int = 0

    @property
    def listed(self) -> tuple[int, ...]:
        """The versions that servers load, ascending."""
        return tuple(sorted({v for v in (self.live, self.previous, self.candidate) if v is not None}))


Index = Mapping[str, ModelEntry]


def check_name(name: str) -> str:
    """Return `name` if it can name a model.

    Raises:
        StoreError: if it cannot.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise StoreError(f"model name: expected 1 to 64 of the characters A-Z a-z 0-9 _ -. Received: {name!r}")
    return name


class ModelStore:
    """A model store in a folder; making this object touches nothing.

    Args:
        root: the folder, `models` by convention.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def config_path(self) -> Path:
        """The file that servers poll."""
        return self.root / "models.config"

    def version_path(self, name: str, version: int) -> Path:
        """Return the folder of a version, whether it exists or not."""
        return self.root / check_name(name) / str(version)

    def read_index(self) -> Index:
        """Return the roles of every model; an absent store is an empty one.

        Raises:
            StoreError: if the index is unreadable or not of this format.
        """
        path = self.root / "index.json"
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            return MappingProxyType({})
        except (OSError, ValueError) as err:
            raise StoreError(f"the index {path.name} cannot be read: {err}") from err
        return _parse_index(document)

    def read_contract(self, name: str, version: int) -> ModelContract:
        """Return the contract of a version.

        Raises:
            StoreError: if there is no such version.
            ContractError: if its contract is broken.
        """
        path = self.version_path(name, version) / CONTRACT_FILE
        try:
            return ModelContract.from_json(path.read_bytes())
        except OSError as err:
            raise StoreError(f"no contract for {name}/{version}: expected {CONTRACT_FILE}: {err.strerror}") from err

    def ensure(self) -> None:
        """Create the store if it is absent, and bring models.config in line with the index.

        Raises:
            StoreError: if the folder cannot be written.
        """
        with self._locked():
            self._write_config(self.read_index())

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Give a folder to write a version into; it is removed unless `publish` took it.

        Raises:
            StoreError: if the folder cannot be written.
        """
        with self._locked():
            parent = self.root / ".staging"
            parent.mkdir(exist_ok=True)
            _remove_abandoned(parent)
            directory = Path(tempfile.mkdtemp(dir=parent))
            handle = os.open(directory, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(handle)

    def publish(self, name: str, directory: Path, *, live: bool = True) -> int:
        """Make a finished folder the model's next version.

        Args:
            name: the model.
            directory: a folder that `staging` gave, complete; it is moved.
            live: whether the version becomes live (the old one becomes previous) or stays candidate. A model's first
                version is always live.

        Returns:
            The version's number.

        Raises:
            StoreError: if anything fails; the store then is as it was.
        """
        check_name(name)
        _settle(directory)
        with self._locked():
            index = dict(self.read_index())
            entry = index.get(name, ModelEntry())
            version = 1 + max([entry.highest, *self._versions_on_disk(name)])
            target = self.version_path(name, version)
            target.parent.mkdir(exist_ok=True)
            target.parent.chmod(0o755)
            directory.rename(target)
            _sync_directory(target.parent)
            try:
                index[name] = _with_published(entry, version, live=live or entry.live is None)
                self._write_index(index)
            except BaseException:
                shutil.rmtree(target, ignore_errors=True)
                raise
            self._write_config(index)
        return version

    def promote(self, name: str) -> ModelEntry:
        """Make the candidate live; the live version becomes previous.

        Raises:
            StoreError: if there is no such model or it has no candidate.
        """

        def change(entry: ModelEntry) -> ModelEntry:
            if entry.candidate is None:
                raise StoreError(f"{name} has no candidate to promote; live is version {entry.live}")
            return replace(entry, live=entry.candidate, previous=entry.live, candidate=None)

        return self._change(name, change)

    def rollback(self, name: str) -> ModelEntry:
        """Make the previous version live again; the live one becomes previous, so doing it twice changes nothing.

        Raises:
            StoreError: if there is no such model or it has no previous version.
        """

        def change(entry: ModelEntry) -> ModelEntry:
            if entry.previous is None:
                raise StoreError(f"{name} has no previous version to roll back to; live is version {entry.live}")
            return replace(entry, live=entry.previous, previous=entry.live)

        return self._change(name, change)

    def _change(self, name: str, change: Any) -> ModelEntry:
        check_name(name)
        with self._locked():
            index = dict(self.read_index())
            if name not in index:
                raise StoreError(
                    f"no model {name!r} in the store. Received names: {', '.join(sorted(index)) or 'none'}"
                )
            entry: ModelEntry = change(index[name])
            index[name] = entry
            self._write_index(index)
            self._write_config(index)
        return entry

    def _versions_on_disk(self, name: str) -> list[int]:
        """Numbers that a killed writer may have used without the index knowing."""
        folder = self.root / name
        return [int(path.name) for path in folder.glob("[0-9]*") if path.name.isdecimal()] if folder.is_dir() else []

    def _write_index(self, index: Index) -> None:
        models = {name: asdict(entry) for name, entry in sorted(index.items())}
        _replace_file(self.root / "index.json", json.dumps({"format": FORMAT, "models": models}, indent=2) + "\n")

    def _write_config(self, index: Index) -> None:
        """Derive models.config: only versions that exist, or TensorFlow Serving unloads what it serves."""
        existing = {
            name: [v for v in entry.listed if (self.version_path(name, v) / "saved_model.pb").is_file()]
            for name, entry in sorted(index.items())
        }
        text = _config_text({name: versions for name, versions in existing.items() if versions})
        if not self.config_path.is_file() or self.config_path.read_text() != text:
            _replace_file(self.config_path, text)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the store's lock; file system errors become StoreErrors that name the store."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with (self.root / ".lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as err:
            raise StoreError(f"the model store {self.root} cannot be written: {err.strerror or err}") from err


def _with_published(entry: ModelEntry, version: int, *, live: bool) -> ModelEntry:
    if not live:
        return replace(entry, candidate=version, highest=version)
    return ModelEntry(live=version, previous=entry.live, candidate=None, highest=version)


def _parse_index(document: Any) -> Index:
    if not isinstance(document, dict) or document.get("format") != FORMAT or not isinstance(document["models"], dict):
        raise StoreError(f"index.json: expected format {FORMAT} with models. Received: {str(document)[:80]}")
    known = {field.name for field in fields(ModelEntry)}
    index = {}
    for name, entry in document["models"].items():
        if not isinstance(entry, dict) or not all(v is None or isinstance(v, int) for v in entry.values()):
            raise StoreError(f"index.json: {name}: expected version numbers. Received: {entry!r}")
        index[check_name(name)] = ModelEntry(**{key: value for key, value in entry.items() if key in known})
    return MappingProxyType(index)


def _config_text(versions: Mapping[str, list[int]]) -> str:
    lines = ["# Derived from index.json by Fovea; changes here are overwritten.", "model_config_list {"]
    for name, numbers in versions.items():
        lines += [
            "  config {",
            f'    name: "{name}"',
            f'    base_path: "{CONTAINER_ROOT}/{name}"',
            '    model_platform: "tensorflow"',
            "    model_version_policy { specific { " + " ".join(f"versions: {v}" for v in numbers) + " } }",
            "  }",
        ]
    return "\n".join([*lines, "}"]) + "\n"


def _settle(directory: Path) -> None:
    """Set modes 0755 and 0644 and push everything to disk, so that the rename publishes a durable version."""
    try:
        for path in [directory, *directory.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
            _sync(path, os.O_RDONLY)
    except OSError as err:
        raise StoreError(f"the new version cannot be written: {err.strerror or err}") from err


def _replace_file(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new, whatever happens."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_abandoned(parent: Path) -> None:
    """Remove staging folders whose writer is gone: a living one holds a lock on its folder."""
    for directory in parent.iterdir():
        handle = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(handle)
