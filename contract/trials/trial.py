"""A trial of a model's candidate on live traffic, as the store's index holds it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from contract.errors import StoreError

SHADOW = "shadow"
CANARY = "canary"
KINDS = (SHADOW, CANARY)
DEFAULT_SHADOW = 0.1
OFF = "off"

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)(%?)")
_EXPECTED = "expected a share above 0 and at most 100%, such as 5% or 0.05, or off"
_MAX_TEXT = 500


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial of one version.

    Attributes:
        version: the candidate.
        started: when its first share was set, ISO 8601; names the trial in what gateways find.
        shadow: share of the requests that the candidate is asked too, 0 to 1.
        canary: share of the requests that the candidate answers, 0 to 1.
        stopped: why the canary was stopped by a gateway; None if it was not.
    """

    version: int
    started: str
    shadow: float = 0.0
    canary: float = 0.0
    stopped: str | None = None

    @property
    def is_on(self) -> bool:
        """True if the candidate gets a share of the traffic."""
        return self.shadow > 0 or self.canary > 0

    def with_share(self, kind: str, share: float) -> Trial:
        """Return the trial with a share changed; a canary that is started after a stop makes a new trial."""
        if kind == SHADOW:
            return replace(self, shadow=share)
        if share > 0 and self.stopped is not None:
            return replace(start_trial(self.version), shadow=self.shadow, canary=share)
        return replace(self, canary=share)

    def with_stop(self, reason: str) -> Trial:
        """Return the trial with its canary stopped."""
        return replace(self, canary=0.0, stopped=reason[:_MAX_TEXT])

    def as_document(self) -> dict[str, Any]:
        """Return the trial as index.json holds it."""
        return asdict(self)


def start_trial(version: int) -> Trial:
    """Return a new trial without shares."""
    return Trial(version, datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"))


def parse_share(text: str) -> float:
    """Return the share that a text names: 5%, 0.05 or off, which is 0.

    Raises:
        StoreError: if it names none.
    """
    if text.strip().lower() == OFF:
        return 0.0
    found = _SHARE.fullmatch(text.strip())
    share = 0.0 if found is None else float(found[1]) / (100 if found[2] else 1)
    if not 0 < share <= 1:
        raise StoreError(f"share: {_EXPECTED}. Received: {text[:64]!r}")
    return share


def format_share(share: float) -> str:
    """Return a share in words, such as "5%"; 0 is "off"."""
    return f"{100 * share:.6g}%" if share else OFF


def parse_trial(name: str, document: Any) -> Trial:
    """Return a trial that index.json holds; fields that a newer writer added are passed over.

    Raises:
        StoreError: naming the field that is wrong.
    """
    where = f"index.json: trials: {name}"
    if not isinstance(document, dict):
        raise StoreError(f"{where}: expected an object. Received: {str(document)[:80]}")
    shares = {}
    for kind in KINDS:
        share = document.get(kind, 0.0)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise StoreError(f"{where}: {kind}: expected a share from 0 to 1. Received: {str(share)[:80]}")
        shares[kind] = float(share)
    version, started, stopped = (document.get(key) for key in ("version", "started", "stopped"))
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise StoreError(f"{where}: version: expected a version number. Received: {str(version)[:80]}")
    if not isinstance(started, str) or not 1 <= len(started) <= _MAX_TEXT:
        raise StoreError(f"{where}: started: expected a time. Received: {str(started)[:80]}")
    if stopped is not None and not isinstance(stopped, str):
        raise StoreError(f"{where}: stopped: expected a reason or null. Received: {str(stopped)[:80]}")
    return Trial(version, started, stopped=stopped, **shares)
