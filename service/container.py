"""TensorFlow Serving in a container, watched and stopped like a child process; needs the package `docker`."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import socket
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.store import CONTAINER_ROOT

logger = logging.getLogger("fovea.up")

IMAGE = "tensorflow/serving:2.21.0"
NETWORKS = ("bridge", "host")

_PORT = 8500  # inside a container with a network of its own
_LABEL = "fovea.up"  # value: the process that started the container
_TIMEOUT_S = 60  # of the engine's answers


class ContainerError(Exception):
    """The engine cannot be reached, or cannot run the container; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Image and network of a container.

    Attributes:
        image: has `tensorflow_model_server`.
        network: "bridge": its port is published on a free one of this machine's loopback address; "host": it listens
            on a free port of this machine's loopback address itself, for engines without a bridge.
    """

    image: str = IMAGE
    network: str = "bridge"


class ServingContainer:
    """A running container; the methods of `service.child.Child`.

    Making one starts it. What an `up` that was killed has left behind is removed first.

    Args:
        root: the model store, mounted read-only.
        placement: image and network.

    Attributes:
        name: shown in messages.
        address: host:port of its gRPC.

    Raises:
        ContainerError: if there is no engine, no image, or the container cannot be started.
    """

    def __init__(self, root: Path, placement: Placement) -> None:
        self.name = "model server's container"
        self._docker = _import_docker()
        self._status: int | None = None
        try:
            self._client = self._docker.from_env(timeout=_TIMEOUT_S)
            _remove_orphans(self._client)
            self._fetch(placement.image)
            port = _free_port() if placement.network == "host" else _PORT
            self._container = self._client.containers.run(placement.image, **_options(root, placement, port))
            self.address = f"127.0.0.1:{port if placement.network == 'host' else self._published_port()}"
        except (self._docker.errors.DockerException, OSError) as err:
            raise ContainerError(f"the container cannot be started: {_reason(err)}") from err
        self._logs = threading.Thread(target=self._pass_on_logs, name="container-logs", daemon=True)
        self._logs.start()

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs. A container that was removed has ended with 137, as one killed."""
        if self._status is None:
            try:
                self._container.reload()
                state = self._container.attrs["State"]
                if state["Status"] in ("exited", "dead"):
                    self._status = int(state["ExitCode"])
            except self._docker.errors.NotFound:
                self._status = 137
            except (self._docker.errors.DockerException, OSError) as err:
                logger.error("the container engine does not answer: %s", err)
        return self._status

    def terminate(self) -> None:
        """Ask it to end, if it still runs."""
        self._signal("SIGTERM")

    def kill(self) -> None:
        """End it at once, if it still runs."""
        self._signal("SIGKILL")

    def stop(self, timeout_s: float) -> None:
        """Ask it to end, kill it if it does not within `timeout_s`, and remove it."""
        with contextlib.suppress(self._docker.errors.DockerException, OSError):
            self._container.stop(timeout=round(timeout_s))
        with contextlib.suppress(self._docker.errors.DockerException, OSError):
            self._container.remove(force=True)
        self._logs.join(timeout=5)
        self._client.close()

    def _fetch(self, image: str) -> None:
        with contextlib.suppress(self._docker.errors.ImageNotFound):
            self._client.images.get(image)
            return
        try:
            self._client.images.pull(image)
        except self._docker.errors.DockerException as err:
            raise ContainerError(
                f"there is no image {image} on this machine, and it cannot be fetched ({_reason(err)}). Load one with "
                "`docker load`, name another with --image, or leave --engine away: the embedded server needs no image"
            ) from err

    def _signal(self, name: str) -> None:
        with contextlib.suppress(self._docker.errors.DockerException, OSError):  # it has ended
            self._container.kill(name)

    def _published_port(self) -> str:
        self._container.reload()
        published = self._container.ports[f"{_PORT}/tcp"]
        return str(published[0]["HostPort"])

    def _pass_on_logs(self) -> None:
        with contextlib.suppress(Exception):  # the engine has gone; `status` says so
            for chunk in self._container.logs(stream=True, follow=True):
                sys.stderr.write(chunk.decode(errors="replace"))
                sys.stderr.flush()


def _reason(err: Exception) -> str:
    """Return the engine's message, without its request."""
    return str(getattr(err, "explanation", None) or err)


def _options(root: Path, placement: Placement, port: int) -> dict[str, Any]:
    """Return how the container runs; as in docker-compose.yml, where each line has its reason."""
    on_host = placement.network == "host"
    return {
        "entrypoint": ["tensorflow_model_server"],
        "command": [
            f"--port={port}",
            "--rest_api_port=0",
            f"--model_config_file={CONTAINER_ROOT}/models.config",
            "--model_config_file_poll_wait_seconds=1",
            "--num_load_threads=2",
            "--max_num_load_retries=2",
            "--load_retry_interval_micros=2000000",
        ],
        "volumes": {str(root): {"bind": CONTAINER_ROOT, "mode": "ro"}},
        "network_mode": placement.network,
        "ports": {} if on_host else {f"{_PORT}/tcp": ("127.0.0.1", None)},
        "user": f"{os.getuid()}:{os.getgid()}",
        "labels": {_LABEL: str(os.getpid())},
        "read_only": True,
        "tmpfs": {"/tmp": ""},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "init": True,
        "detach": True,
    }


def _remove_orphans(client: Any) -> None:
    """Remove containers whose `up` is gone: they hold a port and memory."""
    for container in client.containers.list(all=True, filters={"label": _LABEL}):
        owner = container.labels[_LABEL]
        if not (owner.isdecimal() and Path(f"/proc/{owner}").exists()):
            container.remove(force=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _import_docker() -> Any:
    try:
        return importlib.import_module("docker")
    except ImportError as err:
        raise ContainerError(f"--engine tfserving needs the package docker (pip install docker): {err}") from err
