"""Fovea in Python and on the command line: train, load a version, ask a service.

    import fovea

    training = fovea.train("cells")
    fovea.load("cells").predict("cell.png")
    fovea.Client().predict(["cell.png"])

Importing this package imports nothing else; each name imports its modules when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fovea.local import Model, load
    from fovea.training import Training, train
    from service import VERSION as __version__
    from service.client import AsyncFoveaClient as AsyncClient
    from service.client import FoveaClient as Client
    from service.results import FoveaError as Error

__all__ = ["AsyncClient", "Client", "Error", "Model", "Training", "__version__", "load", "train"]

# Public name: module, name in it, the extras that it needs.
_SOURCES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "AsyncClient": ("service.client", "AsyncFoveaClient", ("client",)),
    "Client": ("service.client", "FoveaClient", ("client",)),
    "Error": ("service.results", "FoveaError", ()),
    "Model": ("fovea.local", "Model", ("modelserver", "tensorflow")),
    "Training": ("fovea.training", "Training", ("pipeline", "tensorflow")),
    "__version__": ("service", "VERSION", ()),
    "load": ("fovea.local", "load", ("modelserver", "tensorflow")),
    "train": ("fovea.training", "train", ("pipeline", "tensorflow")),
}


def __getattr__(name: str) -> Any:
    if name not in _SOURCES:
        raise AttributeError(f"module 'fovea' has no attribute {name!r}")
    from fovea.extras import check_extras

    module, attribute, extras = _SOURCES[name]
    check_extras(f"fovea.{name}", extras)
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
