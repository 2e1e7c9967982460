"""The embedded model server's image: OpenVINO instead of TensorFlow, not root, and it answers."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import docker
import numpy as np
import pytest
from docker.models.containers import Container

from tests.helpers.model_client import ModelClient
from tests.helpers.tiny_model import MODEL_NAME, VARIANTS, build_image, expected_probabilities

pytestmark = pytest.mark.docker

MAX_IMAGE_BYTES = 450_000_000
ANY_USER = "4321:4321"

# Runs inside the image and prints what should not be there.
LIST_FOREIGN = """
import importlib.util, json
names = ("tensorflow.python", "keras", "openvino_telemetry", "openvino.tools", "pipeline", "fastapi")
print(json.dumps([name for name in names if importlib.util.find_spec(name)]))
"""


def test_it_is_small_and_holds_no_tensorflow(engine: docker.DockerClient, modelserver_image: str) -> None:
    """A quarter of what TensorFlow would make it; nothing in it reports to a network."""
    assert engine.images.get(modelserver_image).attrs["Size"] < MAX_IMAGE_BYTES
    output = engine.containers.run(
        modelserver_image, ["-c", LIST_FOREIGN], entrypoint="python", network_mode="none", remove=True
    )
    assert json.loads(output) == []


@pytest.fixture(scope="module")
def container(
    engine: docker.DockerClient,
    modelserver_image: str,
    tiny_models: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Container, str]]:
    """A running server of the tiny model: any user, read-only root, no capabilities."""
    store = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_models["plain"], store / MODEL_NAME / "1")
    for folder in (store, store.parent, store.parent.parent):
        folder.chmod(0o755)  # pytest makes them its own user's only
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    container = start_server(engine, modelserver_image, port, store)
    yield container, f"127.0.0.1:{port}"
    container.remove(force=True)


def start_server(engine: docker.DockerClient, image: str, port: int, store: Path) -> Container:
    """Start a model server on a loopback port of the host."""
    return engine.containers.run(
        image,
        [f"--port={port}", f"--model_name={MODEL_NAME}", f"--model_base_path=/models/{MODEL_NAME}"],
        detach=True,
        network_mode="host",
        user=ANY_USER,
        read_only=True,
        cap_drop=["ALL"],
        tmpfs={"/tmp": ""},
        volumes={str(store): {"bind": "/models", "mode": "ro"}},
    )


def test_it_predicts_and_explains(container: tuple[Container, str]) -> None:
    """Both signatures answer, without TensorFlow and with nothing writable but /tmp.

    It reads OpenVINO's own format too, which its weights, int8 networks and imported ONNX models have.
    """
    running, address = container
    images = build_image("green", 16)[None]
    with ModelClient(address) as client:
        client.wait_for(MODEL_NAME, 1)
        answer = client.predict(
            MODEL_NAME, {"images": images, "class_index": np.array([-1], np.int32)}, signature="explain"
        )
    np.testing.assert_allclose(
        answer["probabilities"], expected_probabilities(images, VARIANTS["plain"].labels), atol=1e-5
    )
    assert answer["saliency"].shape == (1, 4, 4)
    log = running.logs().decode()
    assert "weights stay in memory" not in log, log
