"""From a version's folder to a model that answers."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from contract.store import WARMUP_FILE
from contract.tensors import predict_pb2, read_shape
from engine.errors import EngineError, ModelLoadError
from engine.memory import return_freed_memory
from engine.model import Engine
from engine.openvino import OpenVINOEngine, UnreadableError, faster_precisions, import_openvino, load_openvino
from engine.precision import AUTO, FLOAT32
from engine.requests import run_request, signature_name
from engine.saved_model import SignatureDef
from engine.tensorflow import TensorFlowEngine, import_tensorflow, load_tensorflow
from engine.warmup import PredictRequest, read_warmup_records

logger = logging.getLogger(__name__)

ENGINES = ("auto", OpenVINOEngine.name, TensorFlowEngine.name)


def import_runtime(engine: str = "auto") -> None:
    """Import what loading a model needs, ahead of the first one: once a process, and slow on TensorFlow.

    Args:
        engine: as `load_engine` takes it.

    Raises:
        ModelLoadError: if it is not installed.
    """
    if engine == TensorFlowEngine.name:
        import_tensorflow()
    else:
        import_openvino()


def list_precisions(engine: str) -> tuple[str, ...]:
    """Return what a runtime can compute at on this machine, float32 first.

    Args:
        engine: "openvino" or "tensorflow".

    Raises:
        ModelLoadError: if it is not installed.
    """
    return (FLOAT32, *faster_precisions()) if engine == OpenVINOEngine.name else (FLOAT32,)


def load_engine(
    directory: Path,
    *,
    engine: str = "auto",
    precision: str = AUTO,
    warm_up: bool = False,
    num_threads: int = 0,
    num_streams: int = 0,
    single_row: bool = False,
) -> Engine:
    """Load a SavedModel.

    Args:
        directory: the SavedModel's folder.
        engine: "openvino", "tensorflow", or "auto": OpenVINO, and TensorFlow for what OpenVINO cannot read.
        precision: "float32", a faster one that this machine has, or "auto": the fastest that is known to be good
            enough (engine/precision.py).
        warm_up: whether to compile every signature and replay the model's warm-up records, so that its first caller
            does not wait; otherwise only `serving_default` is compiled now.
        num_threads: that the model may use; 0 means one for each core.
        num_streams: runs that are computed at a time, each on its share of the threads; 0 means 1, which suits single
            calls best. More calls than that may run; they wait for each other.
        single_row: whether it is made for one row of `serving_default`, where that is faster: it runs more rows one by
            one, and on OpenVINO holds no other signature, each of which would take as much memory again.

    Raises:
        ModelLoadError: if the model cannot be loaded or a warm-up record fails.
    """
    if engine not in ENGINES:
        raise ModelLoadError(
            f"engine: expected one of {', '.join(ENGINES)}. Received: {engine}", code="INVALID_ARGUMENT"
        )
    loaded = _load(
        directory,
        engine,
        precision=precision,
        num_threads=num_threads,
        num_streams=num_streams,
        single_row=single_row,
        prepare=warm_up,
    )
    if warm_up:
        try:
            held = loaded.signatures if single_row and loaded.name == OpenVINOEngine.name else None
            replay_warmup(loaded, directory, held)
        except BaseException:
            loaded.close()
            raise
    return_freed_memory()
    return loaded


def _load(directory: Path, engine: str, *, single_row: bool, prepare: bool, **settings: Any) -> Engine:
    on_tensorflow = functools.partial(load_tensorflow, directory, **settings)
    if engine == TensorFlowEngine.name:
        return on_tensorflow()
    try:
        return load_openvino(directory, single_row=single_row, prepare=prepare, **settings)
    except UnreadableError as err:
        if engine == OpenVINOEngine.name:
            raise
        try:
            import_tensorflow()
        except ModelLoadError as missing:
            raise ModelLoadError(f"{err}. {missing}", code=missing.code) from err
        logger.warning("%s: %s; it runs on TensorFlow instead", directory, err)
        return on_tensorflow()


def replay_warmup(engine: Engine, directory: Path, signatures: Collection[str] | None = None) -> int:
    """Run every warm-up record of a version, or those of some signatures, and return how many there were.

    Signatures that no record asks (`describe` is one) are then run once on zeros, because a graph is optimized at its
    first call, which takes seconds; that those zeros make sense to a stranger's model is not expected.

    Raises:
        ModelLoadError: if the records cannot be read or one of them fails.
    """
    requests = [
        request
        for request in read_warmup_records(directory / WARMUP_FILE)
        if signatures is None or signature_name(request) in signatures
    ]
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
    """Returns a request of zeros and empty texts; a free dimension is 1, and so is an unknown rank."""
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = name
    for alias, info in signature.inputs.items():
        tensor = request.inputs[alias]  # values that are left out are zeros
        tensor.dtype = info.dtype
        shape = read_shape(info)
        for size in (1,) if shape is None else shape:
            tensor.tensor_shape.dim.add().size = max(1, size)
    return request
