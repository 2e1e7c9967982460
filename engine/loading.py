"""From a version's folder to a model that answers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from contract.cores import count_cores, read_quota
from contract.files.regular import check_regular
from contract.store import WARMUP_FILE
from contract.tensors import predict_pb2, read_shape
from engine.engine import Engine, LoadSettings, Runtime
from engine.errors import EngineError, ModelLoadError, UnreadableError
from engine.memory import return_freed_memory
from engine.precision import verified_precisions
from engine.precision_names import AUTO as AUTO_PRECISION
from engine.precision_names import FLOAT32
from engine.requests import run_request, signature_name
from engine.runtime import AUTO, find_runtimes
from engine.saved_model import ON_DEMAND, SignatureDef
from engine.warmup import PredictRequest, read_warmup_records

logger = logging.getLogger(__name__)


def import_runtime(engine: str = AUTO) -> None:
    """Import the runtime ahead of the first model: once a process, and slow on TensorFlow.

    Args:
        engine: as `load_engine` takes it.

    Raises:
        ModelLoadError: if it is not installed.
    """
    runtimes = find_runtimes(engine)
    for runtime in runtimes:
        try:
            runtime.import_package()
            return
        except UnreadableError:
            if runtime is runtimes[-1]:
                raise


def list_precisions(engine: str) -> tuple[str, ...]:
    """Return the precisions that a runtime computes at on this machine, float32 first.

    Args:
        engine: name of a runtime.

    Raises:
        ModelLoadError: if there is no such runtime, or it is not installed.
    """
    return find_runtimes(engine)[0].precisions()


def offered_precisions(directory: Path, engine: str = AUTO) -> tuple[str, ...]:
    """Return float32 and the faster precisions of this machine for a version, on the first runtime that reads it.

    Args:
        directory: the version's folder.
        engine: as `load_engine` takes it.
    """
    runtime = _first_runtime(directory, engine)
    return (FLOAT32,) if runtime is None else runtime.precisions(directory)


def allowed_precisions(directory: Path, engine: str = AUTO) -> tuple[str, ...]:
    """Return those of `offered_precisions` that the version's verification allows.

    Args:
        directory: the version's folder.
        engine: as `load_engine` takes it.
    """
    runtime = _first_runtime(directory, engine)
    if runtime is None:
        return (FLOAT32,)
    offered = runtime.precisions(directory)[1:]
    return (FLOAT32, *verified_precisions(directory, engine=runtime.name, offered=offered))


def _first_runtime(directory: Path, engine: str) -> Runtime | None:
    return next((runtime for runtime in find_runtimes(engine) if runtime.reads(directory)), None)


def load_engine(
    directory: Path,
    *,
    engine: str = AUTO,
    precision: str = AUTO_PRECISION,
    warm_up: bool = False,
    num_threads: int = 0,
    num_streams: int = 0,
    single_row: bool = False,
) -> Engine:
    """Load a SavedModel.

    Args:
        directory: the SavedModel's folder.
        engine: name of a runtime, or "auto": the first of engine/runtime.py that reads the model.
        precision: "float32", a faster one that this machine has, or "auto": the fastest that is known to be good
            enough (engine/precision.py).
        warm_up: whether to compile every signature but those of `ON_DEMAND` and run the model's warm-up records, so
            that its first caller does not wait; otherwise only `serving_default` is compiled now.
        num_threads: that the model may use; 0 means one for each core, as far as a container's limit allows.
        num_streams: runs that are computed at a time, each on its share of the threads; 0 means 1, which suits single
            calls best. More calls than that may run; they wait for each other.
        single_row: whether it is made for one row of `serving_default`, where that is faster: it runs more rows one by
            one, and on OpenVINO holds no other signature, each of which would take as much memory again.

    Raises:
        ModelLoadError: if the model cannot be loaded or a warm-up record fails.
    """
    settings = LoadSettings(
        precision=precision,
        num_threads=num_threads or (0 if read_quota() is None else count_cores()),
        num_streams=num_streams,
        single_row=single_row,
        prepare=warm_up,
    )
    runtimes = find_runtimes(engine)
    _check_files(directory)
    loaded = _load(directory, runtimes, settings)
    if warm_up:
        try:
            held = loaded.signatures if single_row and loaded.has_streams else None
            run_warmup_records(loaded, directory, held)
        except BaseException:
            loaded.close()
            raise
    loaded.trim()
    return_freed_memory()
    return loaded


def _check_files(directory: Path) -> None:
    """Check that a model is made of regular files: a library that opens a pipe waits for it without end.

    Raises:
        ModelLoadError: naming the first other one.
    """
    for path in sorted(directory.rglob("*")):
        try:
            if not path.is_dir():
                check_regular(path)
        except OSError as err:
            name = path.relative_to(directory).as_posix()
            raise ModelLoadError(f"{name} cannot be read: {err.strerror or err}", code="UNAVAILABLE") from err


def _load(directory: Path, runtimes: Sequence[Runtime], settings: LoadSettings) -> Engine:
    """Load a model on the first runtime that can read it.

    Raises:
        ModelLoadError: if none can, with every runtime's reason, or if the model cannot be loaded.
    """
    unread: list[UnreadableError] = []
    for runtime in [runtime for runtime in runtimes if runtime.reads(directory)] or runtimes:
        try:
            runtime.import_package()
            if unread:
                logger.warning("%s: %s; it runs on %s instead", directory, unread[-1], runtime.title)
            return runtime.load(directory, settings)
        except UnreadableError as err:
            unread.append(err)
    if len(unread) == 1:
        raise unread[0]
    raise UnreadableError(". ".join(map(str, unread))) from unread[0]


def run_warmup_records(engine: Engine, directory: Path, signatures: Collection[str] | None = None) -> int:
    """Run the warm-up records of a version, or those of some signatures, and return how many there were.

    Records of `ON_DEMAND` signatures are left out. Signatures that no record asks (`describe` is one) are then run once
    on zeros, because a graph is optimized at its first call, which takes seconds; that those zeros make sense to a
    stranger's model is not expected.

    Raises:
        ModelLoadError: if the records cannot be read or one of them fails.
    """
    requests = [
        request
        for request in read_warmup_records(directory / WARMUP_FILE)
        if signature_name(request) not in ON_DEMAND and (signatures is None or signature_name(request) in signatures)
    ]
    for number, request in enumerate(requests, start=1):
        try:
            run_request(engine, request)
        except EngineError as err:
            raise ModelLoadError(f"warmup record {number} failed: {err}", code=err.code) from err
    for name in engine.signatures.keys() - ON_DEMAND - {signature_name(request) for request in requests}:
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
