"""Measures latencies before, during and after the load of a new version, on one model server.

`run() -> dict`: ResNet50 on the embedded model server by gRPC, a steady load, and a second version published into the
store in the middle of it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.load.recorder import summarize_latencies
from benchmarks.workload.shared import MODEL, VERSION, publish_copy, shared_workload
from contract.store import CONTAINER_ROOT, ModelStore
from contract.tensors import encode_tensor, get_model_status_pb2, model_service_pb2_grpc, predict_pb2

_SIZES = {"quick": (2, 1), "standard": (15, 3), "full": (30, 5)}  # seconds of a window, rounds
_CONCURRENCY = 4
_PATIENCE_S = 300.0
_AVAILABLE = 30


def run(size: str = "standard") -> dict[str, Any]:
    """Measure; see the module."""
    seconds, num_rounds = _SIZES[size]
    version = shared_workload() / VERSION
    rounds = [_measure(version, seconds) for _ in range(num_rounds)]
    p99 = {
        f"p99_{name}_ms": round(statistics.median(measured["latency_ms"][name]["p99"] for measured in rounds), 1)
        for name in ("before", "during", "after")
    }
    errors = sum(measured["errors"] for measured in rounds)
    return {"concurrency": _CONCURRENCY, "window_s": seconds, **p99, "errors": errors, "rounds": rounds}


def _measure(version: Path, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="reload-", dir=version.parents[2]) as folder:
        store, socket = ModelStore(Path(folder, "models")), Path(folder, "grpc.sock")
        publish_copy(store, version)
        command = [sys.executable, "-m", "service", "modelserver", f"--grpc_socket_path={socket}"]
        command += [f"--model_config_file={store.config_path}", f"--path-map={CONTAINER_ROOT}={store.root}"]
        with Path(folder, "log").open("wb") as log:
            server = subprocess.Popen(command, stderr=log)
        try:
            with grpc.insecure_channel(f"unix:{socket}") as channel:
                return _load_and_publish(store, version, channel, str(socket), seconds)
        finally:
            server.terminate()
            server.wait(60)


def _load_and_publish(
    store: ModelStore, version: Path, channel: grpc.Channel, socket: str, seconds: float
) -> dict[str, Any]:
    _wait_for(channel, 1)
    load = _Load(socket)
    time.sleep(2.0)
    begun = time.monotonic()
    time.sleep(seconds)
    published = time.monotonic()
    publish_copy(store, version)
    _wait_for(channel, 2)
    available = time.monotonic()
    time.sleep(seconds)
    ended = time.monotonic()
    load.stop()
    windows = {"before": (begun, published), "during": (published, available), "after": (available, ended)}
    latencies = {name: summarize_latencies(load.between(*window)) for name, window in windows.items()}
    ratio = latencies["during"]["p99"] / latencies["before"]["p99"]
    return {
        "loaded_in_s": round(available - published, 2),
        "errors": load.errors,
        "latency_ms": latencies,
        "p99_ratio": round(ratio, 2),
    }


class _Load:
    """Callers that ask again and again, each on a connection of its own, until they are told to stop."""

    def __init__(self, socket: str) -> None:
        self.errors = 0
        self._answers: list[tuple[float, float]] = []
        self._enough = threading.Event()
        images = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
        request = predict_pb2.PredictRequest(inputs={"images": encode_tensor(images)})
        request.model_spec.name = MODEL
        arguments = (f"unix:{socket}", request.SerializeToString())
        self._threads = [threading.Thread(target=self._ask, args=arguments) for _ in range(_CONCURRENCY)]
        for thread in self._threads:
            thread.start()

    def between(self, begin: float, end: float) -> list[float]:
        """Return the latencies of the calls that were answered in a window, seconds."""
        return [latency for at, latency in self._answers if begin <= at < end]

    def stop(self) -> None:
        """Let every caller finish its last call."""
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, address: str, request: bytes) -> None:
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            while not self._enough.is_set():
                started = time.monotonic()
                try:
                    call(request, timeout=_PATIENCE_S)
                except grpc.RpcError:
                    self.errors += 1
                    continue
                now = time.monotonic()
                self._answers.append((now, now - started))


def _wait_for(channel: grpc.Channel, number: int) -> None:
    request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": MODEL})
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        try:
            statuses = stub.GetModelStatus(request, timeout=30, wait_for_ready=True).model_version_status
        except grpc.RpcError:
            statuses = ()
        if any(status.version == number and status.state == _AVAILABLE for status in statuses):
            return
        time.sleep(0.1)
    raise TimeoutError(f"version {number} did not become available")
