"""One version of one model: where it is on its way from START to END, and the calls that run on it."""

from __future__ import annotations

import asyncio
import enum
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.model import Engine


class State(enum.IntEnum):
    """States with the numbers of tensorflow.serving.ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class ServedVersion:
    """A version that is, was or shall be served; changed on the event loop only.

    Args:
        model: the model's name.
        number: the version's.
        path: its folder.

    Attributes:
        state: START until it changes.
        aspired: whether the configuration wants it.
        engine: the loaded model while AVAILABLE or UNLOADING.
        error: why it ended, if that was not by intent.
    """

    def __init__(self, model: str, number: int, path: Path) -> None:
        self.model = model
        self.number = number
        self.path = path
        self.state = State.START
        self.aspired = True
        self.engine: Engine | None = None
        self.error: EngineError | None = None
        self._running: set[Future[Any]] = set()

    def __str__(self) -> str:
        return f"{self.model}/{self.number}"

    def hold(self, running: Future[Any]) -> None:
        """Keep the version loaded until a call is done, be it answered, failed, cancelled or abandoned."""
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def drained(self) -> None:
        """Wait until no call runs on the version; new ones no longer find it."""
        waiting = [asyncio.wrap_future(call) for call in tuple(self._running)]
        await asyncio.gather(*waiting, return_exceptions=True)

    def end(self, error: EngineError | None) -> None:
        """Go to END, for good."""
        self.state, self.error = State.END, error
