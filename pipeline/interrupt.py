"""Ctrl-C that cannot get lost.

Python raises KeyboardInterrupt wherever the main thread happens to be. In a finalizer or a callback from C it is
printed and forgotten, and training goes on; so what runs for long also asks, between its steps, whether one came. A
library may also turn it into an error of its own, which then must not be taken for the reason why the command ended.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked = threading.Event()
_published: list[str] = []  # by the command that is running


@contextmanager
def remembering_interrupts() -> Iterator[None]:
    """Remember every SIGINT inside, beside raising KeyboardInterrupt; outside of the main thread, no SIGINT comes."""
    _published.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked.clear()
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        with uncovered_interrupts():
            yield
    finally:
        signal.signal(signal.SIGINT, before)
        _asked.clear()


@contextmanager
def uncovered_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt in place of an error that a library made of one, as TensorFlow does while it traces."""
    try:
        yield
    except Exception as err:
        if _asked.is_set():
            raise KeyboardInterrupt from err
        raise


def check_interrupt() -> None:
    """Raise KeyboardInterrupt if a SIGINT is pending."""
    if _asked.is_set():
        raise KeyboardInterrupt


def remember_published(reference: str) -> None:
    """Remember that this command has published a version, NAME/VERSION: a later interrupt does not undo it."""
    _published.append(reference)


def describe_interrupt() -> str:
    """Return what an interrupted command says that it has done."""
    if not _published:
        return "interrupted; nothing was published"
    return f"interrupted; {', '.join(dict.fromkeys(_published))} was published before that and stays"


def _interrupt(number: int, frame: FrameType | None) -> None:
    _asked.set()
    raise KeyboardInterrupt
