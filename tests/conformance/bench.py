"""Model servers and clients for the cases that show a difference from TensorFlow Serving."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx2

from contract.tensors import model_management_pb2
from tests.helpers.model_client import ModelClient
from tests.helpers.server_process import ROOT, run_server, wait_for_address


@dataclass
class Bench:
    """The servers and clients of a case; `close` ends those that were started.

    Attributes:
        folder: for files of the case.
        models: folders of the tiny models by variant.
        client: of a server that has `colours` 1 and 2; for reading only.
        open_odd: returns a client of a server that has the models of tests/helpers/half_plus.py.
        open_rest: returns an HTTP client of a gateway in front of that server.
    """

    folder: Path
    models: dict[str, Path]
    client: ModelClient
    open_odd: Callable[[], ModelClient]
    open_rest: Callable[[], httpx2.Client]
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _clients: list[ModelClient] = field(default_factory=list)
    _numbers: Any = field(default_factory=itertools.count)

    def publish(self, variant: str, name: str, version: str = "1") -> Path:
        """Copies a tiny model to a version folder and returns the folder of the model."""
        shutil.copytree(self.models[variant], self.folder / name / version)
        return self.folder / name

    def serve(self, *flags: str) -> tuple[ModelClient, Path]:
        """Starts a server and returns a client of it and its log."""
        log = self.folder / f"log{next(self._numbers)}"
        command = [sys.executable, "-m", "service.modelserver", "--port=0", f"--tuning_cache={self.folder / 'tuning'}"]
        self._started.append(run_server([*command, "--file_system_poll_wait_seconds=0.1", *flags], log))
        self._clients.append(ModelClient(wait_for_address(self._started[-1], log)))
        return self._clients[-1], log

    def serve_model(self, base: Path, *flags: str) -> tuple[ModelClient, Path]:
        """The same for one model, named `m`."""
        return self.serve("--model_name=m", f"--model_base_path={base}", *flags)

    def run(self, *flags: str) -> subprocess.CompletedProcess[str]:
        """Runs a server that ends by itself."""
        command = [sys.executable, "-m", "service.modelserver", "--port=0", *flags]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    def close(self) -> None:
        """Ends every server."""
        for client in self._clients:
            client.close()
        for process in self._started:
            process.terminate()
        for process in self._started:
            process.wait(60)


def refusal(call: Callable[[], Any]) -> tuple[str, str]:
    """Returns status and text of a call that fails.

    Raises:
        AssertionError: if it does not.
    """
    try:
        call()
    except grpc.RpcError as err:
        return err.code().name, err.details()
    raise AssertionError("expected a status other than OK")


def reload(client: ModelClient, *models: dict[str, Any]) -> Any:
    """Sends a HandleReloadConfigRequest of models."""
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    for model in models:
        request.config.model_config_list.config.add(**{"model_platform": "tensorflow", **model})
    return client.models.HandleReloadConfigRequest(request, timeout=60)


def wait_for_line(log: Path, text: str) -> None:
    """Waits until a log has a text.

    Raises:
        TimeoutError: if it does not come.
    """
    deadline = time.monotonic() + 60
    while text not in log.read_text():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{text!r} is not in:\n{log.read_text()}")
        time.sleep(0.02)
