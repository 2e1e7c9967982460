"""Several model servers behind one gateway: real gRPC servers that behave as told."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse
from starlette.testclient import TestClient

from contract.store import ModelStore
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend, scripted
from tests.service.conftest import publish_empty
from tests.service.gateway.conftest import StartGateway, wait_until_ready

NAME = "colours"
QUEUE_FULL = "The batch scheduling queue to which this task was submitted is full"


@pytest.fixture(name="servers")
def fixture_servers() -> Iterator[list[ScriptedBackend]]:
    """Three model servers that have `colours` 1."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(ScriptedBackend("127.0.0.1:0")) for _ in range(3)]
        for server in servers:
            server.versions[NAME, 1] = scripted()
        yield servers


@pytest.fixture(name="gateway")
def fixture_gateway(start_gateway: StartGateway, servers: list[ScriptedBackend], index: ModelStore) -> TestClient:
    """A gateway in front of all three, ready, that has seen each of them."""
    gateway = start_gateway(backend=several(servers), models_dir=index.root, quorum_wait_s=3600)
    wait_until_ready(gateway)
    wait_for(lambda: up(gateway) == {server.address: 1.0 for server in servers})
    return gateway


def several(servers: list[ScriptedBackend]) -> str:
    """Return the setting for these servers."""
    return "ipv4:" + ",".join(server.address for server in servers)


def wait_for(condition: Callable[[], Any], *, timeout_s: float = 60.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the condition did not come true")
        time.sleep(0.02)


def samples(gateway: TestClient, metric: str) -> dict[str, float]:
    """Return a metric's values by labels."""
    lines = gateway.get("/metrics").text.splitlines()
    found = [line.removeprefix(metric).rpartition(" ") for line in lines if line.startswith(metric + "{")]
    return {labels: float(value) for labels, _, value in found}


def up(gateway: TestClient) -> dict[str, float]:
    """Return which servers the gateway calls."""
    found = samples(gateway, "fovea_model_server_up")
    return {labels.split('"')[1]: value for labels, value in found.items()}


def ask(gateway: TestClient, **params: Any) -> int:
    """Send a picture and return the version that has answered it rightly."""
    reply = gateway.post("/v1/predict", content=encode("red"), params=params)
    assert 200 == reply.status_code, reply.text
    assert "red" == reply.json()["predictions"][0]["top"][0]["id"]
    version: int = reply.json()["model"]["version"]
    return version


def publish_live(index: ModelStore) -> None:
    """Make a version 2 live; no server has it yet."""
    assert 2 == publish_empty(index)


def test_calls_are_spread(gateway: TestClient, servers: list[ScriptedBackend]) -> None:
    """Servers are drawn: by chance one gets less than half of its third, or as much more, once in millions of runs."""
    before = [len(server.predictions) for server in servers]
    for _ in range(90):
        ask(gateway)
    counts = [len(server.predictions) - count for server, count in zip(servers, before, strict=True)]

    assert 90 == sum(counts)
    assert all(15 <= count <= 45 for count in counts), counts


def test_previous_version_answers_until_a_quorum_has_the_live_one(
    gateway: TestClient, servers: list[ScriptedBackend], index: ModelStore
) -> None:
    """Meanwhile the new version answers those who name it, by number or label, wherever it is loaded."""
    servers[0].versions[NAME, 2] = scripted("permuted")
    publish_live(index)
    wait_for(lambda: gateway.post("/v1/predict?version=2", content=encode("red")).status_code == 200)
    early = Counter((ask(gateway), ask(gateway, version=2), ask(gateway, label="live")) for _ in range(20))
    servers[1].versions[NAME, 2] = scripted("permuted")
    wait_for(lambda: "".join(samples(gateway, "fovea_model_server_version")).count('version="2"') == 2)
    at_two_thirds = ask(gateway)
    servers[2].versions[NAME, 2] = scripted("permuted")
    wait_for(lambda: ask(gateway) == 2)
    wait_for(lambda: gateway.get("/readyz").json()["models"] == {NAME: 2})
    del servers[2].versions[NAME, 2]
    late = {ask(gateway) for _ in range(20)}

    assert {(1, 2, 2): 20} == early
    assert 1 == at_two_thirds
    assert {2} == late  # a server that lags again does not bring the previous version back


def test_quorum_is_not_waited_for_without_end(
    start_gateway: StartGateway, servers: list[ScriptedBackend], index: ModelStore, caplog: pytest.LogCaptureFixture
) -> None:
    """After `quorum_wait_s` the servers that have the version answer, and a line says so."""
    gateway = start_gateway(backend=several(servers), models_dir=index.root, quorum_wait_s=0.2)
    wait_until_ready(gateway)
    servers[0].versions[NAME, 2] = scripted("permuted")
    publish_live(index)
    with caplog.at_level(logging.WARNING, "fovea.backend"):
        wait_for(lambda: ask(gateway) == 2)

    assert f"{NAME} version 2 answers: 1 of 3 model servers have it" in caplog.messages


def test_gateway_that_starts_in_between_waits_for_the_quorum_too(
    start_gateway: StartGateway, servers: list[ScriptedBackend], index: ModelStore
) -> None:
    """The server that answers first does not decide for those that have not answered yet."""
    servers[0].versions[NAME, 2] = scripted("permuted")
    publish_live(index)
    gateway = start_gateway(backend=several(servers), models_dir=index.root, quorum_wait_s=3600)

    assert {1} == {ask(gateway) for _ in range(20)}


def test_server_that_is_away_holds_no_version(
    start_gateway: StartGateway, servers: list[ScriptedBackend], index: ModelStore
) -> None:
    """A gateway that starts while one of the servers is down takes the live version that all others have."""
    for server in servers:
        server.versions[NAME, 2] = scripted("permuted")
    publish_live(index)
    servers[1].stop()
    gateway = start_gateway(backend=several(servers), models_dir=index.root, quorum_wait_s=3600)
    wait_until_ready(gateway)
    wait_for(lambda: ask(gateway) == 2)


def test_names_alone_have_a_quorum_too(start_gateway: StartGateway, servers: list[ScriptedBackend]) -> None:
    """Without a store, the newest version that enough servers have loaded answers."""
    gateway = start_gateway(backend=several(servers), models=(NAME,), quorum_wait_s=3600)
    wait_until_ready(gateway)
    wait_for(lambda: up(gateway) == {server.address: 1.0 for server in servers})
    servers[0].versions[NAME, 2] = scripted("permuted")
    wait_for(lambda: "".join(samples(gateway, "fovea_model_server_version")).count('version="2"') == 1)
    early = {ask(gateway) for _ in range(10)}
    for server in servers[1:]:
        server.versions[NAME, 2] = scripted("permuted")
    wait_for(lambda: ask(gateway) == 2)

    assert {1} == early
    assert {2} == {ask(gateway) for _ in range(10)}


def test_unloaded_version_is_asked_of_the_next_server(gateway: TestClient, servers: list[ScriptedBackend]) -> None:
    """The gateway hears of it only by the call that fails."""
    for server in servers[:2]:
        del server.versions[NAME, 1]

    assert {1} == {ask(gateway) for _ in range(20)}


FAULTS = [
    pytest.param(grpc.StatusCode.UNAVAILABLE, "no reason", id="unavailable"),
    pytest.param(grpc.StatusCode.UNAVAILABLE, QUEUE_FULL, id="queue-full"),
    pytest.param(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much", id="exhausted"),
    pytest.param(grpc.StatusCode.ABORTED, "no reason", id="aborted"),
    pytest.param(grpc.StatusCode.CANCELLED, "no reason", id="cancelled"),
    pytest.param(grpc.StatusCode.INTERNAL, "no memory on this card", id="internal"),
    pytest.param(grpc.StatusCode.UNKNOWN, "an exception", id="unknown"),
    pytest.param(grpc.StatusCode.NOT_FOUND, "not there", id="not-found"),
]


@pytest.mark.parametrize(("fault", "details"), FAULTS)
def test_call_that_one_server_fails_is_answered_by_another(
    gateway: TestClient, servers: list[ScriptedBackend], fault: grpc.StatusCode, details: str
) -> None:
    """The client sees no error."""
    behaviour = servers[1].versions[NAME, 1]
    behaviour.fault, behaviour.details = fault, details

    assert {1} == {ask(gateway) for _ in range(12)}


def test_failing_server_is_left_out_and_tried_again(gateway: TestClient, servers: list[ScriptedBackend]) -> None:
    """It gets one call, then none for a while; when it answers again it gets its share."""
    bad = servers[1]
    bad.versions[NAME, 1].fault = grpc.StatusCode.UNAVAILABLE
    wait_for(lambda: ask(gateway) and up(gateway)[bad.address] == 0)
    bad.versions[NAME, 1].fault = None
    before = len(bad.predictions)
    wait_for(lambda: ask(gateway) and len(bad.predictions) >= before + 5)

    assert 1 == up(gateway)[bad.address]


@pytest.mark.parametrize("fault", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION])
def test_fault_of_the_request_is_not_repeated(
    gateway: TestClient, servers: list[ScriptedBackend], fault: grpc.StatusCode
) -> None:
    """One server is asked, and stays in."""
    for server in servers:
        server.versions[NAME, 1].fault = fault
    before = sum(len(server.predictions) for server in servers)
    reply = gateway.post("/v1/predict", content=encode("red"))

    assert (502, before + 1) == (reply.status_code, sum(len(server.predictions) for server in servers))
    assert {1.0} == set(up(gateway).values())


def test_poisonous_request_takes_no_server_out(gateway: TestClient, servers: list[ScriptedBackend]) -> None:
    """Where all servers fail in the same way, the request is to blame."""
    for server in servers:
        server.versions[NAME, 1].fault = grpc.StatusCode.INTERNAL
    replies = {gateway.post("/v1/predict", content=encode("red")).status_code for _ in range(10)}

    assert {502} == replies
    assert {1.0} == set(up(gateway).values())


def test_overload_of_all_is_not_multiplied(gateway: TestClient, servers: list[ScriptedBackend]) -> None:
    """Further calls have a budget; clients get 503 overloaded."""
    for server in servers:
        server.versions[NAME, 1].fault = grpc.StatusCode.RESOURCE_EXHAUSTED
    before = sum(len(server.predictions) for server in servers)
    codes = {gateway.post("/v1/predict", content=encode("red")).json()["error"]["code"] for _ in range(100)}

    assert {"overloaded"} == codes
    assert sum(len(server.predictions) for server in servers) - before <= 100 * 1.1 + 10


def test_stopped_servers_are_missed_by_nobody(gateway: TestClient, servers: list[ScriptedBackend]) -> None:
    """Two of three go without a word, and come back where they were; /readyz stays as it is."""
    servers[0].stop()
    servers[1].stop()
    away = [(ask(gateway), gateway.get("/readyz").status_code) for _ in range(10)]
    servers[0].start()
    servers[1].start()
    before = len(servers[0].predictions), len(servers[1].predictions)
    wait_for(lambda: ask(gateway) and len(servers[0].predictions) > before[0])
    wait_for(lambda: ask(gateway) and len(servers[1].predictions) > before[1])

    assert {(1, 200)} == set(away)


def test_all_servers_away_is_503(gateway: TestClient, servers: list[ScriptedBackend]) -> None:
    """As with one server; they are found again."""
    for server in servers:
        server.stop()
    wait_for(lambda: gateway.get("/readyz").status_code == 503)
    refused = gateway.post("/v1/predict", content=encode("red"))
    for server in servers:
        server.start()
    wait_until_ready(gateway)

    assert (503, "model_server_unreachable") == (refused.status_code, refused.json()["error"]["code"])
    assert 1 == ask(gateway)


def test_version_of_a_dead_server_leaves_the_request_to_another_version(
    gateway: TestClient, servers: list[ScriptedBackend], index: ModelStore
) -> None:
    """Only one server had the new version, as it had to be; then it is gone."""
    for server in servers:
        server.versions[NAME, 2] = scripted("permuted")
    publish_live(index)
    wait_for(lambda: ask(gateway) == 2)
    for server in servers[1:]:
        del server.versions[NAME, 2]
    wait_for(lambda: "".join(samples(gateway, "fovea_model_server_version")).count('version="2"') == 1)
    servers[0].stop()

    assert {1} == {ask(gateway) for _ in range(5)}


def test_servers_of_a_name_come_and_go(
    start_gateway: StartGateway, index: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses of dns:/// are looked up again; a name that is not known keeps its addresses."""
    hosts: list[str] = []
    look_up = socket.getaddrinfo

    def look_up_here(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "modelserver.test":
            return look_up(host, *args, **kwargs)
        if not hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [item for address in hosts for item in look_up(address, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up_here)
    with ScriptedBackend("127.0.0.1:0") as first:
        port = first.address.rpartition(":")[2]
        with ScriptedBackend(f"127.0.0.2:{port}") as second:
            first.versions[NAME, 1] = second.versions[NAME, 1] = scripted()
            gateway = start_gateway(backend=f"dns:///modelserver.test:{port}", models_dir=index.root)
            assert 503 == gateway.get("/readyz").status_code
            hosts.append("127.0.0.1")
            wait_until_ready(gateway)
            hosts.append("127.0.0.2")
            wait_for(lambda: ask(gateway) and second.predictions)
            hosts.remove("127.0.0.1")
            wait_for(lambda: set(up(gateway)) == {second.address})
            hosts.clear()
            wait_for(lambda: ask(gateway))

            assert {second.address} == set(up(gateway))


def test_server_that_says_it_is_not_healthy_gets_no_calls(
    start_gateway: StartGateway, servers: list[ScriptedBackend], index: ModelStore
) -> None:
    """grpc.health.v1 is followed; servers without it count as healthy."""
    health = HealthServicer()
    servers[0].stop()
    servers[0].health = health
    servers[0].start()
    gateway = start_gateway(backend=several(servers), models_dir=index.root)
    wait_until_ready(gateway)
    wait_for(lambda: up(gateway) == {server.address: 1.0 for server in servers})
    health.set("", HealthCheckResponse.NOT_SERVING)
    wait_for(lambda: up(gateway)[servers[0].address] == 0)
    before = len(servers[0].predictions)
    answers = {ask(gateway) for _ in range(20)}

    assert ({1}, before) == (answers, len(servers[0].predictions))
    health.set("", HealthCheckResponse.SERVING)
    wait_for(lambda: ask(gateway) and len(servers[0].predictions) > before)


def test_metrics_count_each_servers_calls(gateway: TestClient, servers: list[ScriptedBackend]) -> None:
    """By outcome; with what is loaded where."""
    servers[2].versions[NAME, 1].fault = grpc.StatusCode.UNAVAILABLE
    wait_for(lambda: ask(gateway) and up(gateway)[servers[2].address] == 0)
    calls = samples(gateway, "fovea_model_server_calls_total")
    versions = samples(gateway, "fovea_model_server_version")

    assert calls[f'{{outcome="model_server_unreachable",server="{servers[2].address}"}}'] >= 1
    assert all(calls[f'{{outcome="ok",server="{server.address}"}}'] >= 1 for server in servers[:2])
    assert {f'{{model="{NAME}",server="{server.address}",version="1"}}' for server in servers} == set(versions)


def test_different_precisions_are_warned_of(
    gateway: TestClient, servers: list[ScriptedBackend], caplog: pytest.LogCaptureFixture
) -> None:
    """One line names version, precisions and servers; it is not repeated while they stay as they are."""
    servers[2].versions[NAME, 1].precision = "bfloat16"
    told = "colours version 1 is answered in different precisions: "

    def warnings() -> list[str]:
        return [message for message in caplog.messages if message.startswith(told)]

    wait_for(lambda: ask(gateway) and warnings())
    for server in servers[:2]:
        server.versions[NAME, 1].precision = "bfloat16"
    wait_for(lambda: ask(gateway) and gateway.app.state.components.backend.precisions[NAME, 1] == "bfloat16")

    (line,) = warnings()
    assert f"bfloat16 by {servers[2].address}" in line
    assert any(f"float32 by {server.address}" in line for server in servers[:2])


def test_time_limit_is_for_all_servers_together(
    start_gateway: StartGateway, servers: list[ScriptedBackend], index: ModelStore
) -> None:
    """Servers that fail late do not add up: there is one answer within FOVEA_PREDICT_TIMEOUT_S."""
    gateway = start_gateway(backend=several(servers), models_dir=index.root, predict_timeout_s=2)
    wait_until_ready(gateway)
    for server in servers:
        server.versions[NAME, 1] = scripted(delay_s=1.2, fault=grpc.StatusCode.UNAVAILABLE)
    reply = gateway.post("/v1/predict", content=encode("red"))

    assert (504, "deadline_exceeded") == (reply.status_code, reply.json()["error"]["code"])


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), id="no-answer"),
        pytest.param(UnicodeError("label empty or too long"), id="no-name"),
    ],
)
def test_name_without_addresses_is_waited_for(
    start_gateway: StartGateway,
    index: ModelStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """The log has one line, /readyz and requests say that no server can be reached."""
    tries = []

    def fail(host: Any, *args: Any, **kwargs: Any) -> Any:
        tries.append(host)
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    gateway = start_gateway(backend="dns:///a..b:8500", models_dir=index.root)
    reply = gateway.post("/v1/predict", content=encode("red"))
    wait_for(lambda: len(tries) >= 2)

    assert (503, "model_server_unreachable") == (reply.status_code, reply.json()["error"]["code"])
    assert 503 == gateway.get("/readyz").status_code
    assert 1 == sum("a..b cannot be looked up" in message for message in caplog.messages)
