"""One version of one model, on its way from START to END."""

from __future__ import annotations

import enum
from pathlib import Path

from engine.errors import EngineError
from engine.scheduling import ModelQueue


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
        queue: takes its calls while it is AVAILABLE, and finishes them while it is UNLOADING.
        error: why it ended, if that was not by intent.
    """

    def __init__(self, model: str, number: int, path: Path) -> None:
        self.model = model
        self.number = number
        self.path = path
        self.state = State.START
        self.aspired = True
        self.queue: ModelQueue | None = None
        self.error: EngineError | None = None

    def __str__(self) -> str:
        return f"{self.model}/{self.number}"

    def end(self, error: EngineError | None) -> None:
        """Go to END, for good."""
        self.state, self.error = State.END, error
