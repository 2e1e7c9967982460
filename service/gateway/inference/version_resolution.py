"""Resolves the model, version or label of a request to the versions that may answer; lists the served models.

With a model store the index decides, and every request names a version. Without one, the model server's newest
AVAILABLE version answers, and requests that ask for no version leave the choice to it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from contract.commands import spell_command
from contract.errors import StoreError
from contract.store import ROLES, Index, ModelStore
from contract.trials.trial import Trial
from service.gateway.backend.backend import AVAILABLE
from service.gateway.backend.model_server import ModelServer
from service.gateway.context.errors import (
    InvalidValueError,
    LabelNotFoundError,
    ModelNotFoundError,
    NoLiveVersionError,
    NoModelError,
    NotLoadedError,
    VersionNotFoundError,
)

logger = logging.getLogger("fovea.catalog")

INITIALISING = (
    "no model to serve yet: the store's first model is being trained (docker compose logs seed); it is then picked up"
)
# Tells whether a version of a model may answer requests that name none; None where every version may at once.
TakenOver = Callable[[str, int], Awaitable[bool]]

_MISS_REREAD_S = 0.05  # how soon after a reading a request for something unknown may cause another


@dataclass(frozen=True, slots=True)
class Choice:
    """Model, version and label of a request.

    Attributes:
        model: a name, or None when exactly one model is served.
        version: a number, or None.
        label: "live", "previous" or "candidate", or None.
    """

    model: str | None = None
    version: int | None = None
    label: str | None = None

    @property
    def is_open(self) -> bool:
        """True if the request names neither version nor label."""
        return self.version is None and self.label is None


@dataclass(frozen=True, slots=True)
class Target:
    """The versions that may answer a request.

    Attributes:
        name: the model.
        versions: version numbers to try, in this order; the next one is for when the one before is not loaded.
        pinned: whether Predict names the version; if not, the model server chooses and `versions` is a guess.
        promised: whether the catalogue says that these versions exist, so that a missing one is only late.
    """

    name: str
    versions: tuple[int, ...]
    pinned: bool = True
    promised: bool = True


class Catalog(Protocol):
    """Resolves names, versions and labels."""

    def names(self) -> tuple[str, ...]:
        """Return the models that are to be served, sorted."""

    def unpromoted(self) -> Mapping[str, int]:
        """Return the models without a live version, and the candidate of each."""

    def live(self) -> Mapping[str, int]:
        """Return the live version of each model, as last read; from any thread."""

    def trials(self) -> Mapping[str, Trial]:
        """Return the trials of candidates by model, as last read; from any thread."""

    def describe_nothing(self) -> str:
        """Return the next step, or the awaited event, while no model is served."""

    async def roles(self, name: str) -> Mapping[str, int]:
        """Return a model's labels and the versions they stand for.

        Raises:
            ModelNotFoundError: if there is no such model.
        """

    async def resolve(self, choice: Choice) -> Target:
        """Return the versions that may answer a request.

        Raises:
            InvalidValueError: if no model is named and several are served.
            NoModelError: if no model is named and none is served.
            NotFoundError: if there is no such model, version or label, or the model has no live version.
            NotLoadedError: if the model has no version to answer with yet.
        """

    def invalidate(self, name: str) -> None:
        """Read the state again at the next request of a model: its resolved version was missing."""

    def record_answering(self, name: str, version: int) -> None:
        """Note which version answers requests that name none: it goes on doing so while no newer one is loaded."""


class StoreCatalog:
    """The catalog of a model store's index.

    Args:
        store: the store; only read.
        poll_s: how long one reading of the index is used, seconds.
        has_taken_over: see `TakenOver`.
    """

    def __init__(self, store: ModelStore, *, poll_s: float, has_taken_over: TakenOver | None = None) -> None:
        self._store = store
        self._poll_s = poll_s
        self._has_taken_over = has_taken_over
        self._index: Index = {}
        self._names: tuple[str, ...] = ()
        self._unpromoted: Mapping[str, int] = {}
        self._trials: Mapping[str, Trial] = {}
        self._read_at = float("-inf")
        self._answering: dict[str, int] = {}

    def names(self) -> tuple[str, ...]:
        """Return the models that have a live version, sorted."""
        self._read(self._poll_s)
        return self._names

    def unpromoted(self) -> Mapping[str, int]:
        """Return the models without a live version, and the candidate of each."""
        self._read(self._poll_s)
        return self._unpromoted

    def live(self) -> Mapping[str, int]:
        """Return the live version of each model, as last read; from any thread."""
        return {name: entry.live for name, entry in self._index.items() if entry.live is not None}

    def trials(self) -> Mapping[str, Trial]:
        """Return the trials of candidates by model, as last read; from any thread."""
        return self._trials

    def describe_nothing(self) -> str:
        """Return the next step, or the awaited event, while no model is served."""
        return INITIALISING if self._store.is_initialising else _explain_no_model()

    async def roles(self, name: str) -> Mapping[str, int]:
        """Return a model's labels and the versions they stand for.

        Raises:
            ModelNotFoundError: if there is no such model.
        """
        if not self._knows(name):
            self._read(_MISS_REREAD_S)
        if not self._knows(name):
            raise _unknown_model(name)
        entry = self._index[name]
        return {role: version for role in ROLES if (version := getattr(entry, role)) is not None}

    async def resolve(self, choice: Choice) -> Target:
        """Return the versions that may answer a request; see `Catalog`."""
        name = _choose_name(choice, self)
        roles = await self.roles(name)
        if choice.version is not None:
            if choice.version not in roles.values():
                self._read(_MISS_REREAD_S)
                roles = await self.roles(name)
            if choice.version not in roles.values():
                served = ", ".join(map(str, sorted(set(roles.values()))))
                raise VersionNotFoundError(f"{name} has no version {choice.version}. Served: {served}")
            return Target(name, (choice.version,))
        label = choice.label or "live"
        if label == "live" and label not in roles:
            self._read(_MISS_REREAD_S)
            roles = await self.roles(name)
        if label == "live" and label not in roles:
            raise NoLiveVersionError(_explain_no_live_version(name, roles["candidate"]))
        if label not in roles:
            raise LabelNotFoundError(f"{name} has no version labelled {label!r}. Labels: {', '.join(roles)}")
        versions: list[int | None] = [roles[label]]
        if label == "live":
            # Versions may be published faster than they load: then neither live nor previous is there yet.
            previous, answering = roles.get("previous"), self._answering.get(name)
            versions = [roles[label], previous, answering]
            has_taken_over = self._has_taken_over if choice.label is None else None
            if has_taken_over is not None and not await has_taken_over(name, roles[label]):
                versions = [answering, previous, roles[label]]
        return Target(name, tuple(dict.fromkeys(version for version in versions if version is not None)))

    def invalidate(self, name: str) -> None:
        """Read the index again at the next question, unless it was read just now."""
        self._read(_MISS_REREAD_S)

    def record_answering(self, name: str, version: int) -> None:
        """Note which version answers requests that name none; see `Catalog`."""
        self._answering[name] = version

    def _knows(self, name: str) -> bool:
        return name in self.names() or name in self._unpromoted

    def _read(self, max_age_s: float) -> Index:
        """Return the index, read again if the last reading is older; an unreadable one changes nothing."""
        now = time.monotonic()
        if now - self._read_at >= max_age_s:
            self._read_at = now
            try:
                self._index = self._store.read_index()
                self._names = tuple(sorted(name for name, entry in self._index.items() if entry.live is not None))
                self._unpromoted = {
                    name: entry.candidate
                    for name, entry in sorted(self._index.items())
                    if entry.live is None and entry.candidate is not None
                }
                self._trials = {
                    name: entry.trial for name, entry in sorted(self._index.items()) if entry.trial is not None
                }
            except StoreError as err:
                logger.error("keeping the index that was read before: %s", err)
        return self._index


class NamedCatalog:
    """A list of names, for gateways without access to the store; live is the newest AVAILABLE version.

    Args:
        names: the models.
        backend: the model server to ask.
        poll_s: how long one answer of the model server is used, seconds.
        has_taken_over: see `TakenOver`.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        backend: ModelServer,
        *,
        poll_s: float,
        has_taken_over: TakenOver | None = None,
    ) -> None:
        self._names = tuple(sorted(names))
        self._backend = backend
        self._poll_s = poll_s
        self._has_taken_over = has_taken_over
        self._newest: dict[str, tuple[float, int | None]] = {}

    def names(self) -> tuple[str, ...]:
        """Return the models that are to be served, sorted."""
        return self._names

    def unpromoted(self) -> Mapping[str, int]:
        """Return nothing: without a store, a version that is ready is live."""
        return {}

    def live(self) -> Mapping[str, int]:
        """Return the newest AVAILABLE version of each model, as last asked; from any thread."""
        return {name: version for name, (_, version) in list(self._newest.items()) if version is not None}

    def trials(self) -> Mapping[str, Trial]:
        """Return nothing: trials are in a store's index."""
        return {}

    def describe_nothing(self) -> str:
        """Return the next step while no model is served."""
        return _explain_no_model()

    async def roles(self, name: str) -> Mapping[str, int]:
        """Return `{"live": version}`, or nothing while no version is AVAILABLE.

        Raises:
            ModelNotFoundError: if the name is not in the list.
            GatewayError: if the model server does not answer.
        """
        if name not in self._names:
            raise _unknown_model(name)
        asked_at, version = self._newest.get(name, (float("-inf"), None))
        if time.monotonic() - asked_at >= self._poll_s:
            version = await self._ask(name)
            self._newest[name] = (time.monotonic(), version)
        return {} if version is None else {"live": version}

    async def resolve(self, choice: Choice) -> Target:
        """Return the version that may answer a request; see `Catalog`."""
        name = _choose_name(choice, self)
        if name not in self._names:
            raise _unknown_model(name)
        if choice.version is not None:
            return Target(name, (choice.version,), promised=False)
        if choice.label not in (None, "live"):
            raise LabelNotFoundError(f"{name} has no version labelled {choice.label!r}. Labels: live")
        roles = await self.roles(name)
        if not roles:
            raise NotLoadedError(f"{name} has no version on the model server that is ready")
        return Target(name, (roles["live"],), pinned=False)

    def invalidate(self, name: str) -> None:
        """Ask the model server again at the next question."""
        self._newest.pop(name, None)

    def record_answering(self, name: str, version: int) -> None:
        """Nothing to note: the model server chooses."""

    async def _ask(self, name: str) -> int | None:
        try:
            statuses = await self._backend.status(name)
        except NotLoadedError:
            return None
        available = [status.version for status in statuses if status.state == AVAILABLE]
        if self._has_taken_over is not None:
            for version in available:
                if await self._has_taken_over(name, version):
                    return version
        return next(iter(available), None)


def _choose_name(choice: Choice, catalog: Catalog) -> str:
    if choice.model is not None:
        return choice.model
    names = catalog.names() or tuple(catalog.unpromoted())
    if not names:
        raise NoModelError(catalog.describe_nothing())
    if len(names) > 1:
        raise InvalidValueError(f"model: expected a name, since several are served: {', '.join(names)}")
    return names[0]


def _unknown_model(name: str) -> ModelNotFoundError:
    return ModelNotFoundError(f"no model {name[:64]!r} is served; GET /v1/models lists those that are")


def _explain_no_live_version(name: str, candidate: int) -> str:
    return (
        f"{name} has no live version; version {candidate} is a candidate, which `version={candidate}` asks. Make it "
        f"live with `{spell_command(f'promote {name} {candidate}')}`"
    )


def _explain_no_model() -> str:
    return (
        f"no model to serve yet: train one with `{spell_command('train FOLDER')}`, where FOLDER has a folder of images "
        "for each class, or publish your own; it is then picked up"
    )
