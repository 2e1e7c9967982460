"""The registry of runtimes: a new one is a module with a `RUNTIME` and a line in `RUNTIMES`.

A runtime says its name, the models that it reads and its precisions on this machine, and loads a model
(`engine.engine.Runtime`). Its module is imported at the first use, its package when it loads the first model.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from engine.errors import ModelLoadError

if TYPE_CHECKING:
    from engine.engine import Runtime

AUTO = "auto"

# Modules by the runtime's name, in the order in which "auto" asks them.
RUNTIMES = {
    "openvino": "engine.runtimes.openvino",
    "tensorflow": "engine.runtimes.tensorflow",
}


def engine_names() -> tuple[str, ...]:
    """Return the values of an `engine` setting."""
    return (AUTO, *RUNTIMES)


def find_runtimes(engine: str = AUTO) -> Sequence[Runtime]:
    """Return the runtimes that an `engine` setting allows, the preferred one first.

    Raises:
        ModelLoadError: if there is no such runtime.
    """
    if engine not in engine_names():
        raise ModelLoadError(
            f"engine: expected one of {', '.join(engine_names())}. Received: {engine}", code="INVALID_ARGUMENT"
        )
    names = RUNTIMES if engine == AUTO else (engine,)
    return [importlib.import_module(RUNTIMES[name]).RUNTIME for name in names]


def preferred_runtime() -> Runtime:
    """Return the runtime that "auto" asks first."""
    return find_runtimes()[0]


def reference_runtime() -> Runtime:
    """Return the runtime that the others are compared with."""
    return next(runtime for runtime in find_runtimes() if runtime.is_reference)


def runtime_version(name: str) -> str:
    """Return the installed version of a runtime; empty if its package is missing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
