"""Lets Fovea and plain Keras train one recipe in turns, an epoch at a time, so that both bear the same load."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.training.job import Job
from benchmarks.training.sides import train_by_fovea, train_by_keras

FOVEA, KERAS = "fovea", "keras"
_SIDES: Mapping[str, Callable[[Sequence[Job], Connection], None]] = {FOVEA: train_by_fovea, KERAS: train_by_keras}
_PATIENCE_S = 7200.0  # of one epoch


def train_in_turns(jobs: Sequence[Job]) -> Iterator[dict[str, Any]]:
    """Yield each job's test accuracy and epochs on each side, and the load of the machine before each epoch.

    The side that begins changes with each epoch.
    """
    with ExitStack() as stack:
        sides = {name: stack.enter_context(_started(train, jobs)) for name, train in _SIDES.items()}
        for job in jobs:
            yield _train_one(job, sides)


def _train_one(job: Job, sides: Mapping[str, Connection]) -> dict[str, Any]:
    results: dict[str, Any] = {name: {"epochs": []} for name in sides}
    loads = []
    for epoch in range(job.epochs):
        order = sorted(sides, reverse=epoch % 2 == 1)
        for name in order:
            _receive(name, sides[name], "waits")  # data and network are ready
        for name in order:
            loads.append(round(os.getloadavg()[0], 2))
            sides[name].send("your turn")
            results[name]["epochs"].append(_receive(name, sides[name], "seconds"))
    for name, connection in sides.items():
        results[name]["accuracy"] = _receive(name, connection, "accuracy")["accuracy"]
    return {**results, "load": loads}


@contextmanager
def _started(train: Callable[[Sequence[Job], Connection], None], jobs: Sequence[Job]) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=train, args=(jobs, theirs))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(60)
        if process.is_alive():
            process.kill()
            process.join()


def _receive(name: str, connection: Connection, key: str) -> dict[str, Any]:
    if not connection.poll(_PATIENCE_S):
        raise TimeoutError(f"{name}: expected {key} within {_PATIENCE_S:g} s")
    try:
        message: dict[str, Any] = connection.recv()
    except EOFError as err:
        raise RuntimeError(f"{name} has ended; its error is above") from err
    if key not in message:
        raise RuntimeError(f"{name}: expected {key}. Received: {message}")
    return message
