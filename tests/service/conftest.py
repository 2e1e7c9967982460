"""Fixtures: processes of the service that end with their test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.gateway_process import ServiceProcess

StartProcess = Callable[..., ServiceProcess]


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[StartProcess]:
    """A function that starts `python -m service ...` for one test."""
    processes: list[ServiceProcess] = []
    numbers = itertools.count()

    def start(*arguments: str, **environ: str) -> ServiceProcess:
        folder = tmp_path / f"process{next(numbers)}"
        folder.mkdir()
        processes.append(ServiceProcess(arguments, folder, environ))
        return processes[-1]

    yield start
    for process in processes:
        process.stop()
