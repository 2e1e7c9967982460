"""Finds copies that were mirrored, turned by quarters, cropped by up to a tenth at each edge, or compressed hard.

Descriptors of the whole set are correlated: each picture with all pictures in seven other orientations, with windows
of all pictures, and in sets of up to 2,000 with windows in the other orientations. The best candidates of each picture
are aligned pixel by pixel, and only those that agree in every part are pairs. The work grows with the square of the
number of images; pictures that were compared with each other before are compared with new ones alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.registration import align
from pipeline.audit.thumbnail_spectra import ORIENTATIONS, Descriptors, Floats, Window, orient

_WHOLE: Window = (0.0, 1.0, 0.0, 1.0)
# Chosen greedily: every window that leaves out at most a tenth at each edge correlates with one of these by 0.85 or
# more, on 500 windows of the synthetic eyes.
_WINDOWS: tuple[Window, ...] = (
    _WHOLE,
    (0.05, 0.95, 0.05, 0.95),
    (0.1, 0.9, 0.1, 0.9),
    (0.033, 0.933, 0.067, 0.933),
    (0.067, 1.0, 0.033, 0.967),
    (0.0, 0.9, 0.033, 0.933),
    (0.033, 0.967, 0.0, 0.933),
    (0.033, 0.967, 0.067, 1.0),
    (0.067, 0.933, 0.033, 0.967),
    (0.067, 1.0, 0.033, 0.9),
    (0.033, 0.9, 0.067, 0.967),
    (0.067, 1.0, 0.1, 0.967),
    (0.033, 0.967, 0.1, 0.9),
    (0.033, 0.933, 0.0, 0.9),
    (0.0, 0.9, 0.033, 1.0),
    (0.1, 1.0, 0.033, 0.967),
    (0.067, 0.967, 0.033, 0.933),
    (0.0, 0.967, 0.033, 0.967),
    (0.0, 0.967, 0.1, 0.933),
    (0.067, 0.933, 0.0, 1.0),
    (0.067, 0.9, 0.067, 1.0),
    (0.0, 0.9, 0.067, 0.967),
    (0.033, 0.967, 0.0, 0.9),
    (0.033, 1.0, 0.067, 0.933),
    (0.0, 1.0, 0.067, 0.967),
    (0.1, 1.0, 0.033, 1.0),
    (0.0, 0.9, 0.067, 1.0),
)
# Lowest correlations of candidates; copies have 0.99 and more, and 0.8 and more in a window.
_ORIENTED, _CROPPED = 0.85, 0.8
_BOTH = 2_000  # pictures, up to which those that were both turned and cropped are searched: 182 correlations with all
_MOST = 8  # candidates of one picture, of each family
_ROWS = 1024  # pictures correlated with all others at a time
_PAIRS = 2048  # pairs aligned at a time: bounds memory
_WHOLE_EDGE = 0.015  # of a side: a window that leaves out less shows the whole picture
_BRIGHTER = 1.1  # ratio of mean grey levels from which on brightness is said
_NAMES = (
    "",
    "mirrored",
    "mirrored top to bottom",
    "turned by 180 degrees",
    "mirrored and turned by 90 degrees",
    "turned by 90 degrees",
    "turned by 90 degrees",
    "mirrored and turned by 90 degrees",
)


@dataclass(frozen=True, slots=True)
class ChangedCopy:
    """Two images that show the same.

    Attributes:
        first: index of the one.
        second: index of the other, greater.
        kind: such as "mirrored"; "" when neither place nor brightness has changed.
    """

    first: int
    second: int
    kind: str


@dataclass(frozen=True)
class _Candidates:
    """Pairs in one family: `second`, changed by `change`, looks like `first`, or like a window of it."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    change: NDArray[np.intp]
    correlation: Floats


def find_changed_copies(descriptors: Descriptors, num_known: int = 0) -> list[ChangedCopy]:
    """Return the pairs, sorted, each once.

    Args:
        descriptors: of pictures whose side is a power of 2, at least 16.
        num_known: how many of the first pictures have been compared with each other.
    """
    pictures = descriptors.pictures
    if len(pictures) < 2 or num_known == len(pictures):
        return []
    found: dict[tuple[int, int], str] = {}
    # The first kind that holds is kept: a symmetrical picture is a plain copy before it is a mirrored one.
    kinds = [_cropped(pictures, descriptors, num_known), _oriented(pictures, descriptors, num_known)]
    if len(pictures) <= _BOTH:
        kinds.append(_oriented_and_cropped(pictures, descriptors, num_known))
    for pairs in kinds:
        for pair in pairs:
            found.setdefault((pair.first, pair.second), pair.kind)
    return [ChangedCopy(first, second, kind) for (first, second), kind in sorted(found.items())]


def describe_brightness(one: float, other: float) -> str:
    """Return "of another brightness" for two copies whose mean grey levels differ so."""
    low, high = sorted((one, other))
    return "of another brightness" if high > _BRIGHTER * low else ""


def _cropped(pictures: NDArray[np.uint8], descriptors: Descriptors, num_known: int) -> Iterator[ChangedCopy]:
    whole = descriptors.oriented(0)
    best = _no_candidates()
    for number, window in enumerate(_WINDOWS):
        parts = descriptors.cropped(window)
        best = _best(best, _correlate(parts, whole, number, _CROPPED, start=num_known))
        if num_known:
            new = _correlate(parts[num_known:], whole[:num_known], number, _CROPPED, offset=num_known)
            best = _best(best, new)
    for pairs in _chunks(best):
        windows = np.array(_WINDOWS, np.float32)[pairs.change]
        one, other = pictures[pairs.first], pictures[pairs.second]
        aligned = align(one.astype(np.float32), other.astype(np.float32), windows)
        cropped = np.abs(aligned.windows - np.array(_WHOLE, np.float32)).max(1) > _WHOLE_EDGE
        for i in np.flatnonzero(aligned.same).tolist():
            yield _pair(pairs, i, "cropped" if cropped[i] else _describe_brightness(one[i], other[i]))


def _oriented(pictures: NDArray[np.uint8], descriptors: Descriptors, num_known: int) -> Iterator[ChangedCopy]:
    whole = descriptors.oriented(0)
    best = _no_candidates()
    for orientation in range(1, ORIENTATIONS):
        turned = descriptors.oriented(orientation)
        best = _best(best, _correlate(whole, turned, orientation, _ORIENTED, start=num_known, once=True))
    for pairs in _chunks(best):
        one, other = pictures[pairs.first], pictures[pairs.second]
        turned_back = orient(other.astype(np.float32), pairs.change)
        whole_picture = np.tile(np.array(_WHOLE, np.float32), (len(one), 1))
        aligned = align(one.astype(np.float32), turned_back, whole_picture)
        for i in np.flatnonzero(aligned.same).tolist():
            yield _pair(pairs, i, _NAMES[pairs.change[i]], _describe_brightness(one[i], other[i]))


def _oriented_and_cropped(
    pictures: NDArray[np.uint8], descriptors: Descriptors, num_known: int
) -> Iterator[ChangedCopy]:
    turned = [descriptors.oriented(orientation) for orientation in range(1, ORIENTATIONS)]
    best = _no_candidates()
    for number, window in enumerate(_WINDOWS[1:], 1):
        parts = descriptors.cropped(window)
        for orientation, whole in enumerate(turned, 1):
            change = number * ORIENTATIONS + orientation
            best = _best(best, _correlate(parts, whole, change, _CROPPED, start=num_known))
            if num_known:
                new = _correlate(parts[num_known:], whole[:num_known], change, _CROPPED, offset=num_known)
                best = _best(best, new)
    for pairs in _chunks(best):
        numbers, orientations = np.divmod(pairs.change, ORIENTATIONS)
        one, other = pictures[pairs.first], pictures[pairs.second]
        turned_back = orient(other.astype(np.float32), orientations)
        aligned = align(one.astype(np.float32), turned_back, np.array(_WINDOWS, np.float32)[numbers])
        for i in np.flatnonzero(aligned.same).tolist():
            yield _pair(pairs, i, _NAMES[orientations[i]], "cropped")


def _describe_brightness(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> str:
    return describe_brightness(float(one.mean()), float(other.mean()))


def _pair(pairs: _Candidates, i: int, *kinds: str) -> ChangedCopy:
    first, second = sorted((int(pairs.first[i]), int(pairs.second[i])))
    return ChangedCopy(first, second, ", ".join(filter(None, kinds)))


def _correlate(
    first: Floats, second: Floats, change: int, least: float, *, start: int = 0, offset: int = 0, once: bool = False
) -> _Candidates:
    """Return the pairs of unlike rows that correlate by at least `least`, at most `_MOST` for a row of `second`.

    Args:
        first: descriptors, shape (pictures, frequencies).
        second: as `first`, of changed pictures.
        change: its number.
        least: correlation.
        start: the first row of `second` that is compared.
        offset: the picture of the first row of `first`.
        once: leave out pairs whose `first` comes before `second`: the other order finds them.
    """
    parts = [_no_candidates()]
    for place in range(start, len(second), _ROWS):
        rows = second[place : place + _ROWS]
        stop = place + len(rows)
        sums = rows @ first[: stop if once else None].T
        if not offset:
            sums[np.arange(len(rows)), np.arange(place, stop)] = -1  # a picture and itself
        if (sums >= least).sum() > _MOST * len(rows):
            crowd = np.partition(sums, -_MOST, axis=1)[:, -_MOST][:, None]
            sums[sums < crowd] = -1
        row, column = np.divmod(np.flatnonzero(sums >= least), sums.shape[1])
        parts.append(_Candidates(column + offset, row + place, np.full(len(row), change), sums[row, column]))
    return _join(parts)


def _best(one: _Candidates, other: _Candidates) -> _Candidates:
    """Return each pair once, by its best change, and of each picture only the best pairs."""
    both = _join([one, other])
    order = np.lexsort((-both.correlation, both.first, both.second))
    first, second = both.first[order], both.second[order]
    order = order[np.r_[True, (first[1:] != first[:-1]) | (second[1:] != second[:-1])]] if len(order) else order
    order = order[np.lexsort((-both.correlation[order], both.second[order]))]
    second = both.second[order]
    rank = np.arange(len(order)) - np.searchsorted(second, second)
    return _pick(both, order[rank < _MOST])


def _chunks(pairs: _Candidates) -> Iterator[_Candidates]:
    for start in range(0, len(pairs.first), _PAIRS):
        yield _pick(pairs, np.arange(start, min(start + _PAIRS, len(pairs.first))))


def _pick(pairs: _Candidates, chosen: NDArray[np.intp]) -> _Candidates:
    return _Candidates(pairs.first[chosen], pairs.second[chosen], pairs.change[chosen], pairs.correlation[chosen])


def _no_candidates() -> _Candidates:
    none = np.zeros(0, np.intp)
    return _Candidates(none, none, none, np.zeros(0, np.float32))


def _join(parts: Sequence[_Candidates]) -> _Candidates:
    return _Candidates(
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.second for part in parts]),
        np.concatenate([part.change for part in parts]),
        np.concatenate([part.correlation for part in parts]),
    )
