"""`python -m service up`: gateway and model server as one, from an empty store to the end of everything."""

from __future__ import annotations

import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from contract.store import ModelStore
from tests.helpers.gateway_process import ServiceProcess, fetch, in_flight, predict, wait_until_draining
from tests.helpers.pictures import COLOURS, encode
from tests.helpers.tiny_model import publish_variant
from tests.helpers.traffic import wait_until
from tests.service.conftest import StartProcess

PARTS = {"service.in_process": "server", "modelserver": "model server", "gateway": "gateway"}  # and their names
PARTS_OF = {1: {"service.in_process"}, 2: {"modelserver", "gateway"}}  # by the number of processes


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A temporary folder whose path leaves room for a socket's name; empty in the end, or the test fails."""
    with tempfile.TemporaryDirectory(prefix="up-", dir="/tmp") as folder:
        yield Path(folder)
        assert [] == list(Path(folder).iterdir())


def children_of(service: ServiceProcess) -> dict[str, psutil.Process]:
    """Return the children of an `up` by what they run; there are no others."""
    children = psutil.Process(service.process.pid).children()
    found = {command: child for child in children for command in PARTS if command in child.cmdline()}
    assert len(children) == len(found)
    return found


def wait_for_output(service: ServiceProcess, text: str, *, timeout_s: float = 120.0) -> None:
    """Wait until `up` has printed something."""
    deadline = time.monotonic() + timeout_s
    while text not in service.output:
        if time.monotonic() > deadline or service.process.poll() is not None:
            raise TimeoutError(f"{text}:\n{service.output}\n{service.log}")
        time.sleep(0.05)


def assert_gone(processes: list[psutil.Process]) -> None:
    """Check that processes have ended, within the seconds that the kernel takes."""
    _, alive = psutil.wait_procs(processes, timeout=120)
    assert [] == alive


@pytest.mark.parametrize("processes", PARTS_OF)
def test_empty_store_is_filled_without_a_restart_and_no_request_is_lost(
    start_process: StartProcess, tmp_path: Path, tiny_models: dict[str, Path], short_tmp: Path, processes: int
) -> None:
    """Says what to do, picks up the first model, answers, drains on SIGTERM, leaves nothing behind."""
    store = ModelStore(tmp_path / "models")
    flags = [f"--models-dir={store.root}", "--port=0", f"--processes={processes}"]
    service = start_process("up", *flags, TMPDIR=str(short_tmp))
    url = service.wait_for_url()
    wait_for_output(service, "python -m pipeline run")
    publish_variant(store, tiny_models["slow"])
    wait_for_output(service, f"Fovea is ready: {url}")
    children = children_of(service)

    assert PARTS_OF[processes] == children.keys()
    assert 1 == service.output.count("python -m pipeline run")
    with ThreadPoolExecutor(4) as pool:
        replies = [pool.submit(predict, url, encode(colour)) for colour in COLOURS]
        wait_until(lambda: sum(reply.done() for reply in replies) + in_flight(url) >= len(replies))
        service.send(signal.SIGTERM)
        answers = [reply.result(60).json()["predictions"][0]["top"][0]["id"] for reply in replies]
    assert list(COLOURS) == answers
    assert 0 == service.wait()
    assert_gone(list(children.values()))
    assert fetch(url + "/healthz") is None


@pytest.mark.parametrize("victim", PARTS)
def test_death_of_a_part_ends_all(start_process: StartProcess, tmp_path: Path, victim: str) -> None:
    """Half a service is none: exit 1, with the reason on the last line."""
    processes = 1 if victim == "service.in_process" else 2
    service = start_process("up", f"--models-dir={tmp_path / 'models'}", "--port=0", f"--processes={processes}")
    service.wait_for_url()
    children = children_of(service)
    children[victim].kill()

    assert 1 == service.wait()
    name = PARTS[victim]
    assert f"up: the {name} ended by itself with status -9, so everything was stopped" == service.log.splitlines()[-1]
    assert_gone(list(children.values()))


@pytest.mark.parametrize("processes", PARTS_OF)
def test_killed_parent_leaves_no_orphans(
    start_process: StartProcess, tmp_path: Path, short_tmp: Path, processes: int
) -> None:
    """Not even kill -9 leaves a server running."""
    flags = [f"--models-dir={tmp_path / 'models'}", "--port=0", f"--processes={processes}"]
    service = start_process("up", *flags, TMPDIR=str(short_tmp))
    service.wait_for_url()
    children = children_of(service)
    service.kill()

    assert PARTS_OF[processes] == children.keys()
    assert_gone(list(children.values()))
    for folder in short_tmp.iterdir():  # the socket's: no process was left to remove it
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


@pytest.mark.parametrize("processes", PARTS_OF)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_keyboard_and_closed_terminal_stop_it_too(
    start_process: StartProcess, tmp_path: Path, number: signal.Signals, processes: int
) -> None:
    """Ctrl-C and a terminal that closes are a normal end; a path too long for a socket is got round."""
    long_path = tmp_path / ("long" * 30)
    long_path.mkdir()
    flags = [f"--models-dir={tmp_path / 'models'}", "--port=0", f"--processes={processes}"]
    service = start_process("up", *flags, TMPDIR=str(long_path))
    service.wait_for_url()
    children = children_of(service)
    service.send(number)

    assert 0 == service.wait()
    assert_gone(list(children.values()))
    assert [] == list(long_path.iterdir())


@pytest.mark.parametrize(("processes", "name"), [(1, "server"), (2, "gateway")])
def test_second_signal_does_not_wait(start_process: StartProcess, tmp_path: Path, processes: int, name: str) -> None:
    """A person who presses Ctrl-C twice means now; the exit status says that the end was not orderly."""
    flags = [f"--models-dir={tmp_path / 'models'}", "--port=0", f"--processes={processes}"]
    service = start_process("up", *flags, "--shutdown-delay-s=600")
    url = service.wait_for_url()
    children = children_of(service)
    service.send(signal.SIGINT)
    wait_until_draining(url)
    service.send(signal.SIGINT)

    assert 1 == service.wait()
    assert f"the {name} ended with status -9" in service.log.splitlines()[-1]
    assert_gone(list(children.values()))


def test_taken_port_is_named_before_anything_starts(start_process: StartProcess, tmp_path: Path) -> None:
    """The reason is the last line, and nothing was started for it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = start_process("up", f"--models-dir={tmp_path / 'models'}", f"--port={port}")

        assert 1 == service.wait()
    (line,) = service.log.splitlines()
    assert line == (
        f"up: cannot listen on 127.0.0.1:{port}: Address already in use; stop the program that has the port, or choose "
        "another with --port (0 takes a free one)"
    )


def test_store_that_cannot_be_written_is_refused(start_process: StartProcess, tmp_path: Path) -> None:
    """A file where the store should be is no store."""
    (tmp_path / "file").write_text("")
    service = start_process("up", f"--models-dir={tmp_path / 'file'}", "--port=0")

    assert 1 == service.wait()
    assert service.log.splitlines()[-1].startswith("up: the model store ")


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--backend=host:1", "up: --backend: `up` decides this itself; use `gateway` to set it"),
        ("--models=a", "up: --models: `up` decides this itself; use `gateway` to set it"),
        ("--engine=tfserving --precision=float32", "up: --precision: only with --engine embedded"),
        ("--engine=tfserving --processes=2", "up: --processes: only with --engine embedded"),
        ("--prot=1", "up: unknown flag --prot; did you mean --port?"),
    ],
)
def test_wrong_flag_is_status_2(start_process: StartProcess, flag: str, reason: str) -> None:
    """Settings that `up` decides itself cannot be set."""
    service = start_process("up", *flag.split())

    assert 2 == service.wait()
    assert reason == service.log.splitlines()[-1]


def test_an_unknown_precision_is_status_2(start_process: StartProcess) -> None:
    """Before any server starts, with the known ones."""
    service = start_process("up", "--precision=float7")

    assert 2 == service.wait()
    reason = service.log.splitlines()[-1]
    assert "argument --precision: invalid choice: 'float7'" in reason
    assert all(name in reason for name in ("auto", "float32", "bfloat16", "float16", "int8"))


def test_flags_and_variables_reach_the_gateway(start_process: StartProcess, tmp_path: Path) -> None:
    """All of the gateway's settings can be given to `up`."""
    environ = {"FOVEA_MAX_BODY_BYTES": "10", "FOVEA_MODELS_DIR": str(tmp_path / "models")}
    service = start_process("up", "--port=0", "--max-images=1", **environ)
    url = service.wait_for_url()
    reply = predict(url, b"x" * 11)

    assert (413, "body_too_large") == (reply.status_code, reply.json()["error"]["code"])
    assert (tmp_path / "models" / "models.config").is_file()
