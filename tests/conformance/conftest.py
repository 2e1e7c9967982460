"""The servers that the table of cases is run against: ours, and TensorFlow Serving where a Docker engine has it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from contract.store import ModelStore
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.half_plus import MODELS, VERSION
from tests.helpers.model_client import ModelClient
from tests.helpers.server_process import ServerProcess, run_server, wait_for_address
from tests.helpers.tiny_model import MODEL_NAME, publish_variant

IMAGE = os.environ.get("TFSERVING_IMAGE", "tensorflow/serving:2.21.0")  # as docker-compose.yml has it


@pytest.fixture(scope="session", params=["fovea", pytest.param("tensorflow-serving", marks=pytest.mark.docker)])
def peer(request: pytest.FixtureRequest) -> Iterator[ModelClient]:
    """A client of a server that has `colours` 1 plain and 2 permuted."""
    if request.param == "fovea":
        server: ServerProcess = request.getfixturevalue("modelserver")
        with ModelClient(server.address) as client:
            yield client
        return
    address = request.getfixturevalue("tensorflow_serving")
    with ModelClient(address) as client:
        for version in (1, 2):
            client.wait_for(MODEL_NAME, version)
        yield client


@pytest.fixture(scope="session")
def odd_models(half_plus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelClient]:
    """A client of a model server that has models like those that TensorFlow Serving tests itself with."""
    folder = tmp_path_factory.mktemp("odd")
    command = [sys.executable, "-m", "service.modelserver", "--port=0", f"--tuning_cache={folder / 'tuning'}"]
    server = run_server([*command, f"--model_config_file={half_plus / 'models.config'}"], folder / "log")
    try:
        with ModelClient(wait_for_address(server, folder / "log")) as client:
            for name in MODELS:
                client.wait_for(name, VERSION, timeout_s=240)
            yield client
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture(scope="session")
def rest(odd_models: ModelClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """An HTTP client of a gateway in front of that server."""
    flags = ["--port=0", f"--backend={odd_models.address}", f"--models={','.join(MODELS)}"]
    gateway = ServiceProcess(["gateway", *flags], tmp_path_factory.mktemp("gateway"))
    try:
        with httpx2.Client(base_url=gateway.wait_for_url(), trust_env=False, timeout=60) as http:
            yield http
    finally:
        gateway.stop()


@pytest.fixture(scope="session")
def tensorflow_serving(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a tensorflow/serving container; skipped where no engine has its image."""
    _require_image()
    tiny_models: dict[str, Path] = request.getfixturevalue("tiny_models")  # seconds, for nothing without the image
    root = tmp_path_factory.mktemp("tensorflow-serving") / "models"
    store = ModelStore(root)
    for variant in ("plain", "permuted"):
        publish_variant(store, tiny_models[variant])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # Host networking, because engines without a bridge exist.
    command = ["docker", "run", "--rm", "--detach", "--network=host", f"--volume={root}:/models:ro"]
    command += ["--entrypoint=tensorflow_model_server", IMAGE, f"--port={port}", "--rest_api_port=0"]
    command += ["--model_config_file=/models/models.config"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        subprocess.run(["docker", "rm", "--force", done.stdout.strip()], capture_output=True, timeout=60, check=False)


def _require_image() -> None:
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command")
    command = ["docker", "image", "inspect", IMAGE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        pytest.skip(f"no Docker engine has {IMAGE}: {done.stderr.strip()[:200]}")
