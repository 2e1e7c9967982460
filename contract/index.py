"""The store's index: the roles of each model's versions, and the servers' config. No disk is touched."""

from __future__ import annotations

import difflib
import itertools
import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from contract.errors import StoreError
from contract.trials.trial import Trial, parse_trial

FORMAT = 1
NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
CONTAINER_ROOT = "/models"  # where servers see the store; TensorFlow Serving wants absolute base paths
ROLES = ("live", "previous", "candidate")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """The roles of one model's versions.

    Attributes:
        live: the version that answers unless a request names another.
        previous: the live version before; answers when the live one is not loaded.
        candidate: loaded and reachable by number or label, but not live.
        highest: the highest version number ever used.
        first: the model's first live version, until it is rolled back.
        promoted: the version last promoted by hand, until it is rolled back.
        trial: of the candidate on live traffic; a change of the live version or the candidate ends it.
    """

    live: int | None = None
    previous: int | None = None
    candidate: int | None = None
    highest: int = 0
    # History, not roles: entries with the same roles are equal.
    first: int | None = field(default=None, compare=False)
    promoted: int | None = field(default=None, compare=False)
    trial: Trial | None = field(default=None, compare=False)

    @property
    def anchor(self) -> int | None:
        """The version that new ones are compared with beside the live one: last promoted by hand, else the first."""
        return self.first if self.promoted is None else self.promoted

    @property
    def listed(self) -> tuple[int, ...]:
        """The versions that servers load, ascending."""
        return tuple(sorted({v for v in (self.live, self.previous, self.candidate) if v is not None}))

    def with_published(self, version: int, *, live: bool) -> ModelEntry:
        """Return the roles after a new version: live, with the old one previous, or candidate."""
        if not live:
            return replace(self, candidate=version, highest=version, trial=None)
        first = version if self.live is None else self.first
        return replace(self, live=version, previous=self.live, candidate=None, highest=version, first=first, trial=None)

    def with_promoted(self, version: int) -> ModelEntry:
        """Return the roles after a version is made live by hand."""
        return replace(
            self,
            live=version,
            previous=self.live,
            candidate=None if self.candidate == version else self.candidate,
            first=version if self.live is None else self.first,
            promoted=version,
            trial=None,
        )

    def with_rollback(self) -> ModelEntry:
        """Return the roles after the previous version is made live again; the one left is no anchor any more."""
        return replace(
            self,
            live=self.previous,
            previous=self.live,
            first=None if self.first == self.live else self.first,
            promoted=None if self.promoted == self.live else self.promoted,
            trial=None,
        )

    def roles_of(self, version: int) -> tuple[str, ...]:
        """Return the roles that a version plays, in the order of ROLES."""
        return tuple(role for role in ROLES if getattr(self, role) == version)


Index = Mapping[str, ModelEntry]


def check_name(name: str) -> str:
    """Return `name` if it can name a model.

    Raises:
        StoreError: if it cannot.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise StoreError(f"model name: expected 1 to 64 of the characters A-Z a-z 0-9 _ -. Received: {name!r}")
    return name


def find_entry(index: Index, name: str) -> ModelEntry:
    """Return a model's roles.

    Raises:
        StoreError: if the index has no such model.
    """
    if check_name(name) not in index:
        near = difflib.get_close_matches(name, index, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise StoreError(f"no model {name!r} in the store. Received names: {', '.join(sorted(index)) or 'none'}{hint}")
    return index[name]


def index_document(index: Index) -> dict[str, Any]:
    """Return the index as index.json holds it."""
    entries = {name: asdict(entry) for name, entry in sorted(index.items())}
    for entry in entries.values():
        del entry["trial"]  # beside the models: earlier versions of Fovea expect version numbers in an entry
    trials = {name: entry.trial.as_document() for name, entry in sorted(index.items()) if entry.trial is not None}
    return {"format": FORMAT, "models": entries, **({"trials": trials} if trials else {})}


def parse_index(document: Any) -> Index:
    """Return the index that index.json holds; fields that a newer writer added are passed over.

    Raises:
        StoreError: if the document is not an index of this format.
    """
    if (
        not isinstance(document, dict)
        or document.get("format") != FORMAT
        or not isinstance(document.get("models"), dict)
    ):
        raise StoreError(f"index.json: expected format {FORMAT} with models. Received: {str(document)[:80]}")
    trials = document.get("trials", {})
    if not isinstance(trials, dict):
        raise StoreError(f"index.json: trials: expected an object. Received: {str(trials)[:80]}")
    known = {field.name for field in fields(ModelEntry)} - {"trial"}
    index = {}
    for name, entry in document["models"].items():
        if not isinstance(entry, dict) or not all(v is None or isinstance(v, int) for v in entry.values()):
            raise StoreError(f"index.json: {name}: expected version numbers. Received: {entry!r}")
        if "first" not in entry and entry.get("live") is not None:
            entry = {**entry, "first": 1}  # as earlier versions of Fovea published it
        trial = parse_trial(name, trials[name]) if name in trials else None
        if trial is not None and trial.version != entry.get("candidate"):
            trial = None  # a writer without trials has changed the roles
        index[check_name(name)] = ModelEntry(**{k: v for k, v in entry.items() if k in known}, trial=trial)
    return MappingProxyType(index)


def openvino_config_of(path: Path) -> Path:
    """Return the list beside models.config of the versions that OpenVINO alone can run."""
    return path.with_name(f"{path.stem}.openvino{path.suffix}")


def config_text(versions: Iterable[tuple[str, int]], *, platform: str = "tensorflow") -> str:
    """Return models.config, in TensorFlow Serving's text format.

    Args:
        versions: those to load, (model, number).
        platform: that runs them; TensorFlow Serving refuses any but its own.
    """
    lines = ["# Derived from index.json by Fovea; changes here are overwritten.", "model_config_list {"]
    for name, group in itertools.groupby(sorted(versions), key=operator.itemgetter(0)):
        numbers = [version for _, version in group]
        lines += [
            "  config {",
            f'    name: "{name}"',
            f'    base_path: "{CONTAINER_ROOT}/{name}"',
            f'    model_platform: "{platform}"',
            "    model_version_policy { specific { " + " ".join(f"versions: {v}" for v in numbers) + " } }",
            "  }",
        ]
    return "\n".join([*lines, "}"]) + "\n"
