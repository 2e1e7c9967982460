"""`python -m service.in_process` says what is wrong with its flags, its models and its address, and ends."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from contract.store import ModelStore
from tests.helpers.gateway_process import ServiceProcess

MODULE = "service.in_process"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("--prot=1 -- --models=a", "modelserver: unrecognized arguments: --prot=1"),
        ("--model_config_file=x -- --models=a --prot=1", "gateway: unknown flag --prot; did you mean --port?"),
        ("--model_config_file=x", "gateway: "),
    ],
)
def test_wrong_flags_are_status_2(tmp_path: Path, arguments: str, reason: str) -> None:
    """Of either part, and where the gateway's are left out."""
    process = ServiceProcess(arguments.split(), tmp_path, module=MODULE)

    assert 2 == process.wait()
    assert process.log.splitlines()[-1].startswith(reason)


def test_a_file_of_models_that_cannot_be_read_is_status_1(tmp_path: Path) -> None:
    """As for the model server alone."""
    store = ModelStore(tmp_path / "models")
    store.ensure()
    store.config_path.write_text("model_config_list {")
    flags = [f"--model_config_file={store.config_path}", "--", f"--models-dir={store.root}", "--port=0"]
    process = ServiceProcess(flags, tmp_path, module=MODULE)

    assert 1 == process.wait()
    assert f"Invalid protobuf file: '{store.config_path}'" in process.log.splitlines()[-1]


def test_a_taken_port_is_status_1(tmp_path: Path) -> None:
    """Before a model is loaded."""
    store = ModelStore(tmp_path / "models")
    store.ensure()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = [f"--model_config_file={store.config_path}", "--", f"--models-dir={store.root}", f"--port={port}"]
        process = ServiceProcess(flags, tmp_path, module=MODULE)

        assert 1 == process.wait()
    assert "Address already in use" in process.log.splitlines()[-1]
