"""Figures of a trial: each gateway writes its own into a file, and readers add them up."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from contract.files.durable import replace_file
from contract.files.regular import read_regular
from contract.trials.trial import KINDS, Trial

_FORMAT = 1
_GROWTH = 1.1  # of the bounds of durations: a percentile is right to a tenth
_LEAST_S = 1e-4
_MAX_BINS = 400
_MAX_FILES = 10_000


@dataclass(slots=True)
class Durations:
    """Durations by bins, each a tenth wider than the one before.

    Attributes:
        bins: number of durations in each bin.
    """

    bins: Counter[int] = field(default_factory=Counter)

    def add(self, seconds: float) -> None:
        """Count a duration."""
        position = math.ceil(math.log(max(seconds, _LEAST_S) / _LEAST_S, _GROWTH))
        self.bins[min(position, _MAX_BINS - 1)] += 1

    def percentile(self, share: float) -> float | None:
        """Return the duration that a share of them do not exceed, seconds; None without any."""
        left = share * self.bins.total()
        for position in sorted(self.bins):
            left -= self.bins[position]
            if left <= 0:
                return _LEAST_S * _GROWTH**position
        return None


@dataclass(slots=True)
class Figures:
    """Figures of one kind of trial.

    Attributes:
        answers: calls that the candidate answered.
        errors: calls that it failed.
        not_loaded: calls for which it was not loaded.
        unreachable: calls for which the model server could not be reached.
        dropped: shadow calls that were not made for want of room.
        images: images that the candidate classified.
        agreed: of those, images in which the live version found the same class; shadow only.
        warned: of those, images with a warning by the candidate.
        live_answers: calls that the live version answered: the same ones for a shadow, the others for a canary.
        live_errors: calls that it failed.
        live_images: images in them.
        live_warned: of those, images with a warning by the live version.
        seconds: how long the candidate took.
        live_seconds: how long the live version took.
    """

    answers: int = 0
    errors: int = 0
    not_loaded: int = 0
    unreachable: int = 0
    dropped: int = 0
    images: int = 0
    agreed: int = 0
    warned: int = 0
    live_answers: int = 0
    live_errors: int = 0
    live_images: int = 0
    live_warned: int = 0
    seconds: Durations = field(default_factory=Durations)
    live_seconds: Durations = field(default_factory=Durations)

    @property
    def is_empty(self) -> bool:
        """True if nothing has been counted."""
        return all(not getattr(self, name) for name in _COUNTS)

    def count(self, name: str) -> None:
        """Add one to a number, by its name."""
        setattr(self, name, getattr(self, name) + 1)

    def add(self, other: Figures) -> None:
        """Add the figures of another gateway."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.seconds.bins.update(other.seconds.bins)
        self.live_seconds.bins.update(other.live_seconds.bins)

    def as_document(self) -> dict[str, Any]:
        """Return the figures as a file holds them."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        durations = {name: {str(k): v for k, v in sorted(getattr(self, name).bins.items())} for name in _DURATIONS}
        return {**counts, **durations}

    def summary(self) -> dict[str, Any]:
        """Return the figures with shares and percentiles, for people and the API."""
        return {
            **{name: getattr(self, name) for name in _COUNTS},
            "agreement": _share(self.agreed, self.images),
            "p50_s": self.seconds.percentile(0.5),
            "p95_s": self.seconds.percentile(0.95),
            "live_p50_s": self.live_seconds.percentile(0.5),
            "live_p95_s": self.live_seconds.percentile(0.95),
        }


_DURATIONS = ("seconds", "live_seconds")
_COUNTS = tuple(item.name for item in fields(Figures) if item.name not in _DURATIONS)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def findings_text(trial: Trial, findings: Mapping[str, Figures]) -> str:
    """Return the text of the file that says what one gateway found, by kind of trial."""
    document = {
        "format": _FORMAT,
        "started": trial.started,
        "version": trial.version,
        **{kind: figures.as_document() for kind, figures in findings.items()},
    }
    return json.dumps(document) + "\n"


def write_findings(path: Path, text: str) -> None:
    """Write what `findings_text` returned; the folder is made.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text)


def read_findings(folder: Path, trial: Trial) -> dict[str, Figures]:
    """Return what all gateways found in a trial, by kind; files of other trials and unreadable ones are passed over.

    Args:
        folder: of the model.
        trial: whose figures are wanted.
    """
    total = {kind: Figures() for kind in KINDS}
    for path in _files(folder):
        with contextlib.suppress(OSError, ValueError):
            document = json.loads(read_regular(path))
            if not isinstance(document, dict) or document.get("started") != trial.started:
                continue
            for kind, figures in total.items():
                figures.add(_parse(document.get(kind)))
    return total


def remove_findings(folder: Path, *, but: Trial) -> None:
    """Delete the files of a model's earlier trials; those that cannot be deleted stay."""
    for path in _files(folder):
        with contextlib.suppress(OSError, ValueError):
            document = json.loads(read_regular(path))
            if isinstance(document, dict) and document.get("started") != but.started:
                path.unlink()


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("*.json"))[:_MAX_FILES]
    except OSError:
        return []


def _parse(document: Any) -> Figures:
    """Return the figures of a document.

    Raises:
        ValueError: if it has none.
    """
    if not isinstance(document, dict):
        raise ValueError("expected an object")
    figures = Figures()
    for name in _COUNTS:
        setattr(figures, name, _count(document.get(name, 0)))
    for name in _DURATIONS:
        bins = document.get(name, {})
        if not isinstance(bins, dict):
            raise ValueError(f"{name}: expected an object")
        found = {min(max(int(position), 0), _MAX_BINS - 1): _count(number) for position, number in bins.items()}
        getattr(figures, name).bins.update(found)
    return figures


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("expected a number from 0 on")
    return value
