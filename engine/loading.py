"""From a version's folder to a model that answers."""

from __future__ import annotations

from pathlib import Path

from contract.store import WARMUP_FILE
from engine.errors import EngineError, ModelLoadError
from engine.model import Engine
from engine.requests import run_request
from engine.tensorflow import import_tensorflow, load_tensorflow
from engine.warmup import read_warmup_records


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
    return engine


def replay_warmup(engine: Engine, directory: Path) -> int:
    """Run every warm-up record of a version and return how many there were.

    Raises:
        ModelLoadError: if the records cannot be read or one of them fails.
    """
    requests = read_warmup_records(directory / WARMUP_FILE)
    for number, request in enumerate(requests, start=1):
        try:
            run_request(engine, request)
        except EngineError as err:
            raise ModelLoadError(f"warmup record {number} failed: {err}", code=err.code) from err
    return len(requests)
