"""One version of one model, on its way from START to END."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from engine.errors import EngineError
from service.modelserver.serving.scheduling import ModelQueue


class State(enum.IntEnum):
    """States with the numbers of tensorflow.serving.ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(eq=False, slots=True)
class ServedVersion:
    """A version that is, was or shall be served; changed on the event loop only.

    Attributes:
        path: its folder.
        aspired: whether the configuration wants it.
        queue: takes its calls while it is AVAILABLE.
        error: why it ended, if that was not by intent.
    """

    model: str
    number: int
    path: Path
    state: State = State.START
    aspired: bool = True
    queue: ModelQueue | None = None
    error: EngineError | None = None

    def __str__(self) -> str:
        return f"{self.model}/{self.number}"

    def end(self, error: EngineError | None) -> None:
        """Go to END, for good."""
        self.state, self.error = State.END, error
