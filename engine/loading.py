"""From a version's folder to a model that answers."""

from __future__ import annotations

import contextlib
from pathlib import Path

from contract.store import WARMUP_FILE
from contract.tensors import predict_pb2
from engine.errors import EngineError, ModelLoadError
from engine.memory import return_freed_memory
from engine.model import Engine
from engine.requests import run_request, signature_name
from engine.saved_model import SignatureDef
from engine.tensorflow import import_tensorflow, load_tensorflow
from engine.warmup import PredictRequest, read_warmup_records


def import_runtime() -> None:
    """Import what loading a model needs, ahead of the first one: seconds, once a process.

    Raises:
        ModelLoadError: if it is not installed.
    """
    import_tensorflow()


def load_engine(
    directory: Path, *, warm_up: bool = False, intra_op_threads: int = 0, inter_op_threads: int = 0
) -> Engine:
    """Load a SavedModel on the engine that suits it.

    Args:
        directory: the SavedModel's folder.
        warm_up: whether to replay the model's warm-up records, so that its first caller does not wait.
        intra_op_threads: threads inside one operation; 0 means one for each core.
        inter_op_threads: operations at a time; 0 means one for each core.

    Raises:
        ModelLoadError: if the model cannot be loaded or a warm-up record fails.
    """
    engine = load_tensorflow(directory, intra_op_threads=intra_op_threads, inter_op_threads=inter_op_threads)
    if warm_up:
        try:
            replay_warmup(engine, directory)
        except BaseException:
            engine.close()
            raise
    return_freed_memory()
    return engine


def replay_warmup(engine: Engine, directory: Path) -> int:
    """Run every warm-up record of a version and return how many there were.

    Signatures that no record asks (`describe` is one) are then run once on zeros, because a graph is optimized at its
    first call, which takes seconds; that those zeros make sense to a stranger's model is not expected.

    Raises:
        ModelLoadError: if the records cannot be read or one of them fails.
    """
    requests = read_warmup_records(directory / WARMUP_FILE)
    for number, request in enumerate(requests, start=1):
        try:
            run_request(engine, request)
        except EngineError as err:
            raise ModelLoadError(f"warmup record {number} failed: {err}", code=err.code) from err
    for name in set(engine.signatures) - {signature_name(request) for request in requests}:
        request = _build_zeros(engine.signatures[name], name)
        with contextlib.suppress(EngineError):
            run_request(engine, request)
    return len(requests)


def _build_zeros(signature: SignatureDef, name: str) -> PredictRequest:
    """Return a request of zeros and empty texts, every free dimension 1."""
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = name
    for alias, info in signature.inputs.items():
        tensor = request.inputs[alias]  # values that are left out are zeros
        tensor.dtype = info.dtype
        for dim in info.tensor_shape.dim:
            tensor.tensor_shape.dim.add().size = max(1, dim.size)
    return request
