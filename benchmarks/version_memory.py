"""Measures the size of versions in the store, and the model server's resident memory by the versions it has loaded.

`run() -> dict`: for each network a server with some models, all that network, each with files of its own. Memory is
read when all are available, after a prediction by each, and after an explanation by each. Every server has one small
model beside them, so that the runtime's libraries are in all figures and cancel out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks._load import resident_bytes
from benchmarks.workload.versions import NETWORKS
from contract.store import CONTAINER_ROOT, ModelStore
from contract.tensors import (
    encode_tensor,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

_ROOT = Path(__file__).resolve().parents[1]
_COUNTS = {
    "quick": {"MnistCNN": (2,)},
    "standard": {"MnistCNN": (1, 8, 17), "MobileNetV2": (1, 8, 17), "AlexNet": (1,), "ResNet50": (1, 4)},
    "full": {"MnistCNN": (1, 8, 17), "MobileNetV2": (1, 8, 17), "AlexNet": (1, 4), "ResNet50": (1, 4, 17)},
}
# What a version may take: so many bytes, and so many times its weights.
BYTES_A_VERSION, TIMES_THE_WEIGHTS = 60_000_000, 2.2
_BASE = "MnistCNN"
_PATIENCE_S = 600.0
_AVAILABLE, _ENDED = 30, 50


def run(size: str = "standard") -> dict[str, Any]:
    """Measure; see the module."""
    with tempfile.TemporaryDirectory(prefix="memory-") as temporary:
        folder = Path(temporary)
        command = [sys.executable, "-m", "benchmarks.workload.versions", temporary]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run(command, check=True, cwd=_ROOT, timeout=_PATIENCE_S, env=environment, stderr=subprocess.PIPE)
        sizes = json.loads((folder / "sizes.json").read_text())
        base = measure_server(folder, _BASE, 0)["resident_mb"]
        networks = {}
        for name, counts in _COUNTS[size].items():
            servers = {str(count): measure_server(folder, name, count) for count in counts}
            networks[name] = _summarize(sizes[name], servers, base)
    return {"resident_mb_of_the_base": base, "networks": networks}


def _summarize(size: dict[str, int], servers: dict[str, dict[str, Any]], base: float) -> dict[str, Any]:
    limit = (BYTES_A_VERSION + TIMES_THE_WEIGHTS * size["weights"]) / 1e6
    for count, server in servers.items():
        server["mb_a_version"] = round((server["resident_mb"] - base) / int(count), 1)
    return {
        "weights_mb": round(size["weights"] / 1e6, 1),
        "version_mb": round(size["version"] / 1e6, 1),
        "version_by_weights": round(size["version"] / size["weights"], 3),
        "limit_mb_a_version": round(limit, 1),
        "servers": servers,
    }


def measure_server(folder: Path, network: str, count: int) -> dict[str, Any]:
    """Return the memory of a model server that has loaded a network as several models.

    Args:
        folder: has the network's version, in a folder of its name.
        network: one of `NETWORKS`.
        count: how many models; each is a copy, no link, so that no two share files.
    """
    with tempfile.TemporaryDirectory(prefix="server-", dir=folder) as temporary:
        store, socket = ModelStore(Path(temporary, "models")), Path(temporary, "grpc.sock")
        store.ensure()
        names = [f"model-{number:02}" for number in range(count)]
        for name, source in [("base", _BASE), *((name, network) for name in names)]:
            with store.staging() as directory:
                shutil.copytree(folder / source, directory, dirs_exist_ok=True)
                store.publish(name, directory)
        command = [sys.executable, "-m", "service", "modelserver", f"--grpc_socket_path={socket}"]
        command += [f"--model_config_file={store.config_path}", f"--path-map={CONTAINER_ROOT}={store.root}"]
        command += [f"--tuning_cache={temporary}/tuning", f"--num_streams={os.cpu_count() or 1}", "--max_batch_size=8"]
        with Path(temporary, "log").open("wb") as log:
            server = subprocess.Popen(command, stderr=log, cwd=_ROOT)
        try:
            with grpc.insecure_channel(f"unix:{socket}") as channel:
                return _ask(channel, server.pid, names, NETWORKS[network])
        finally:
            server.terminate()
            server.wait(60)


def _ask(channel: grpc.Channel, pid: int, names: list[str], shape: tuple[int, int, int]) -> dict[str, Any]:
    started = time.monotonic()
    grpc.channel_ready_future(channel).result(_PATIENCE_S)
    for name in ["base", *names]:
        _wait_for(channel, name)
    measured: dict[str, Any] = {"loaded_s": round(time.monotonic() - started, 1), "resident_mb": _resident_mb(pid)}
    if not names:
        return measured
    side, channels, _ = shape
    inputs: dict[str, Any] = {"images": np.random.default_rng(0).integers(0, 256, (1, side, side, channels), np.uint8)}
    measured["first_predict_ms"] = _call_each(channel, names, "serving_default", inputs)
    measured["resident_mb_after_predict"] = _resident_mb(pid)
    inputs["class_index"] = np.array([-1], np.int32)
    measured["first_explain_ms"] = _call_each(channel, names, "explain", inputs)
    measured["second_explain_ms"] = _call_each(channel, names, "explain", inputs)
    measured["resident_mb_after_explain"] = _resident_mb(pid)
    return measured


def _call_each(channel: grpc.Channel, names: list[str], signature: str, inputs: dict[str, Any]) -> float:
    """Call every model once, and return the median latency, milliseconds."""
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    latencies = []
    for name in names:
        request = predict_pb2.PredictRequest(inputs={key: encode_tensor(value) for key, value in inputs.items()})
        request.model_spec.name, request.model_spec.signature_name = name, signature
        started = time.perf_counter()
        stub.Predict(request, timeout=_PATIENCE_S)
        latencies.append(time.perf_counter() - started)
    return round(float(np.median(latencies)) * 1000, 1)


def _wait_for(channel: grpc.Channel, name: str) -> None:
    request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": name})
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        try:
            (status,) = stub.GetModelStatus(request, timeout=30).model_version_status
        except grpc.RpcError:
            time.sleep(0.1)  # the configuration has not been read yet
            continue
        if status.state == _ENDED:
            raise RuntimeError(f"{name} was not loaded: {status.status.error_message}")
        if status.state == _AVAILABLE:
            return
        time.sleep(0.05)
    raise TimeoutError(f"{name} did not become available")


def _resident_mb(pid: int) -> float:
    return round(resident_bytes(pid) / 1e6, 1)
