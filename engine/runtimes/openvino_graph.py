"""Reads a signature of a version for OpenVINO, its weights mapped from a file and shared by all that compile it.

A compiled model holds its weights twice: as the graph had them, and as its processor wants them. The first are read
while it is compiled and warmed up, and hardly ever again. In a mapped file their pages can be dropped afterwards, and
the system reads them again where one is needed after all.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any, Final

from engine.memory import drop_mapped_pages
from engine.network_file import network_path, network_source
from engine.saved_model import DEFAULT_SIGNATURE, copy_as_default

logger = logging.getLogger(__name__)

_PREFIX: Final = "fovea-"


class Graph:
    """A signature as an `openvino.Model`.

    Args:
        model: may be compiled any number of times; only a clone of it may be reshaped.
        weights: the file that the model's weights are mapped from, which may have been removed; None if they are in
            memory.
    """

    def __init__(self, model: Any, weights: Path | None) -> None:
        self.model = model
        self._weights = weights

    def drop_pages(self) -> None:
        """Give back the memory of the weights as the file has them; they are read again when they are needed."""
        if self._weights is not None:
            drop_mapped_pages(self._weights)


_Identity = tuple[str, int, int]
_graphs: weakref.WeakValueDictionary[tuple[_Identity | None, str], Graph] = weakref.WeakValueDictionary()
_reading = threading.Lock()


def identify_file(directory: Path) -> _Identity | None:
    """Return what tells the file of a version's network from one that takes its place; None if there is none."""
    path = network_path(directory)
    try:
        status = path.stat()
    except OSError:
        return None
    return str(path), status.st_ino, status.st_mtime_ns


def read_graph(openvino: Any, core: Any, directory: Path, signature: str) -> Graph:
    """Return a signature of a version, the one that is in use already if there is one.

    Args:
        openvino: the module.
        core: an `openvino.Core`.
        directory: the version's folder.
        signature: the name of one that it has.

    Raises:
        ModelLoadError: if there is no such version.
        RuntimeError: if OpenVINO cannot read it.
    """
    with _reading:
        key = identify_file(directory), signature
        graph = _graphs.get(key)
        if graph is None:
            model = _read(core, directory, signature)
            graph = _graphs[key] = _map_weights(openvino, core, model) or Graph(model, None)
        return graph


def _read(core: Any, directory: Path, signature: str) -> Any:
    """Return a signature as OpenVINO reads it, folded as it would be at each compilation."""
    if signature == DEFAULT_SIGNATURE:
        model = core.read_model(network_source(directory))
    else:
        with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
            copy_as_default(directory, signature, Path(folder))
            model = core.read_model(folder)
    # Private; tests/repository/test_private_apis.py names the version it was read in. Without it, each compilation
    # folds the layout of the kernels and the batch normalisation into a copy of the weights of its own.
    from openvino._offline_transformations import apply_moc_transformations

    apply_moc_transformations(model, True)
    return model


def _map_weights(openvino: Any, core: Any, model: Any) -> Graph | None:
    """Return the model with its weights mapped from a file without a name; None if there is no room for one."""
    try:
        with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
            path = Path(folder, "model.xml")
            openvino.save_model(model, path, compress_to_fp16=False)
            return Graph(core.read_model(path), path.with_suffix(".bin"))
    except (OSError, RuntimeError) as err:
        reason = str(err).strip().splitlines()[-1:]
        logger.warning("weights stay in memory, as they cannot be mapped from %s: %s", tempfile.gettempdir(), *reason)
        return None
