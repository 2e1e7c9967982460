"""A task for executors whose unit 2 kills its process, and which otherwise writes a file for each unit.

python -m tests.helpers.dying_task OUT ADDRESS     works on six units by two workers, and prints their outcomes
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.units.ray_pool import RayExecutor

DYING = 2


@dataclass(frozen=True)
class DyingTask:
    out: Path

    def __call__(self, unit: int, paths: Sequence[str]) -> int:
        with (self.out / f"tried-{unit}").open("a") as file:
            file.write("x")
        if unit == DYING:
            os.kill(os.getpid(), signal.SIGKILL)
        return len(paths)

    def load(self) -> None:
        pass

    def for_worker(self, num_threads: int) -> DyingTask:
        return self


if __name__ == "__main__":
    from tests.helpers.dying_task import DyingTask as Importable  # by its name, for workers

    units = ((unit, [f"{unit}.png"]) for unit in range(6))
    for outcome in list(RayExecutor(sys.argv[2], 2)(Importable(Path(sys.argv[1])), units)):
        sys.stdout.write(f"{outcome.unit} {outcome.images} {outcome.error}\n")
