"""`python -m service up --engine tfserving`, with an image of ours that answers to TensorFlow Serving's command."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from contract.store import ModelStore
from tests.docker.conftest import BUILD_TIMEOUT_S
from tests.helpers.gateway_process import ServiceProcess, predict
from tests.helpers.pictures import encode
from tests.helpers.tiny_model import publish_variant
from tests.repository.project import ROOT
from tests.service.conftest import StartProcess, start_process

__all__ = ["start_process"]  # a fixture

pytestmark = pytest.mark.docker

LABEL = "fovea.up"
WAIT_S = 120.0
STAND_IN = """
FROM {base}
USER 0
RUN printf '#!/bin/sh\\nexec python -m service modelserver "$@"\\n' > /usr/local/bin/tensorflow_model_server \\
 && chmod 755 /usr/local/bin/tensorflow_model_server
ENTRYPOINT []
"""


def build(engine: docker.DockerClient, *arguments: str, stdin: str | None = None) -> str:
    """Build an image and return its id."""
    command = ["docker", "build", "--quiet", "--network", "host", *arguments]
    done = subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.split()[-1]


@pytest.fixture(scope="module")
def stand_in(engine: docker.DockerClient) -> str:
    """The embedded model server's image under TensorFlow Serving's command."""
    base = build(engine, "--target", "modelserver", "--tag", "fovea-stand-in-base", ".")
    assert base
    return build(engine, "-", stdin=STAND_IN.format(base="fovea-stand-in-base"))


def containers(engine: docker.DockerClient) -> list[Container]:
    """Containers that an `up` has started and not removed."""
    found: list[Container] = engine.containers.list(all=True, filters={"label": LABEL})
    return found


def wait_for(condition: Callable[[], object], service: ServiceProcess) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, service.log
        time.sleep(0.2)


def start(start_process: StartProcess, store: ModelStore, image: str) -> tuple[ServiceProcess, str]:
    """Start `up` with a container and wait until it is ready."""
    flags = ["--engine=tfserving", f"--image={image}", "--network=host"]
    service = start_process("up", f"--models-dir={store.root}", "--port=0", *flags)
    url = service.wait_for_url(timeout_s=WAIT_S)
    service.wait_until_ready(url, timeout_s=WAIT_S)
    return service, url


def test_it_serves_follows_the_store_and_leaves_nothing(
    engine: docker.DockerClient,
    stand_in: str,
    start_process: StartProcess,
    store: ModelStore,
    tiny_models: dict[str, Path],
) -> None:
    """A prediction, a second version without a restart, its logs, and no container after SIGTERM."""
    service, url = start(start_process, store, stand_in)
    (container,) = containers(engine)

    assert predict(url, encode("red")).json()["predictions"][0]["top"][0]["id"] == "red"
    publish_variant(store, tiny_models["permuted"])
    wait_for(lambda: predict(url, encode("red")).json()["model"]["version"] == 2, service)
    assert predict(url, encode("red")).json()["predictions"][0]["top"][0]["id"] == "red"

    settings = container.attrs["HostConfig"]
    assert settings["ReadonlyRootfs"]
    assert settings["CapDrop"] == ["ALL"]
    assert settings["Binds"] == [f"{store.root}:/models:ro"]
    assert "colours/2: available" in service.log
    assert service.stop() == 0
    assert containers(engine) == []


def test_a_container_that_dies_ends_everything(
    engine: docker.DockerClient, stand_in: str, start_process: StartProcess, store: ModelStore
) -> None:
    """The exit status is 1 and the last line says who ended."""
    service, _ = start(start_process, store, stand_in)
    (container,) = containers(engine)

    container.kill()

    assert service.wait(timeout_s=WAIT_S) == 1
    assert "the model server's container ended by itself with status 137" in service.log.strip().splitlines()[-1]
    assert containers(engine) == []


def test_what_a_killed_up_left_is_removed_by_the_next(
    engine: docker.DockerClient, stand_in: str, start_process: StartProcess, store: ModelStore
) -> None:
    """A container outlives its `up` when that is killed; the next one takes its place."""
    first, _ = start(start_process, store, stand_in)
    (orphan,) = containers(engine)
    first.kill()

    second, url = start(start_process, store, stand_in)

    (container,) = containers(engine)
    assert container.id != orphan.id
    assert predict(url, encode("blue")).status_code == 200
    assert second.stop() == 0


@pytest.mark.parametrize(
    ("image", "has_model", "words"),
    [
        ("fovea/there-is-no-such-image:0", True, "there is no image fovea/there-is-no-such-image:0"),
        ("fovea/there-is-no-such-image:0", False, "has no model yet"),
    ],
)
def test_what_cannot_start_says_why(
    engine: docker.DockerClient,
    start_process: StartProcess,
    store: ModelStore,
    tmp_path: Path,
    *,
    image: str,
    has_model: bool,
    words: str,
) -> None:
    """A missing image, an empty store: refused in a line, nothing started."""
    root = store.root if has_model else tmp_path / "empty"
    service = start_process("up", f"--models-dir={root}", "--port=0", "--engine=tfserving", f"--image={image}")

    assert service.wait(timeout_s=WAIT_S) == 1
    assert words in service.log.strip().splitlines()[-1]
    assert containers(engine) == []
