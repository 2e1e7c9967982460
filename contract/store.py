"""Reads and writes the model store on disk, `models/`: versions, index, atomic writes.

    models/
      index.json                    which version of each model is live, previous, candidate: the truth
      models.config                 the versions to load, in TensorFlow Serving's format; derived from the index
      models.openvino.config        likewise, those that OpenVINO alone can run; there once a store had one
      .filling                      there while docker compose's `seed` trains the first model
      .lock                         held (flock) by a writer
      .trials/<name>/<id>.json      what one gateway found in the trial of a candidate
      .staging/<random>/            versions being written, a name no server reads; its writer holds a flock on it
      <name>/<version>/             finished versions, never changed, numbers never reused

Readers take no lock: index and config are replaced atomically. Writers order their steps so that being killed between
any two leaves a store that serves as before: the version directory appears first, by one rename, then the
index names it, then the config is derived.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from contract.commands import spell_command
from contract.errors import LiveChangedError, StoreError
from contract.files.durable import locked, remove_abandoned, replace_file, settle, sync_directory
from contract.files.regular import read_regular
from contract.index import (
    CONTAINER_ROOT,
    NAME_PATTERN,
    ROLES,
    Index,
    ModelEntry,
    check_name,
    config_text,
    find_entry,
    index_document,
    openvino_config_of,
    parse_index,
)
from contract.model import ModelContract
from contract.trials.trial import Trial, start_trial

__all__ = [
    "CONTAINER_ROOT",
    "CONTRACT_FILE",
    "INITIALISING_MARK",
    "INT8_FILE",
    "NAME_PATTERN",
    "NETWORK_FILE",
    "REPORT_FILE",
    "ROLES",
    "TRIALS_FOLDER",
    "VERIFICATION_FILE",
    "WARMUP_FILE",
    "Index",
    "ModelEntry",
    "ModelStore",
    "check_name",
]

CONTRACT_FILE = "assets.extra/contract.json"
VERIFICATION_FILE = "assets.extra/verification.json"
REPORT_FILE = "assets.extra/report.html"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
INT8_FILE = "assets.extra/openvino/int8.xml"  # its weights lie beside it, int8.bin
NETWORK_FILE = "model.xml"  # of OpenVINO, in place of a SavedModel; its weights lie beside it, model.bin
INITIALISING_MARK = ".filling"
TRIALS_FOLDER = ".trials"


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

    @property
    def is_initialising(self) -> bool:
        """True while compose's `seed` trains the store's first model."""
        return (self.root / INITIALISING_MARK).exists()

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
            document = json.loads(read_regular(path))
        except FileNotFoundError:
            return MappingProxyType({})
        except (OSError, ValueError) as err:
            raise StoreError(f"the index {path.name} cannot be read: {err}") from err
        return parse_index(document)

    def read_versions(self, name: str) -> tuple[int, ...]:
        """Return the numbers of the versions on disk, ascending, whether they play a role or not."""
        folder = self.root / check_name(name)
        paths = folder.glob("[0-9]*") if folder.is_dir() else ()
        return tuple(sorted(int(path.name) for path in paths if path.name.isdecimal()))

    def resolve(self, reference: str) -> tuple[str, int]:
        """Return the model and the version that a text names: NAME (its live version), NAME/3 or NAME/candidate.

        Raises:
            StoreError: if there is no such model, role or version.
        """
        name, _, choice = reference.partition("/")
        entry = find_entry(self.read_index(), name)
        if choice in ("", *ROLES):
            version = getattr(entry, choice or "live")
            if version is None:
                raise StoreError(_explain_missing(name, entry, choice or "live"))
            return name, version
        existing = self.read_versions(name)
        if choice not in map(str, existing):
            numbers = ", ".join(map(str, existing))
            raise StoreError(
                f"{reference}: expected {name}, or {name}/ with one of {numbers}, {', '.join(ROLES)}. "
                f"Received: {choice!r}"
            )
        return name, int(choice)

    def read_contract(self, name: str, version: int) -> ModelContract:
        """Return the contract of a version.

        Raises:
            StoreError: if there is no such version.
            ContractError: if its contract is broken.
        """
        path = self.version_path(name, version) / CONTRACT_FILE
        try:
            return ModelContract.from_json(read_regular(path))
        except OSError as err:
            raise StoreError(f"no contract for {name}/{version}: expected {CONTRACT_FILE}: {err.strerror}") from err

    def ensure(self) -> None:
        """Create the store if it is absent, and bring models.config in line with the index.

        Raises:
            StoreError: if the folder cannot be written.
        """
        with locked(self.root):
            self._write_config(self.read_index())

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Give a folder to write a version into; it is removed unless `publish` took it.

        Raises:
            StoreError: if the folder cannot be written.
        """
        with locked(self.root):
            directory = self._new_staging()
            handle = os.open(directory, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(handle)

    def publish(
        self,
        name: str,
        directory: Path,
        *,
        live: bool = True,
        judged_against: ModelEntry | None = None,
        told: Callable[[int], object] = lambda _: None,
    ) -> int:
        """Make a finished folder the model's next version.

        Args:
            name: the model.
            directory: a folder that `staging` gave, complete; it is moved.
            live: whether the version becomes live (the old one becomes previous) or stays candidate.
            judged_against: the roles by which `live` was decided; None if they did not matter.
            told: is called with the number of a version that the index names, also where a step after that fails.

        Returns:
            The version's number.

        Raises:
            LiveChangedError: if another version than `judged_against` says has become live; nothing was moved.
            StoreError: if anything fails; the store then is as it was, unless the message says what is published.
        """
        check_name(name)
        settle(directory)
        with locked(self.root):
            index = dict(self.read_index())
            entry = index.get(name, ModelEntry())
            if judged_against is not None and entry.live != judged_against.live:
                raise LiveChangedError(
                    f"{name}: expected version {judged_against.live} to be live still. Received: {entry.live}"
                )
            version = 1 + max([entry.highest, *self.read_versions(name)])
            index[name] = entry.with_published(version, live=live)
            try:
                _place(directory, self.version_path(name, version))
                self._write_index(index)
                self._write_config(index)
                told(version)
            except BaseException as err:
                if not self._keep_if_published(name, version):
                    raise
                told(version)
                if isinstance(err, OSError):
                    raise _stale_config_error(f"{name}/{version} is published", err) from err
                with contextlib.suppress(OSError):  # interrupted: the config may have been left out
                    self._write_config(index)
                raise
        return version

    def take(self, name: str, version: int, directory: Path) -> None:
        """Make a finished folder a version with a number that another store gave it; it has no role yet.

        Args:
            name: the model.
            version: its number.
            directory: a folder that `staging` gave, complete; it is moved.

        Raises:
            StoreError: if there is such a version, or the folder cannot be written.
        """
        settle(directory)
        with locked(self.root):
            target = self.version_path(name, version)
            if target.exists():
                raise StoreError(f"{name}/{version} is there already")
            _place(directory, target)

    def adopt(self, name: str, entry: ModelEntry, *, expected: ModelEntry | None) -> None:
        """Take over a model's roles from another store; servers are told of the versions before the gateways are.

        Args:
            name: the model.
            entry: its roles there; the versions are here by `take`.
            expected: its roles here; None if it is new.

        Raises:
            LiveChangedError: if it has other roles by now; nothing was changed.
            StoreError: if a version is missing, or the folder cannot be written.
        """
        missing = [version for version in entry.listed if not self.version_path(name, version).is_dir()]
        if missing:
            raise StoreError(f"{name}: expected the versions {', '.join(map(str, missing))} in the store")
        with locked(self.root):
            index = dict(self.read_index())
            if index.get(name) != expected:
                raise LiveChangedError(f"{name}: its roles were changed meanwhile")
            index[check_name(name)] = entry
            self._write_config(index)
            self._write_index(index)

    def promote(self, name: str, version: int | None = None) -> ModelEntry:
        """Make a version live; the live version becomes previous.

        Args:
            name: the model.
            version: its number; None: the candidate.

        Raises:
            StoreError: if there is no such model or version, it has no candidate, or the version is live already.
        """

        def change(entry: ModelEntry) -> ModelEntry:
            chosen = entry.candidate if version is None else version
            if chosen is None:
                raise StoreError(
                    f"{name} has no candidate to promote; live is version {entry.live}. A run leaves one when its gate "
                    f"holds the new version back; list the versions with: {spell_command('models')}"
                )
            existing = self.read_versions(name)
            if chosen not in existing:
                numbers = ", ".join(map(str, existing)) or "none"
                raise StoreError(f"{name}: expected one of the versions {numbers}. Received: {chosen}")
            if chosen == entry.live:
                raise StoreError(f"{name}/{chosen} is live already")
            return entry.with_promoted(chosen)

        return self._change(name, change)

    def rollback(self, name: str) -> ModelEntry:
        """Make the previous version live again; the live one becomes previous, so doing it twice keeps the roles.

        Raises:
            StoreError: if there is no such model or it has no previous version.
        """

        def change(entry: ModelEntry) -> ModelEntry:
            if entry.previous is None:
                raise StoreError(
                    f"{name} has no previous version to roll back to; live is version {entry.live}. "
                    f"List the versions with: {spell_command('models')}"
                )
            return entry.with_rollback()

        return self._change(name, change)

    def set_trial_share(self, name: str, kind: str, share: float) -> ModelEntry:
        """Give a model's candidate a share of the live traffic.

        Args:
            name: the model.
            kind: SHADOW or CANARY.
            share: 0 to 1; 0 stops it.

        Raises:
            StoreError: if there is no such model, or it has no live version or no candidate.
        """

        def change(entry: ModelEntry) -> ModelEntry:
            if entry.candidate is None or entry.live is None:
                missing = "candidate to try" if entry.candidate is None else "live version beside its candidate"
                raise StoreError(f"{name} has no {missing}; list the versions with: {spell_command('models')}")
            trial = entry.trial or start_trial(entry.candidate)
            return replace(entry, trial=trial.with_share(kind, share))

        return self._change(name, change)

    def stop_canary(self, name: str, trial: Trial, reason: str) -> bool:
        """Stop the canary of a trial, unless another process has changed it.

        Args:
            name: the model.
            trial: as it was read.
            reason: for people.

        Returns:
            True if it is stopped now by this call.

        Raises:
            StoreError: if the store cannot be written.
        """
        is_stopped = False

        def change(entry: ModelEntry) -> ModelEntry:
            nonlocal is_stopped
            found = entry.trial
            is_stopped = found is not None and found.started == trial.started and found.canary > 0
            return replace(entry, trial=found.with_stop(reason)) if is_stopped and found is not None else entry

        self._change(name, change)
        return is_stopped

    def remove(self, name: str, version: int) -> None:
        """Delete a version that plays no role; its number never comes back.

        Raises:
            StoreError: if there is no such version, or it plays a role.
        """
        with locked(self.root):
            index = dict(self.read_index())
            entry = index.get(check_name(name), ModelEntry())
            if roles := entry.roles_of(version):
                raise StoreError(f"{name}/{version} is {' and '.join(roles)}: expected a version without a role")
            if version not in self.read_versions(name):
                raise StoreError(f"no version {version} of {name} in the store")
            if version > entry.highest:  # left by a killed writer: only its folder holds the number
                index[name] = replace(entry, highest=version)
                self._write_index(index)
            doomed = self._new_staging()
            # One rename, so that no reader sees half a version; leftovers of a killed process go with the next staging.
            self.version_path(name, version).rename(doomed / "version")
        shutil.rmtree(doomed, ignore_errors=True)

    def _keep_if_published(self, name: str, version: int) -> bool:
        """Return whether the index names a version; if it does not, remove the version's folder.

        Where the index cannot be read, the folder stays: it may be the one of a live version.
        """
        try:
            entry = self.read_index().get(name, ModelEntry())
        except StoreError:
            return False
        if version in entry.listed:
            return True
        shutil.rmtree(self.version_path(name, version), ignore_errors=True)
        return False

    def _change(self, name: str, change: Callable[[ModelEntry], ModelEntry]) -> ModelEntry:
        with locked(self.root):
            index = dict(self.read_index())
            entry = change(find_entry(index, name))
            index[name] = entry
            self._write_index(index)
            try:
                self._write_config(index)
            except OSError as err:
                raise _stale_config_error(f"{name}: live is version {entry.live}", err) from err
        return entry

    def _new_staging(self) -> Path:
        """Make a folder that no server reads, and remove those whose writers are gone; call it under the lock."""
        parent = self.root / ".staging"
        parent.mkdir(exist_ok=True)
        remove_abandoned(parent)
        return Path(tempfile.mkdtemp(dir=parent))

    def _write_index(self, index: Index) -> None:
        replace_file(self.root / "index.json", json.dumps(index_document(index), indent=2) + "\n")

    def _write_config(self, index: Index) -> None:
        """Derive the lists of versions: only those that exist, or TensorFlow Serving unloads the served ones."""
        listed = {(name, version) for name, entry in index.items() for version in entry.listed}
        saved_models = {one for one in listed if (self.version_path(*one) / "saved_model.pb").is_file()}
        networks = {one for one in listed - saved_models if (self.version_path(*one) / NETWORK_FILE).is_file()}
        openvino_path = openvino_config_of(self.config_path)
        if networks or openvino_path.exists():
            _write_if_new(openvino_path, config_text(networks, platform="openvino"))
        _write_if_new(self.config_path, config_text(saved_models))


def _place(directory: Path, target: Path) -> None:
    """Make a settled folder a version by one rename; call it under the lock."""
    target.parent.mkdir(exist_ok=True)
    target.parent.chmod(0o755)
    directory.rename(target)
    sync_directory(target.parent)


def _stale_config_error(done: str, err: OSError) -> StoreError:
    """Return the error of a store whose index was replaced before a file system failed."""
    return StoreError(
        f"{done}, as index.json says, but models.config, by which model servers load versions, may not be up to date: "
        f"{err.strerror or err}. Expected a model store that can be written. Once that is mended, the next run, "
        f"promote or rollback writes it anew, and so does {spell_command('serve')}"
    )


def _write_if_new(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text() != text:
        replace_file(path, text)


def _explain_missing(name: str, entry: ModelEntry, role: str) -> str:
    """Return why a model has no version with a role, and the next step."""
    if role == "live" and entry.candidate is not None:
        return (
            f"{name} has no live version; version {entry.candidate} is a candidate: name {name}/candidate, or make it "
            f"live with: {spell_command(f'promote {name} {entry.candidate}')}"
        )
    return f"{name} has no {role} version; live is version {entry.live}"
