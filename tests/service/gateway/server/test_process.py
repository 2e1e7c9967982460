"""The gateway as a process: start, memory, signals, wrong use."""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import psutil
import pytest

from contract.store import ModelStore
from tests.helpers.gateway_process import ServiceProcess, fetch, predict, probe, wait_for_metric, wait_until_draining
from tests.helpers.pictures import COLOURS, encode
from tests.helpers.scripted_backend import ScriptedBackend
from tests.service.conftest import StartProcess

logger = logging.getLogger(__name__)

MAX_START_S = 4.5  # three times what benchmarks/gateway_start.py holds it to; a busy machine must not fail a test
MAX_RESIDENT_BYTES = 120 * 10**6


def test_gateway_is_ready_fast_and_small(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore
) -> None:
    """Ready within a bounded CPU time, and 120 MB at most after a hundred predictions."""
    picture = encode("red", "JPEG", size=512)
    wall, cpu, resident = [], [], []
    # Coverage's own start and tracing are not the gateway's.
    unmeasured = {"COVERAGE_PROCESS_CONFIG": "", "COVERAGE_PROCESS_START": ""}
    arguments = ("gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0")
    for _ in range(4):
        process = start_process(*arguments, **unmeasured)
        url = process.wait_for_url()
        process.wait_until_ready(url)
        wall.append(time.monotonic() - process.started_at)
        measured = psutil.Process(process.process.pid)
        times = measured.cpu_times()
        cpu.append(times.user + times.system)
        for _ in range(100):
            assert 200 == predict(url, picture).status_code
        resident.append(measured.memory_info().rss)
        process.stop()
    logger.info("ready after %s s, of which CPU %s s; resident %s bytes", wall, cpu, resident)

    assert min(cpu) < MAX_START_S
    assert max(resident) < MAX_RESIDENT_BYTES


def test_gateway_never_imports_tensorflow_or_engine() -> None:
    """Nothing heavy is loaded, however much of the gateway is used."""
    code = """
import json, pathlib, sys
import service.gateway.cli, service.gateway.server.server, service.logs
from service.gateway.app import create_app
from service.gateway.context.settings import Settings
create_app(Settings(models_dir=pathlib.Path("models"))).openapi()
heavy = {"tensorflow", "keras", "openvino", "engine", "pipeline", "service.modelserver"}
print(json.dumps({"heavy": sorted(heavy & sys.modules.keys()), "grpc": "grpc" in sys.modules}))
"""
    assert {"heavy": [], "grpc": True} == probe(code)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signal_ends_the_process_with_status_0(gateway: tuple[ServiceProcess, str], number: signal.Signals) -> None:
    """A stop that was asked for is a success."""
    process, url = gateway
    process.send(number)

    assert 0 == process.wait()
    assert fetch(url + "/healthz") is None


def test_request_in_flight_survives_sigterm(gateway: tuple[ServiceProcess, str], backend: ScriptedBackend) -> None:
    """Accepted requests are answered, then the process ends."""
    process, url = gateway
    with ThreadPoolExecutor(4) as pool:
        with backend.versions["colours", 1].held():
            replies = [pool.submit(predict, url, encode(colour)) for colour in COLOURS]
            wait_for_metric(url, f"fovea_requests_in_flight {len(COLOURS) + 1}.0")  # and the one that asks
            process.send(signal.SIGTERM)
        answers = [reply.result(60).json()["predictions"][0]["top"][0]["id"] for reply in replies]

    assert list(COLOURS) == answers
    assert 0 == process.wait()


def test_readiness_falls_before_the_port_closes(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore
) -> None:
    """With a delay, load balancers can see it coming while requests are still answered."""
    process = start_process(
        "gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0", "--shutdown-delay-s=600"
    )
    url = process.wait_for_url()
    process.wait_until_ready(url)
    process.send(signal.SIGTERM)
    wait_until_draining(url)
    readiness, answer = fetch(url + "/readyz"), predict(url, encode("red"))
    process.send(signal.SIGINT)

    assert readiness is not None
    assert (503, "draining", 200) == (
        readiness.status_code,
        readiness.json()["error"]["code"],
        answer.status_code,
    )
    assert 0 == process.wait()


def test_second_sigint_does_not_wait(start_process: StartProcess, backend: ScriptedBackend, index: ModelStore) -> None:
    """A person who presses Ctrl-C twice means now."""
    process = start_process(
        "gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0", "--shutdown-delay-s=600"
    )
    url = process.wait_for_url()
    process.send(signal.SIGINT)
    wait_until_draining(url)
    process.send(signal.SIGINT)

    assert 0 == process.wait()


def test_body_without_end_is_refused_while_it_is_read(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore
) -> None:
    """A chunked body has no length to refuse it by: it is cut off at the limit, and costs no memory beyond that."""
    process = start_process(
        "gateway",
        f"--models-dir={index.root}",
        f"--backend={backend.address}",
        "--port=0",
        "--max-body-bytes=2000000",
    )
    url = process.wait_for_url()
    process.wait_until_ready(url)
    before = psutil.Process(process.process.pid).memory_info().rss

    def endless() -> Iterator[bytes]:
        for _ in range(600):
            yield b"x" * 100_000

    reply = httpx2.post(f"{url}/v1/predict", content=endless(), timeout=60, trust_env=False)
    grown = psutil.Process(process.process.pid).memory_info().rss - before

    assert (413, "body_too_large") == (reply.status_code, reply.json()["error"]["code"])
    assert grown < 20e6
    assert 200 == predict(url, encode("red")).status_code


def test_body_that_says_it_is_too_large_is_refused_unread(gateway: tuple[ServiceProcess, str]) -> None:
    """The declared length is enough: not one byte of the body needs to arrive."""
    _, url = gateway
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        reply = b""
        while not reply.endswith(b"}}") and (piece := connection.recv(4096)):
            reply += piece

    assert b"HTTP/1.1 413" == reply[:12]
    assert b"body_too_large" in reply


def test_client_that_leaves_in_the_middle_of_its_body_harms_nobody(gateway: tuple[ServiceProcess, str]) -> None:
    """Its request is counted as 499, and the next one is answered."""
    process, url = gateway
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        wait_for_metric(url, "fovea_requests_in_flight 2.0")
    deadline = time.monotonic() + 120
    while 'code="499"' not in fetch(url + "/metrics").text and time.monotonic() < deadline:  # type: ignore[union-attr]
        time.sleep(0.05)

    assert 'code="499"' in fetch(url + "/metrics").text  # type: ignore[union-attr]
    assert 200 == predict(url, encode("red")).status_code
    assert "Traceback" not in process.log


def test_access_log_has_the_request_id_and_cannot_be_forged(gateway: tuple[ServiceProcess, str]) -> None:
    """Each request is one line; a path with a line break stays on it."""
    process, url = gateway
    httpx2.get(f"{url}/nothing%0Aforged", headers={"x-request-id": "id-42"}, timeout=60, trust_env=False)

    deadline = time.monotonic() + 120
    while "id-42" not in process.log and time.monotonic() < deadline:  # it is written after the reply
        time.sleep(0.02)
    (line,) = [line for line in process.log.splitlines() if "id-42" in line]
    assert r"GET /nothing\nforged 404" in line


def test_port_that_is_taken_is_named(start_process: StartProcess, index: ModelStore) -> None:
    """The last line says which address, and why; the status is 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start_process("gateway", f"--models-dir={index.root}", f"--port={port}")

        assert 1 == process.wait()
    last = process.log.splitlines()[-1]
    assert last.startswith(f"gateway: cannot listen on 127.0.0.1:{port}: Address already in use; ")
    assert last.endswith("choose another with --port (0 takes a free one)")


@pytest.mark.parametrize(
    ("arguments", "environ", "reason"),
    [
        (["gateway", "--prot=1"], {}, "gateway: unknown flag --prot; did you mean --port?"),
        (
            ["gateway", "--models=a"],
            {"FOVEA_PROT": "1"},
            "gateway: unknown environment variable FOVEA_PROT; did you mean FOVEA_PORT?",
        ),
        (["serve"], {}, "service: expected a command. Received: serve"),
        ([], {}, "service: expected a command. Received: none"),
    ],
    ids=["flag", "variable", "command", "nothing"],
)
def test_wrong_use_is_status_2(
    start_process: StartProcess, arguments: list[str], environ: dict[str, str], reason: str
) -> None:
    """The reason is the last line of stderr."""
    process = start_process(*arguments, **environ)

    assert 2 == process.wait()
    assert reason == process.log.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["gateway", "--help"], ["up", "-h"], ["predict", "-h"]], ids=" ".join
)
def test_help_is_status_0(start_process: StartProcess, arguments: list[str]) -> None:
    """Help is printed to stdout."""
    process = start_process(*arguments)

    assert 0 == process.wait()
    assert "usage: python -m service" in process.output


def test_bare_prediction_is_quick(gateway: tuple[ServiceProcess, str]) -> None:
    """A small image on an instant model server takes the gateway milliseconds of CPU time."""
    process, url = gateway
    server = psutil.Process(process.process.pid)
    picture = encode("red")
    with httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
        before = server.cpu_times()
        for _ in range(200):
            assert 200 == client.post("/v1/predict", content=picture).status_code
        after = server.cpu_times()
    cpu_s = (after.user - before.user + after.system - before.system) / 200
    logger.info("%.4f s of CPU time a request", cpu_s)

    assert cpu_s < 0.02
