"""docker compose with the project's own file, host networking and a folder of one's own, for one test."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container

from tests.repository.project import ROOT

FILES = (ROOT / "docker-compose.yml", ROOT / "tests" / "docker" / "compose.hostnet.yml")
PROJECT_LABEL = "com.docker.compose.project"


class Stack:
    """The containers that `docker compose` starts from a copy of the project's folder.

    Args:
        engine: the Docker engine.
        folder: gets the committed `.env` and the empty folders that a clone has.
        files: more compose files, over the project's.
        variables: as a user would set them in the shell.
    """

    def __init__(
        self, engine: docker.DockerClient, folder: Path, *, files: Sequence[Path] = (), **variables: str
    ) -> None:
        self.engine = engine
        self.folder = folder
        self.project = f"fovea-test-{os.getpid()}-{folder.name}".lower()
        self._files = (*FILES, *files)
        shutil.copy(ROOT / ".env", folder)
        owner = os.getuid() or 1000  # no training as root
        for name in ("models", "runs", "datasets"):
            (folder / name).mkdir()
            os.chown(folder / name, owner, os.getgid() if os.getuid() else 1000)
        gateway, modelserver = free_ports(2)
        self.url = f"http://127.0.0.1:{gateway}"
        user = {"FOVEA_UID": str(owner), "FOVEA_GID": str(os.getgid() if os.getuid() else 1000)}
        ports = {"GATEWAY_PORT": str(gateway), "MODELSERVER_PORT": str(modelserver)}
        self._environ = {**clean_environ(), "COMPOSE_PROJECT_NAME": self.project, **user, **ports, **variables}

    def command(self, *arguments: str, folder: Path | None = None) -> list[str]:
        """Return the command line of `docker compose ARGUMENTS`."""
        files = [f"--file={file}" for file in self._files]
        return ["docker", "compose", f"--project-directory={folder or self.folder}", *files, *arguments]

    def run(self, *arguments: str, timeout_s: float = 600, folder: Path | None = None, **variables: str) -> str:
        """Run `docker compose ARGUMENTS` to its end, which must be a good one, and return what it printed."""
        done = subprocess.run(
            self.command(*arguments, folder=folder),
            env={**self._environ, **variables},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{self.logs()}"
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `docker compose ARGUMENTS` and return at once."""
        return subprocess.Popen(
            self.command(*arguments), env=self._environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def logs(self) -> str:
        """The last lines of every service."""
        command = self.command("logs", "--no-color", "--tail=30")
        return subprocess.run(command, env=self._environ, capture_output=True, text=True, timeout=60).stdout

    def containers(self) -> dict[str, Container]:
        """Every container of the project, also those that have ended, by its service."""
        found = self.engine.containers.list(all=True, filters={"label": f"{PROJECT_LABEL}={self.project}"})
        return {container.labels["com.docker.compose.service"]: container for container in found}

    def leftovers(self) -> dict[str, list[str]]:
        """The project's objects in the engine, beside its images."""
        mine = {"label": f"{PROJECT_LABEL}={self.project}"}
        return {
            "containers": [one.name for one in self.engine.containers.list(all=True, filters=mine)],
            "networks": [one.name for one in self.engine.networks.list(filters=mine)],
            "volumes": [one.name for one in self.engine.volumes.list(filters=mine)],
        }

    def lives(self) -> dict[str, tuple[str, str, int]]:
        """The containers' start times and numbers of restarts, by service."""
        return {
            service: (container.id, container.attrs["State"]["StartedAt"], container.attrs["RestartCount"])
            for service, container in self.containers().items()
            if container.status == "running"
        }


def build_targets(*profiles: str) -> None:
    """`docker compose build` in the project's folder, with the services of some profiles."""
    command = ["docker", "compose", *(f"--file={file}" for file in FILES), "build", "--quiet"]
    environ = {**clean_environ(), "COMPOSE_PROFILES": ",".join(profiles)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-4000:]


def clean_environ() -> dict[str, str]:
    """This process's environment without this machine's own compose settings."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("COMPOSE_", "FOVEA_"))}


def free_ports(count: int) -> list[int]:
    """TCP ports that were free a moment ago."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def ask_inside(container: Container, code: str) -> Any:
    """Run Python code in a running container and return the JSON that it prints."""
    status, output = container.exec_run(["python", "-c", code])
    assert status == 0, output.decode()
    return json.loads(output)
