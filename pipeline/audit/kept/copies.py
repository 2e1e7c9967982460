"""Keeps the results of searches for changed copies, so that the next search compares only new pictures with all.

A file is one search: the SHA-256 of the rest, then an .npz of the pictures' keys, the pairs and the set's statistics.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version as package_version
from pathlib import Path

import numpy as np

from pipeline.audit.thumbnail_spectra import Basis
from pipeline.run_warnings import Weight, warn
from pipeline.segments import delete_segments, list_segments, read_checked, write_checked

log = logging.getLogger(__name__)

FOLDER = Path(".cache") / "copies"  # below the folder of runs
_METHOD = 1  # counted up when the same pictures give other pairs
_MOST_NEW = 0.25  # share of the pictures that the statistics were not made from: with more, all are compared again
_READ = 16  # files of earlier searches that are looked at, the latest first


@dataclass(frozen=True)
class Search:
    """A search for changed copies.

    Attributes:
        keys: of the pictures, without repetition.
        pairs: kinds of change by pair of keys.
        bases: statistics by side of the pictures.
        counts: how many pictures each of these was made from.
    """

    keys: frozenset[str] = frozenset()
    pairs: Mapping[tuple[str, str], str] = field(default_factory=dict)
    bases: Mapping[int, Basis] = field(default_factory=dict)
    counts: Mapping[int, int] = field(default_factory=dict)

    def basis(self, side: int, count: int) -> Basis | None:
        """Return the statistics of pictures of a side; None where they were made from too few of now `count`."""
        return self.bases.get(side) if self.counts.get(side, 0) >= (1 - _MOST_NEW) * count else None


class KeptCopies:
    """Searches by the same method.

    Args:
        folder: of all searches.
        definition: what else the pictures depend on, as `define_facts` gives it.
        max_bytes: that `folder` may hold; the longest unused files go first.
    """

    def __init__(self, folder: Path, definition: str, *, max_bytes: int) -> None:
        document = [_METHOD, definition, *(package_version(name) for name in ("numpy", "scipy"))]
        name = hashlib.sha256(json.dumps(document).encode()).hexdigest()[:32]
        self._folder, self._own, self._max_bytes = folder, folder / name, max_bytes

    def find(self, keys: Iterable[str]) -> Search:
        """Return the earlier search that has the most of some pictures; an empty one without any."""
        wanted, best, used = frozenset(keys), Search(), None
        files = sorted(self._own.glob("*.search"), key=_changed_at, reverse=True)
        for path in files[:_READ]:
            found = _read(path)
            if found is not None and len(found.keys & wanted) > len(best.keys & wanted):
                best, used = found, path
        if used is not None:
            with suppress(OSError):
                os.utime(used)
        return best

    def add(self, search: Search) -> None:
        """Write a search; where it cannot be written, the next one compares all pictures again."""
        content = _to_bytes(search)
        try:
            total, free = list_segments(self._folder, ".search", ())
            if delete_segments(free, total + len(content) - self._max_bytes):
                write_checked(self._own, ".search", content)
        except OSError as err:
            text = "the search for copies cannot be kept in %s: %s; the next one compares all pictures"
            warn(log, Weight.SPEED, text, self._own, err.strerror or err)


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0  # another run made room meanwhile


def _to_bytes(search: Search) -> bytes:
    keys = sorted(search.keys)
    places = {key: place for place, key in enumerate(keys)}
    arrays = {
        "keys": np.array(keys, "S64"),
        "pairs": np.array([[places[key] for key in pair] for pair in search.pairs], np.int64).reshape(-1, 2),
        "kinds": np.array(list(search.pairs.values()), np.str_),
        "sides": np.array(sorted(search.bases), np.int64),
        "counts": np.array([search.counts[side] for side in sorted(search.bases)], np.int64),
    }
    for side, basis in search.bases.items():
        arrays[f"weights-{side}"], arrays[f"mean-{side}"] = basis.weights, basis.mean
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def _read(path: Path) -> Search | None:
    """Return a search; None of a file that is gone or damaged, which is deleted."""
    try:
        with np.load(io.BytesIO(read_checked(path))) as arrays:
            return _from_arrays(arrays)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as err:
        warn(log, Weight.SPEED, "%s is damaged and is not used; its pictures are compared again: %s", path, err)
        with suppress(OSError):
            path.unlink()
        return None


def _from_arrays(arrays: Mapping[str, np.ndarray]) -> Search:
    keys: Sequence[str] = [key.decode() for key in arrays["keys"].tolist()]
    pairs = [(keys[first], keys[second]) for first, second in arrays["pairs"].tolist()]
    sides = arrays["sides"].tolist()
    return Search(
        frozenset(keys),
        dict(zip(pairs, arrays["kinds"].tolist(), strict=True)),
        {side: Basis(arrays[f"weights-{side}"], arrays[f"mean-{side}"]) for side in sides},
        dict(zip(sides, arrays["counts"].tolist(), strict=True)),
    )
