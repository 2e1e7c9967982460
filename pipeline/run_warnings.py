"""Warnings of a run: logged when they come, kept with their weight, repeated when the run ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

_KEPT = ("pipeline", "engine")  # loggers whose warnings concern a run
_FIELD = "fovea_weight"


class Weight(IntEnum):
    """The subject that a warning casts doubt on; the weightiest is the lowest."""

    FIGURES = 1  # test figures that cannot be compared, or a test that is not honest any more
    LEAKAGE = 2  # copies and groups on two sides of the split, labels that contradict one another
    EVALUATION = 3  # operating points, classes without images, the start of training
    IMAGES = 4  # the quality of images, files that were left out
    SPEED = 5  # the same result, later


@dataclass(frozen=True)
class RunWarning:
    """One warning.

    Attributes:
        text: as logged.
        weight: its place among the others.
    """

    text: str
    weight: Weight


def warn(log: logging.Logger, weight: Weight, message: str, *values: object) -> None:
    """Log a warning with its weight; the message is a %-format of the values."""
    log.warning(message, *values, extra={_FIELD: weight}, stacklevel=2)


class RunWarnings(logging.Handler):
    """Keeps the warnings of a run, from whatever thread they come."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._found: dict[str, RunWarning] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning; one without a weight stands with those on the evaluation."""
        text = record.getMessage()
        self._found.setdefault(text, RunWarning(text, getattr(record, _FIELD, Weight.EVALUATION)))

    def weighed(self) -> tuple[RunWarning, ...]:
        """Return every warning once, the weightiest first, those of one weight in the order they came."""
        return tuple(sorted(self._found.values(), key=lambda warning: warning.weight))


@contextmanager
def collect_warnings() -> Iterator[RunWarnings]:
    """Keep the warnings that are logged inside."""
    found = RunWarnings()
    loggers = [logging.getLogger(name) for name in _KEPT]
    for logger in loggers:
        logger.addHandler(found)
    try:
        yield found
    finally:
        for logger in loggers:
            logger.removeHandler(found)
