"""Errors to callers when a model itself fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from contract.tensors import prediction_service_pb2_grpc
from engine.engine import Arrays, Engine
from engine.errors import RunError
from engine.saved_model import read_signatures
from service.modelserver.monitoring import Metrics
from service.modelserver.prediction_service import PredictionService
from service.modelserver.serving.repository import ModelRepository
from service.modelserver.serving.scheduling import ModelQueue, Plan, Scheduler
from service.modelserver.serving.versions import State
from tests.helpers.model_client import build_request
from tests.helpers.version_states import until


class FailingEngine(Engine):
    """An engine with real signatures whose runs end with an error."""

    name = "failing"

    def __init__(self, directory: Path, error: Exception) -> None:
        super().__init__(read_signatures(directory))
        self._error = error

    def execute(self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        """Fail."""
        raise self._error

    def close(self) -> None:
        """Hold nothing."""


async def ask_failing(directory: Path, error: Exception) -> grpc.aio.AioRpcError:
    """Serve a failing model over gRPC, ask it once, and return what the caller gets."""
    scheduler = Scheduler(1)
    repository = ModelRepository(
        lambda version: ModelQueue(scheduler, FailingEngine(version.path, error), Plan()),
        num_retries=0,
        retry_interval_s=0,
    )
    server = grpc.aio.server()
    service = PredictionService(repository, Metrics())
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        repository.aspire("m", {1: directory})
        await until(repository, "m", {1: State.AVAILABLE})
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            request = build_request("m", {"images": np.zeros((1, 16, 16, 3), np.uint8)})
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)
    finally:
        await server.stop(1)
        await repository.close()
        scheduler.close()
    return caught.value


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (RunError("out of memory", code="RESOURCE_EXHAUSTED"), "RESOURCE_EXHAUSTED", "out of memory"),
        (RunError("x" * 3000), "INTERNAL", "x" * 1024 + "...TRUNCATED"),
        (KeyError("secret"), "INTERNAL", "Predict failed inside the model server; its log says why"),
    ],
    ids=["runtime's code", "long text", "unforeseen"],
)
def test_a_failing_run_becomes_a_status(tiny_models: dict[str, Path], error: Exception, code: str, text: str) -> None:
    """The runtime's own errors keep code and text, cut at 1,024 characters; unforeseen ones tell the caller nothing."""
    answer = asyncio.run(asyncio.wait_for(ask_failing(tiny_models["plain"], error), timeout=60))
    assert (answer.code().name, answer.details()) == (code, text)
