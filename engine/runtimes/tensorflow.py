"""TensorFlow's own runtime, through a Session over the SavedModel's graph.

A Session rather than `tf.saved_model.load`: it feeds and fetches tensors by the names in the SignatureDef, as
TensorFlow Serving does, so errors read the same; thread counts are its own; and closing it frees the model at once.
Measured on ResNet50 224x224, batch 1, both take the same time (median 144 and 149 ms wall, 154 ms CPU each, on two busy
cores).
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from contract.commands import DISTRIBUTION
from contract.tensors import data_type_name
from engine.engine import Arrays, Engine, LoadSettings, Runtime
from engine.errors import EngineError, ModelLoadError, RunError, UnreadableError
from engine.memory import return_freed_memory
from engine.precision import choose_precision
from engine.runtimes.tensorflow_start import quiet_tensorflow
from engine.saved_model import SERVE_TAG, SignatureDef, Signatures, read_signatures

_STATUS_NAMES = {3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 8: "RESOURCE_EXHAUSTED", 9: "FAILED_PRECONDITION"}

_NOT_INSTALLED = f"TensorFlow is not installed; pip install '{DISTRIBUTION}[tensorflow]' adds it"


class TensorFlowEngine(Engine):
    """A SavedModel on TensorFlow, float32.

    Args:
        signatures: of the loaded graph.
        session: a `tf.compat.v1.Session` that holds the graph and its variables; closed by `close`.
    """

    name = "tensorflow"
    any_rank = True  # as in TensorFlow Serving, whose own models are asked so

    def __init__(self, signatures: Signatures, session: Any) -> None:
        super().__init__(signatures)
        self._session: Any = session
        self._calls = {name: _make_call(session, definition) for name, definition in signatures.items()}

    def execute(self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        """Run a signature in the session."""
        definition = self.signatures[signature]
        try:
            values = self._calls[signature](*(inputs[alias] for alias in sorted(definition.inputs)))
        except import_tensorflow().errors.OpError as err:
            raise RunError(str(err.message), code=_STATUS_NAMES.get(err.error_code, "INTERNAL")) from err
        except (TypeError, ValueError, RuntimeError) as err:
            types = {alias: data_type_name(info.dtype) for alias, info in sorted(definition.inputs.items())}
            raise RunError(f"TensorFlow did not take inputs of types {types}: {err}") from err
        computed = dict(zip(sorted(definition.outputs), values, strict=True))
        return {alias: computed[alias] for alias in outputs}

    def close(self) -> None:
        """Close the session and free the graph."""
        self._calls.clear()
        self._session.close()
        self._session = None
        gc.collect()  # a graph is full of reference cycles; waiting for Python's own time would keep its weights
        return_freed_memory()


def _make_call(session: Any, definition: SignatureDef) -> Callable[..., list[Any]]:
    """Returns a function from all inputs to all outputs of a signature, each in the order of their names.

    All outputs even if few are asked for: each set of outputs would be a graph of its own, optimized for seconds at its
    first call. `Session.make_callable` and `Session.run` would refuse a value whose shape differs from the inferred one
    for the tensor; TensorFlow Serving feeds it, and only the operations that read it decide. The method is private,
    read in TensorFlow 2.21; tests/service/modelserver/test_half_plus.py holds the use made of it.
    """
    config_pb2 = importlib.import_module("tensorflow.core.protobuf.config_pb2")
    call: Callable[..., list[Any]] = session._make_callable_from_options(
        config_pb2.CallableOptions(
            feed=[definition.inputs[alias].name for alias in sorted(definition.inputs)],
            fetch=[definition.outputs[alias].name for alias in sorted(definition.outputs)],
        )
    )
    return call


def import_tensorflow() -> Any:
    """Return the module `tensorflow`: seconds and half a gigabyte the first time.

    Its 300,000 Python objects are hidden from the garbage collector: a full collection, as `TensorFlowEngine.close`
    needs one, stops every thread for 200 ms with them, for 1 ms without.

    Raises:
        UnreadableError: if it is not installed.
    """
    is_first = "tensorflow" not in sys.modules
    quiet_tensorflow()
    try:
        module = importlib.import_module("tensorflow")
    except ImportError as err:
        raise UnreadableError(f"{_NOT_INSTALLED}: {err}") from err
    if not hasattr(module, "compat"):  # the protobuf stubs alone, as the images have them
        raise UnreadableError(_NOT_INSTALLED)
    if is_first:
        gc.collect()
        gc.freeze()
    return module


class TensorFlowRuntime(Runtime):
    """TensorFlow, whose results other runtimes are compared with."""

    name = TensorFlowEngine.name
    title = "TensorFlow"
    is_reference = True

    def import_package(self) -> Any:
        """Return the module `tensorflow`: seconds and half a gigabyte the first time."""
        return import_tensorflow()

    def load(self, directory: Path, settings: LoadSettings) -> TensorFlowEngine:
        """Load a SavedModel; imports TensorFlow, which takes seconds the first time.

        Threads work inside one operation and streams are operations at a time, 0 of either one for each core. The first
        load of a process decides for all, as TensorFlow shares these threads.
        """
        signatures = read_signatures(directory)
        choose_precision(directory, settings.precision, engine=self.name, offered=())
        tensorflow = import_tensorflow()
        v1 = tensorflow.compat.v1
        threads = {
            "intra_op_parallelism_threads": settings.num_threads,
            "inter_op_parallelism_threads": settings.num_streams,
        }
        graph = tensorflow.Graph()
        session = v1.Session(graph=graph, config=v1.ConfigProto(**threads))
        try:
            with graph.as_default():
                v1.saved_model.load(session, [SERVE_TAG], str(directory))
            graph.finalize()
            return TensorFlowEngine(signatures, session)
        except Exception as err:
            session.close()
            raise _load_error(err) from err


RUNTIME = TensorFlowRuntime()


def _load_error(err: Exception) -> EngineError:
    code = _STATUS_NAMES.get(getattr(err, "error_code", 0), "DATA_LOSS")
    return ModelLoadError(f"TensorFlow cannot load the model: {type(err).__name__}: {err}", code=code)
