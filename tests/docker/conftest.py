"""The Docker engine that DOCKER_HOST or the default socket reaches; without one these tests are skipped."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import docker
import pytest

from tests.repository.project import ROOT

BUILD_TIMEOUT_S = 600


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """A client of the engine."""
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command")
    # Asked by the command first: the SDK's client leaves a socket open when it finds no engine.
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        pytest.skip(f"no Docker engine at DOCKER_HOST or the default socket: {done.stderr.strip()[:200]}")
    client = docker.from_env(timeout=120)
    yield client
    client.close()


@pytest.fixture(scope="session")
def gateway_image(engine: docker.DockerClient) -> str:
    """The gateway's image, built from the tree as it is; its id."""
    return build_image("gateway")


@pytest.fixture(scope="session")
def modelserver_image(engine: docker.DockerClient) -> str:
    """The embedded model server's image, built from the tree as it is; its id."""
    return build_image("modelserver")


def build_image(target: str) -> str:
    """Build a target of the Dockerfile and return the image's id.

    Host networking, because engines without a bridge exist; on any other it makes no difference.
    """
    command = ["docker", "build", "--quiet", "--network", "host", "--target", target, "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.split()[-1]
