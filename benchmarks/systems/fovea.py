"""Fovea: gateway and embedded model server in one process, as `python -m service up` runs them, in two, or alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.systems.bodies import pixels_proto
from benchmarks.systems.system import Place, System
from benchmarks.workload.shared import MODEL
from contract.store import CONTAINER_ROOT
from contract.tensors import decode_tensor, predict_pb2

PATH = "/v1/predict"
PREDICT_METHOD = "/tensorflow.serving.PredictionService/Predict"
_PROGRAM = [sys.executable, "-m", "service"]


def read_answer(reply: Any) -> tuple[int, float]:
    """Return class index and probability of the first picture's best class."""
    best = reply["predictions"][0]["top"][0]
    return best["index"], best["probability"]


def read_tensor(reply: bytes) -> tuple[int, float]:
    """Return class index and probability of the first picture in a PredictResponse."""
    probabilities = decode_tensor(predict_pb2.PredictResponse.FromString(reply).outputs["probabilities"])[0]
    return int(probabilities.argmax()), float(probabilities.max())


def fovea(name: str, title: str, *flags: str) -> System:
    """Return Fovea with its own model server, in one process.

    Args:
        name: in results.
        title: in tables.
        flags: for the model server, such as "--precision=float32".
    """

    def commands(place: Place) -> Mapping[str, list[str]]:
        together = [sys.executable, "-m", "service.in_process", *_model_flags(place, flags), "--"]
        return {"server": [*together, *_gateway_flags(place)]}

    return _answering(name, title, commands)


def fovea_apart(name: str, title: str, *flags: str) -> System:
    """Return Fovea with its own model server, in two processes and with gRPC over a socket; see `fovea`."""

    def commands(place: Place) -> Mapping[str, list[str]]:
        gateway = ["gateway", f"--backend=unix:{_socket(place)}", *_gateway_flags(place)]
        return {"modelserver": _model_server(place, flags), "gateway": [*_PROGRAM, *gateway]}

    return _answering(name, title, commands)


def _answering(name: str, title: str, commands: Callable[[Place], Mapping[str, list[str]]]) -> System:
    return System(
        name,
        title,
        commands,
        path=PATH,
        read=read_answer,
        ready="/readyz",
        names_index='"top":[{{"index":{}',
        metrics=lambda place: [f"http://127.0.0.1:{port}/metrics" for port in (place.port, place.metrics_port)],
    )


def model_server_alone(precision: str) -> System:
    """Return the embedded model server, asked by gRPC with pixels that are decoded already."""

    def commands(place: Place) -> Mapping[str, list[str]]:
        return {"modelserver": _model_server(place, [f"--precision={precision}"])}

    return System(
        "fovea-grpc",
        f"Fovea's model server alone, {precision} (gRPC, decoded pixels)",
        commands,
        path=PREDICT_METHOD,
        wrap=pixels_proto(MODEL),
        read=read_tensor,
        address=lambda place: f"unix:{_socket(place)}",
        protocol="grpc",
    )


def gateway_alone() -> System:
    """Return the gateway over a backend that answers at once."""

    def commands(place: Place) -> Mapping[str, list[str]]:
        gateway = ["gateway", f"--backend=unix:{_socket(place)}", "--models=bench", f"--port={place.port}"]
        return {
            "backend": [sys.executable, "-m", "benchmarks._instant_backend", _socket(place)],
            "gateway": [*_PROGRAM, *gateway],
        }

    title = "Fovea's gateway alone (instant backend)"
    return System("gateway-alone", title, commands, path=PATH, read=read_answer, ready="/readyz", checked=False)


def _model_server(place: Place, flags: Sequence[str]) -> list[str]:
    return [*_PROGRAM, "modelserver", f"--grpc_socket_path={_socket(place)}", *_model_flags(place, flags)]


def _model_flags(place: Place, flags: Sequence[str]) -> list[str]:
    store = place.workload / "models"
    own = [f"--model_config_file={store}/models.config", "--path-map", f"{CONTAINER_ROOT}={store}"]
    # What it measures of the machine when it first loads the model is kept from round to round, as a user's is.
    own += [f"--tuning_cache={place.workload / 'tuning'}", f"--monitoring_port={place.metrics_port}"]
    return [*own, "--enable_serialization_as_tensor_content", *flags]


def _gateway_flags(place: Place) -> list[str]:
    # Callers that ask again at once, whatever they are told, are let in.
    return [f"--models-dir={place.workload / 'models'}", f"--port={place.port}", "--max-queue=64"]


def _socket(place: Place) -> str:
    return f"{place.folder}/s"
