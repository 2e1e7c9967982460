"""Measures how far float32's rounding alone moves the outputs of a model.

Each weight is changed by its last bit, up or down by a seed. Two honest computations of the network differ by about
what its outputs move by then: hardly at all in most networks, and a thousand times as much in one whose logits are in
the thousands or whose batch norm divides by tiny deviations.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.files.regular import read_regular
from contract.tensors import decode_tensor, encode_tensor, saved_model_pb2, types_pb2
from engine.engine import Engine
from engine.loading import load_engine
from engine.precision_names import FLOAT32
from engine.runtime import reference_runtime
from engine.saved_model import GRAPH_FILE

NUM_CHANGED = 3  # networks with changed weights
_LAST_BIT = np.float32(2**-23)  # of a weight, as a share of it


def rounding_outputs(
    directory: Path, signature: str, inputs: dict[str, NDArray[Any]], output: str
) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Return an output of a model, and the same of NUM_CHANGED networks whose weights differ by their last bits.

    Args:
        directory: a SavedModel with its weights as constants; weights in variables stay as they are, and of a model in
            another format no changed networks are returned.
        signature: to run, on the reference runtime.
        inputs: of the signature.
        output: its name.

    Raises:
        EngineError: if a network cannot be loaded or run.
    """
    if not (directory / GRAPH_FILE).is_file():
        return np.zeros(0, np.float32), []
    own = _run(directory, signature, inputs)[output]
    return own, [_run(folder, signature, inputs)[output] for folder in _changed_copies(directory)]


def _run(directory: Path, signature: str, inputs: dict[str, NDArray[Any]]) -> Any:
    engine: Engine = load_engine(directory, engine=reference_runtime().name, precision=FLOAT32)
    try:
        return engine.run(signature, inputs)
    finally:
        engine.close()


def _changed_copies(directory: Path) -> Iterator[Path]:
    """Yield folders with copies of the SavedModel; each is gone when the next is asked for."""
    for seed in range(NUM_CHANGED):
        with tempfile.TemporaryDirectory(prefix="fovea-") as temporary:
            folder = Path(temporary, "model")
            shutil.copytree(directory, folder, ignore=shutil.ignore_patterns(GRAPH_FILE, "assets.extra"))
            (folder / GRAPH_FILE).write_bytes(_change_graph(read_regular(directory / GRAPH_FILE), seed))
            yield folder


def _change_graph(content: bytes, seed: int) -> bytes:
    saved_model = saved_model_pb2.SavedModel()
    saved_model.ParseFromString(content)
    rng = np.random.default_rng(seed)
    for meta_graph in saved_model.meta_graphs:
        graph = meta_graph.graph_def
        for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
            _change_constants(nodes, rng)
    return bytes(saved_model.SerializeToString())


def _change_constants(nodes: Sequence[Any], rng: np.random.Generator) -> None:
    for node in nodes:
        if node.op == "Const" and node.attr["dtype"].type == types_pb2.DT_FLOAT:
            tensor = node.attr["value"].tensor
            values = decode_tensor(tensor)
            signs = rng.integers(0, 2, values.shape, np.int8).astype(np.float32) * 2 - 1
            tensor.CopyFrom(encode_tensor(values * (1 + signs * _LAST_BIT)))
