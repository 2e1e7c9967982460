"""TensorFlow Serving's container over the same store, where a Docker engine has the image."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from benchmarks.systems.bodies import pixels_json, pixels_proto
from benchmarks.systems.fovea import PREDICT_METHOD, read_tensor
from benchmarks.systems.program import ROOT
from benchmarks.systems.system import Place, System
from benchmarks.workload.shared import MODEL
from contract.store import CONTAINER_ROOT

_ENGINE_TIMEOUT_S = 30.0


def find_image() -> str:
    """Return the image that docker-compose.yml runs.

    Raises:
        LookupError: if there is no engine or it does not have the image; the text says which.
    """
    image = _image_of_compose()
    docker = shutil.which("docker")
    if docker is None:
        raise LookupError("there is no docker command")
    try:
        command = [docker, "image", "inspect", image]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ENGINE_TIMEOUT_S)
    except subprocess.TimeoutExpired as err:
        raise LookupError("the Docker engine does not answer") from err
    if done.returncode:
        raise LookupError((done.stderr.strip().splitlines() or ["docker image inspect failed"])[-1])
    return image


def _image_of_compose() -> str:
    text = (ROOT / "docker-compose.yml").read_text()
    found = re.search(r"image: *(\S*tensorflow/serving\S*)", text)
    if found is None:
        raise LookupError("docker-compose.yml names no tensorflow/serving image")
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", found[1])


def tensorflow_serving(image: str) -> list[System]:
    """Return it by REST and by gRPC; it decodes no JPEG, so it gets pixels that are decoded beforehand."""
    rest = System(
        "tfserving-rest",
        "TensorFlow Serving (REST, decoded pixels)",
        lambda place: _commands(place, image, "8501"),
        path=f"/v1/models/{MODEL}:predict",
        wrap=pixels_json,
        read=_read_rows,
        ready=f"/v1/models/{MODEL}",
        untold=("docker",),
    )
    by_grpc = System(
        "tfserving-grpc",
        "TensorFlow Serving (gRPC, decoded pixels)",
        lambda place: _commands(place, image, "8500"),
        path=PREDICT_METHOD,
        wrap=pixels_proto(MODEL),
        read=read_tensor,
        protocol="grpc",
        untold=("docker",),
    )
    return [rest, by_grpc]


def _commands(place: Place, image: str, inner_port: str) -> Mapping[str, list[str]]:
    run = ["docker", "run", "--rm", "--init", f"--volume={place.workload / 'models'}:{CONTAINER_ROOT}:ro"]
    run += [f"--publish=127.0.0.1:{place.port}:{inner_port}", "--entrypoint=tensorflow_model_server", image]
    serve = [f"--model_config_file={CONTAINER_ROOT}/models.config", "--port=8500", "--rest_api_port=8501"]
    return {"docker": [*run, *serve, "--enable_batching"]}


def _read_rows(reply: Any) -> tuple[int, float]:
    (row,) = reply["predictions"]
    best = max(range(len(row)), key=row.__getitem__)
    return best, row[best]
