"""Progress on stderr: a moving bar with the time left on a terminal, an occasional line in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_LOG_INTERVAL_S = 15.0


def progress_bar(iterable: Iterable[Any] | None = None, *, total: int, what: str, unit: str, done: int = 0) -> Any:
    """Return a tqdm bar over an iterable, or one to be updated by hand.

    Args:
        iterable: yields the items; None for a bar that the caller updates.
        total: number of items.
        what: shown before the bar.
        unit: name of one item.
        done: items that were there before; they do not count in the rate.
    """
    interval = 0.2 if sys.stderr.isatty() else _LOG_INTERVAL_S
    return tqdm(iterable, total=total, initial=done, desc=what, unit=unit, mininterval=interval, maxinterval=interval)


def note(text: str) -> None:
    """Write one line to stderr, above a bar if there is one."""
    tqdm.write(text, file=sys.stderr)
