"""The review of kept images: what a model says of each, and in which order reviewers see them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, fields
from typing import Any, Literal

from service.gateway.records.feedback_store import NO_LABEL, FeedbackStore

Order = Literal["doubt", "disagreement", "uncertainty", "newest"]
State = Literal["waiting", "unlabelled", "reviewed", "all"]

# 1 minus the probability of the given label; an image that no model has judged counts as fully disagreed.
_DISAGREEMENT = f"CASE WHEN f.label = '{NO_LABEL}' THEN 0.0 ELSE 1.0 - COALESCE(r.label_probability, 0.0) END"
# 1 minus the distance of the first two classes; a warning says that the probabilities mean nothing.
_UNCERTAINTY = "CASE WHEN COALESCE(r.warnings, '') != '' THEN 1.0 ELSE 1.0 - COALESCE(r.margin, 0.0) END"
_ORDERS: dict[Order, str] = {
    "doubt": f"MAX({_DISAGREEMENT}, {_UNCERTAINTY}) DESC, f.created",
    "disagreement": f"{_DISAGREEMENT} DESC, {_UNCERTAINTY} DESC, f.created",
    "uncertainty": f"{_UNCERTAINTY} DESC, f.created",
    "newest": "f.created DESC",
}
_STATES: dict[State, str] = {
    "waiting": "COALESCE(r.reviewed, 0) = 0",
    "unlabelled": f"f.label = '{NO_LABEL}'",
    "reviewed": "r.reviewed = 1",
    "all": "1",
}
_COLUMNS = (
    "f.id, f.created, f.model, f.version, f.label, f.request_id, f.note, f.key, COALESCE(r.reviewed, 0), r.predicted, "
    "r.probability, r.label_probability, COALESCE(r.warnings, ''), "
    f"{_DISAGREEMENT}, {_UNCERTAINTY}"
)
_JOINED = "feedback f LEFT JOIN review r ON r.id = f.id"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the model says of a kept image.

    Attributes:
        predicted: id of the most probable class.
        probability: of that class.
        margin: its distance from the second class.
        label_probability: of the given label; None of an image without one.
        warnings: codes of what speaks against trusting the probabilities.
    """

    predicted: str
    probability: float
    margin: float
    label_probability: float | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A kept image in the review.

    Attributes:
        id: of the feedback.
        created: seconds since 1970.
        model: that it belongs to.
        version: that the image was sent to.
        label: id of its class; NO_LABEL if it waits for one.
        request_id: of the prediction, if the sender gave it.
        note: the sender's, if there is one.
        key: name of the sender's API key; None without one.
        reviewed: whether a reviewer accepted or corrected it.
        predicted: id of the most probable class; None if no model has judged it.
        probability: of that class.
        label_probability: of the given label.
        warnings: codes, as in a prediction.
        disagreement: 0 to 1.
        uncertainty: 0 to 1.
    """

    id: str
    created: float
    model: str
    version: int
    label: str
    request_id: str | None
    note: str | None
    key: str | None
    reviewed: bool
    predicted: str | None
    probability: float | None
    label_probability: float | None
    warnings: tuple[str, ...]
    disagreement: float
    uncertainty: float


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the review.

    Attributes:
        entries: in the asked order.
        total: entries of the asked state and model.
        counts: entries by state, of the asked model or of all.
    """

    entries: list[Entry]
    total: int
    counts: dict[str, int]


def write_judgement(store: FeedbackStore, feedback_id: str, judgement: Judgement) -> None:
    """Write what the model says of an image; a reviewer's decision stays.

    Raises:
        StorageError: if it cannot be written.
    """
    values: dict[str, Any] = {
        "id": feedback_id,
        "predicted": judgement.predicted,
        "probability": judgement.probability,
        "margin": judgement.margin,
        "label_probability": judgement.label_probability,
        "warnings": " ".join(judgement.warnings),
    }
    changes = ", ".join(f"{name} = excluded.{name}" for name in values if name != "id")
    with store.reading() as index:
        if index.execute("SELECT 1 FROM feedback WHERE id = ?", (feedback_id,)).fetchone():  # deleted meanwhile
            index.execute(
                f"INSERT INTO review ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)}) "
                f"ON CONFLICT (id) DO UPDATE SET {changes}",
                values,
            )


def list_entries(
    store: FeedbackStore, *, state: State, model: str | None, order: Order, limit: int, offset: int
) -> Page:
    """Return a part of the review.

    Raises:
        StorageError: if the index cannot be read.
    """
    of_model = "(:model IS NULL OR f.model = :model)"
    where = f"{_STATES[state]} AND {of_model}"
    values = {"model": model, "limit": limit, "offset": offset}
    with store.reading() as index:
        rows = index.execute(
            f"SELECT {_COLUMNS} FROM {_JOINED} WHERE {where} ORDER BY {_ORDERS[order]}, f.id "
            "LIMIT :limit OFFSET :offset",
            values,
        ).fetchall()
        total = _count(index, where, values)
        counts = {
            str(name): _count(index, f"{condition} AND {of_model}", values) for name, condition in _STATES.items()
        }
    return Page([_entry(row) for row in rows], total, counts)


def find_model(store: FeedbackStore, feedback_id: str) -> str | None:
    """Return the model of an image; None if there is no such id."""
    with store.reading() as index:
        row = index.execute("SELECT model FROM feedback WHERE id = ?", (feedback_id,)).fetchone()
    return None if row is None else str(row[0])


_NAMES = tuple(field.name for field in fields(Entry))  # of _COLUMNS


def _count(index: sqlite3.Connection, where: str, values: dict[str, Any]) -> int:
    return int(index.execute(f"SELECT COUNT(*) FROM {_JOINED} WHERE {where}", values).fetchone()[0])


def _entry(row: tuple[Any, ...]) -> Entry:
    values = dict(zip(_NAMES, row, strict=True))
    return Entry(**{**values, "reviewed": bool(values["reviewed"]), "warnings": tuple(values["warnings"].split())})
