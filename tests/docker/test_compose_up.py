"""`docker compose up` on a real engine: from an empty store to a prediction, new versions, back again, and away."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from tests.docker.stack import Stack, ask_inside, build_targets
from tests.helpers.gateway_process import fetch, predict
from tests.helpers.image_sets import color_files, write_files
from tests.helpers.pictures import encode
from tests.repository.project import ROOT

# The images are built in the first test that needs them: on an engine that has nothing, this takes minutes.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(850)]

WAIT_S = 240.0
GIB = 1 << 30
# A network of two convolutions that learns colours in seconds. The gate is there, but its margin lets every version
# pass: what is looked at here is how a version goes live, not how good it is.
TRAIN = [
    "--recipe=demo",
    "--set=model.backbone=MnistCNN",
    "--set=model.input_size=28",
    "--set=data.group=^(.*)_",
    "--set=train.epochs=2",
    "--force",
]

# Runs inside a container and tells what its server may do, as the kernel has it.
LOOK = """
import json, os, pathlib, shutil
def read(*paths):
    return next(pathlib.Path(path).read_text().strip() for path in paths if os.path.exists(path))
def writable(folder):
    try:
        (pathlib.Path(folder) / ".probe").touch()
    except OSError:
        return False
    return True
processes = [path for path in pathlib.Path("/proc").iterdir() if path.name.isdecimal()]
server = min((int(path.name) for path in processes if b"python\\0-m\\0service" in (path / "cmdline").read_bytes()
              and (path / "comm").read_text().strip() != "docker-init"))
status = dict(line.split(":\\t", 1) for line in read(f"/proc/{server}/status").splitlines() if ":\\t" in line)
print(json.dumps({
    "init": read("/proc/1/comm"),
    "uid": status["Uid"].split()[0],
    "capabilities": {name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")},
    "no new privileges": status["NoNewPrivs"].strip(),
    "writable": [path for path in ("/", "/app", "/opt/venv", "/models", "/etc", "/var", "/tmp") if writable(path)],
    "tmp": [line.split()[2] for line in read("/proc/mounts").splitlines() if line.split()[1] == "/tmp"],
    "memory": read("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    "pids": read("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"),
    "tools": [tool for tool in ("curl", "wget", "gcc", "cc") if shutil.which(tool)],
}))
"""


@pytest.fixture(scope="module")
def images(engine: docker.DockerClient) -> None:
    """Every target of the Dockerfile, built by `docker compose build`."""
    build_targets("embedded", "pipeline")


@pytest.fixture
def stack(engine: docker.DockerClient, images: None, tmp_path: Path) -> Iterator[Stack]:
    """The embedded profile over an empty store, not started."""
    made = Stack(engine, tmp_path, COMPOSE_PROFILES="embedded", FOVEA_SEED_OPTIONS="--set train.epochs=1 --force")
    yield made
    made.run("down", "--volumes", "--remove-orphans", "--timeout=10")


def wait_for(condition: Callable[[], Any], stack: Stack) -> Any:
    """Return what a condition returns once that is true."""
    deadline = time.monotonic() + WAIT_S
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, stack.logs()
        time.sleep(0.2)


def answering_version(stack: Stack, model: str) -> int | None:
    """Return the version that answers a prediction; None if none does."""
    reply = predict(stack.url, encode("red"), model=model)
    return int(reply.json()["model"]["version"]) if reply.status_code == 200 else None


def test_from_an_empty_store_to_a_rollback_and_down(stack: Stack) -> None:
    """Filled while /readyz says so, asked, confined, updated from container and host, rolled back, removed."""
    see_it_filled(stack)
    for service, memory in (("gateway", 2 * GIB), ("embedded", 8 * GIB)):
        see_it_is_confined(stack.containers()[service], memory)
        wait_for(lambda name=service: health(stack, name) == "healthy", stack)
    started = stack.lives()

    # A folder of one's own, mounted read-only.
    own = write_files(stack.folder / "cells", color_files(train=12, test=12))
    train(stack, own)
    wait_for(lambda: answering_version(stack, "cells") == 1, stack)
    reply = predict(stack.url, encode("red"), model="cells").json()
    assert {"blue", "green", "red"} == {entry["id"] for entry in reply["predictions"][0]["top"]}

    # It grows, and the pipeline's container is run again.
    write_files(own, color_files(train=16, test=12))
    train(stack, own)
    wait_for(lambda: answering_version(stack, "cells") == 2, stack)

    # Version 3 comes from the host, into the same store.
    pipeline_on_host(stack, "import", str(stack.folder / "models" / "cells" / "2"), "--name=cells")
    pipeline_on_host(stack, "promote", "cells")
    wait_for(lambda: answering_version(stack, "cells") == 3, stack)

    stack.run("run", "--rm", "pipeline", "rollback", "cells")
    wait_for(lambda: answering_version(stack, "cells") == 2, stack)
    assert answering_version(stack, "glaucoma") == 1
    assert stack.lives() == started, "a server was restarted"

    see_a_request_in_flight_answered(stack)
    stack.run("stop", "--timeout=60", "embedded")
    assert {"gateway": 0, "embedded": 0, "seed": 0} == {
        service: container.attrs["State"]["ExitCode"] for service, container in stack.containers().items()
    }
    stack.run("down")
    assert {"containers": [], "networks": [], "volumes": [f"{stack.project}_keras"]} == stack.leftovers()
    stack.run("down", "--volumes")
    assert {"containers": [], "networks": [], "volumes": []} == stack.leftovers()
    assert {"glaucoma", "cells"} <= {path.name for path in (stack.folder / "models").iterdir()}


def see_it_filled(stack: Stack) -> None:
    """Up: the gateway answers at once and says that the store is being filled; then a model is there and predicts."""
    starting = stack.start("up", "--detach", "--no-build", "--pull=never")
    filling = wait_for(lambda: said(stack.url, 503, "the store's first model is being trained"), stack)
    assert filling["error"]["code"] == "no_model"
    assert answering_version(stack, "glaucoma") is None
    output = starting.communicate(timeout=WAIT_S)[0]
    assert starting.returncode == 0, output + stack.logs()
    ready = wait_for(lambda: said(stack.url, 200, "ready"), stack)
    assert ready == {"status": "ready", "models": {"glaucoma": 1}}
    reply = predict(stack.url, encode("red")).json()
    assert {"glaucoma", "normal", "suspect"} == {entry["id"] for entry in reply["predictions"][0]["top"]}


def said(url: str, status: int, words: str) -> Any:
    """Return what /readyz answers if it has this status and these words, else None."""
    reply = fetch(f"{url}/readyz")
    return json.loads(reply.text) if reply and reply.status_code == status and words in reply.text else None


def health(stack: Stack, service: str) -> str:
    """Return what the container's own health check has found."""
    return str(stack.containers()[service].attrs["State"]["Health"]["Status"])


def see_it_is_confined(container: Container, memory: int) -> None:
    """The kernel holds a server to what the compose file says."""
    assert ask_inside(container, LOOK) == {
        "init": "docker-init",
        "uid": container.attrs["Config"]["User"].partition(":")[0],
        "capabilities": {"CapEff": 0, "CapPrm": 0, "CapBnd": 0, "CapInh": 0},
        "no new privileges": "1",
        "writable": ["/tmp"],
        "tmp": ["tmpfs"],
        "memory": str(memory),
        "pids": "1024",
        "tools": [],
    }
    assert container.attrs["Config"]["User"].partition(":")[0] not in ("", "0", "root")


def train(stack: Stack, folder: Path) -> None:
    """Train on a folder as the README says."""
    arguments = ["run", "/data", "--name=cells", *TRAIN]
    stack.run("run", "--rm", "pipeline", *arguments, FOVEA_DATA=str(folder))


def pipeline_on_host(stack: Stack, *arguments: str) -> None:
    """Run the pipeline outside the containers, on their store."""
    folders = [f"--models-dir={stack.folder / 'models'}", f"--runs-dir={stack.folder / 'runs'}"]
    command = [sys.executable, "-m", "pipeline", *arguments, *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def see_a_request_in_flight_answered(stack: Stack) -> None:
    """A request whose body is half here when the gateway is told to stop is answered; then the gateway is gone."""
    image = encode("red")
    connection = http.client.HTTPConnection(stack.url.removeprefix("http://"), timeout=60)
    connection.putrequest("POST", "/v1/predict?model=cells")
    connection.putheader("Content-Length", str(len(image)))
    connection.endheaders(image[: len(image) // 2])
    wait_for(lambda: in_flight(stack.url) >= 1, stack)
    stopping = threading.Thread(target=stack.run, args=("stop", "--timeout=60", "gateway"))
    stopping.start()
    wait_for(lambda: not said(stack.url, 200, "ready"), stack)
    connection.send(image[len(image) // 2 :])
    reply = connection.getresponse()
    assert (reply.status, json.loads(reply.read())["model"]["version"]) == (200, 2)
    connection.close()
    stopping.join(120)
    assert fetch(f"{stack.url}/healthz") is None


def in_flight(url: str) -> float:
    """Return how many requests the gateway says it works on."""
    reply = fetch(f"{url}/metrics")
    lines = reply.text.splitlines() if reply else []
    return sum(float(line.split()[1]) for line in lines if line.startswith("fovea_requests_in_flight"))


def test_a_machine_that_is_no_x86_64_is_told_of_the_embedded_profile(
    engine: docker.DockerClient, images: None, tmp_path: Path
) -> None:
    """Under the default profile `up` fails there with a line that names the other; nothing but the gateway has started.

    Linux calls itself i686 in the seed's container, which is as little x86_64 as an Arm machine is.
    """
    override = tmp_path / "other-machine.yml"
    override.write_text("services: {seed: {entrypoint: [setarch, i686, sh, -euc]}}\n")
    # Its image cannot be had everywhere, and is not run.
    stack = Stack(engine, tmp_path, files=[override], TFSERVING_IMAGE="fovea-modelserver")
    try:
        starting = stack.start("up", "--no-build", "--pull=never", "--no-color")
        output = starting.communicate(timeout=WAIT_S)[0]
        assert starting.returncode != 0
        assert "TensorFlow Serving has no image for i686." in output
        assert "COMPOSE_PROFILES=embedded docker compose up" in output
        assert not stack.containers()["tfserving"].attrs["State"]["Running"]
    finally:
        stack.run("down", "--volumes", "--timeout=10")
