"""Reads a SavedModel's signatures from saved_model.pb, without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.message import DecodeError

from contract.files.regular import read_regular
from contract.tensors import saved_model_pb2
from engine.errors import ModelLoadError
from engine.wire import read_without

GRAPH_FILE = "saved_model.pb"
SERVE_TAG = "serve"
DEFAULT_SIGNATURE = "serving_default"
# Compiled and run at their first call, not when a version is loaded: each compiled signature takes the memory of the
# weights again, and most versions are never asked for these.
ON_DEMAND: Final = frozenset({"embed", "explain"})
_INIT_OP = "__saved_model_init_op"  # TensorFlow 2's operation to run after loading; never called here

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")

SignatureDef = Any  # a tensorflow.SignatureDef message; the stubs have no types
Signatures = Mapping[str, SignatureDef]


def read_signatures(directory: Path) -> Signatures:
    """Return the signatures of the MetaGraph tagged "serve", by name.

    Args:
        directory: a SavedModel's folder.

    Raises:
        ModelLoadError: if there is no SavedModel, it is corrupt, or nothing in it is tagged "serve" alone.
    """
    signatures = _serving_graph(_read_saved_model(directory, with_graph=False)).signature_def
    return MappingProxyType({name: message for name, message in signatures.items() if name != _INIT_OP})


def copy_as_default(directory: Path, signature: str, target: Path) -> None:
    """Write a SavedModel whose `serving_default` is another one's signature; its variables and assets are links.

    Functions that only other signatures call are left out: with the weights as constants one of them may hold nearly
    all of the file, as `serving_default` of versions whose other signatures have variables does.

    Args:
        directory: the SavedModel's folder.
        signature: the name of one that it has.
        target: an empty folder.

    Raises:
        ModelLoadError: if there is no such SavedModel, or the copy cannot be written.
    """
    saved_model = _read_saved_model(directory)
    meta_graph = _serving_graph(saved_model)
    signatures = meta_graph.signature_def
    for name in set(signatures) - {signature}:
        _drop_calls(meta_graph.graph_def, signatures[name], keep=_node_names(signatures[signature]))
    _drop_functions(meta_graph.graph_def)
    signatures[DEFAULT_SIGNATURE].CopyFrom(signatures[signature])
    try:
        (target / GRAPH_FILE).write_bytes(saved_model.SerializeToString())
        for part in ("variables", "assets"):
            (target / part).symlink_to((directory / part).resolve(), target_is_directory=True)
    except OSError as err:
        raise ModelLoadError(f"a copy of the graph cannot be written: {err.strerror or err}") from err


def _node_names(signature: SignatureDef) -> set[str]:
    return {info.name.partition(":")[0] for info in signature.outputs.values()}


def _drop_calls(graph: Any, signature: SignatureDef, *, keep: set[str]) -> None:
    """Take out the nodes that call a signature's function, as TensorFlow 2 has them, if no node uses their values."""
    calls = _node_names(signature) - keep - {source.partition(":")[0] for node in graph.node for source in node.input}
    for position in reversed(range(len(graph.node))):
        if graph.node[position].name in calls and graph.node[position].op in _CALLS:
            del graph.node[position]


def _drop_functions(graph: Any) -> None:
    """Take out the functions that no node calls, directly or not."""
    functions = {function.signature.name: function for function in graph.library.function}
    needed: set[str] = set()
    waiting = list(graph.node)
    while waiting:
        for value in waiting.pop().attr.values():
            for called in [value.func.name, *(func.name for func in value.list.func)]:
                if called in functions and called not in needed:
                    needed.add(called)
                    waiting += functions[called].node_def
    for position in reversed(range(len(graph.library.function))):
        if graph.library.function[position].signature.name not in needed:
            del graph.library.function[position]


def _serving_graph(saved_model: Any) -> Any:
    for meta_graph in saved_model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == {SERVE_TAG}:
            return meta_graph
    raise ModelLoadError(
        f"the SavedModel has no graph for serving: expected one tagged {SERVE_TAG!r}", code="NOT_FOUND"
    )


def _read_saved_model(directory: Path, *, with_graph: bool = True) -> Any:
    path = directory / GRAPH_FILE
    saved_model = saved_model_pb2.SavedModel()
    try:
        saved_model.ParseFromString(read_regular(path) if with_graph else read_without(path, *_graph_fields()))
    except FileNotFoundError as err:
        raise ModelLoadError(f"there is no SavedModel: expected {GRAPH_FILE}", code="NOT_FOUND") from err
    except OSError as err:
        raise ModelLoadError(f"{GRAPH_FILE} cannot be read: {err.strerror or err}", code="UNAVAILABLE") from err
    except (DecodeError, ValueError) as err:
        raise ModelLoadError(f"{GRAPH_FILE} is corrupt: not a SavedModel message", code="DATA_LOSS") from err
    return saved_model


def _graph_fields() -> tuple[int, set[int]]:
    """Return the number of the field that holds MetaGraphs, and those of the large fields in one."""
    meta_graphs = saved_model_pb2.SavedModel.DESCRIPTOR.fields_by_name["meta_graphs"]
    fields = meta_graphs.message_type.fields_by_name
    return meta_graphs.number, {fields[name].number for name in ("graph_def", "object_graph_def")}
