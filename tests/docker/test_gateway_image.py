"""The gateway's image: small, without TensorFlow, not root, and it serves."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

pytestmark = pytest.mark.docker

MAX_IMAGE_BYTES = 300_000_000
START_TIMEOUT_S = 30
HEALTH_TIMEOUT_S = 60
ANY_USER = "4321:4321"

# Runs inside the image and prints what should not be there.
LIST_FOREIGN = """
import json, pathlib, shutil, sys
found = []
for root in map(pathlib.Path, sys.path):
    for package in ("tensorflow", "tensorflow_serving"):
        for path in (root / package).rglob("*"):
            if path.is_file() and not path.name.startswith("__init__.") and "_pb2" not in path.name:
                found.append(str(path))
    found += [str(root / name) for name in ("keras", "openvino", "engine", "pipeline") if (root / name).exists()]
found += [tool for tool in ("gcc", "cc", "g++", "curl", "git") if shutil.which(tool)]
found += [str(path) for path in (pathlib.Path("/root/.cache"), pathlib.Path("/tmp/.cache")) if path.exists()]
print(json.dumps(found))
"""
LOAD_STUBS = """
import sys, contract.stubs
names = contract.stubs.import_stubs()
assert "tensorflow" not in sys.modules
print("predict_pb2" in names)
"""


def run_python(engine: docker.DockerClient, image: str, code: str, user: str | None = None) -> str:
    """Run Python code in the image and return what it prints."""
    output: bytes = engine.containers.run(
        image, ["-c", code], entrypoint="python", network_mode="none", user=user, remove=True
    )
    return output.decode().strip()


def test_it_is_small(engine: docker.DockerClient, gateway_image: str) -> None:
    """Under 300 MB with its base."""
    assert engine.images.get(gateway_image).attrs["Size"] < MAX_IMAGE_BYTES


def test_it_holds_nothing_that_it_does_not_run(engine: docker.DockerClient, gateway_image: str) -> None:
    """Of TensorFlow only protobuf stubs; no compiler, no download cache, no other part of the project that trains."""
    assert [] == json.loads(run_python(engine, gateway_image, LIST_FOREIGN, user="root"))


def test_its_stubs_are_complete(engine: docker.DockerClient, gateway_image: str) -> None:
    """Every stub that contract/ names loads from the extracted files."""
    assert run_python(engine, gateway_image, LOAD_STUBS) == "True"


def test_it_does_not_run_as_root(engine: docker.DockerClient, gateway_image: str) -> None:
    """The image itself names another user."""
    assert run_python(engine, gateway_image, "import os; print(os.getuid(), os.getgid())") == "1000 1000"


@pytest.fixture(scope="module")
def port() -> int:
    """A free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest.fixture(scope="module")
def gateway(
    engine: docker.DockerClient, gateway_image: str, port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """A running gateway over an empty store: any user, read-only root, no capabilities."""
    store = tmp_path_factory.mktemp("models")
    store.chmod(0o755)
    for parent in (store.parent, store.parent.parent):
        parent.chmod(0o755)  # pytest makes them its own user's only
    container = start_gateway(engine, gateway_image, port, store)
    yield container
    container.remove(force=True)


def start_gateway(engine: docker.DockerClient, image: str, port: int, store: Path) -> Container:
    """Start a gateway on a loopback port of the host."""
    return engine.containers.run(
        image,
        detach=True,
        network_mode="host",
        user=ANY_USER,
        read_only=True,
        cap_drop=["ALL"],
        tmpfs={"/tmp": ""},
        volumes={str(store): {"bind": "/models", "mode": "ro"}},
        environment={"FOVEA_HOST": "127.0.0.1", "FOVEA_PORT": str(port), "FOVEA_MODELS_DIR": "/models"},
    )


def get_status(url: str) -> int:
    """Return the status of a GET, 0 while nothing listens."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            status: int = response.status
            return status
    except urllib.error.HTTPError as err:
        return err.code
    except OSError:
        return 0


def test_it_answers(gateway: Container, port: int) -> None:
    """It is alive at once, says that there is nothing to serve, and has the pages for people."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while get_status(f"http://127.0.0.1:{port}/healthz") == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    paths = ("/healthz", "/readyz", "/", "/web/app.js", "/docs", "/web/swagger-ui-bundle.js", "/web/swagger-ui.css")
    actual = [get_status(f"http://127.0.0.1:{port}{path}") for path in paths]
    assert actual == [200, 503, 200, 200, 200, 200, 200], gateway.logs().decode()


def test_its_health_check_passes(gateway: Container) -> None:
    """The image's own check works without curl."""
    deadline = time.monotonic() + HEALTH_TIMEOUT_S
    health = ""
    while health != "healthy" and time.monotonic() < deadline:
        time.sleep(0.5)
        gateway.reload()
        health = gateway.attrs["State"]["Health"]["Status"]
    assert health == "healthy", gateway.attrs["State"]["Health"]


def test_it_stops_when_asked(gateway: Container) -> None:
    """SIGTERM ends it by itself, with status 0."""
    gateway.stop(timeout=30)
    gateway.reload()
    assert gateway.attrs["State"]["ExitCode"] == 0, gateway.logs().decode()
