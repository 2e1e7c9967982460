"""The automatic stop of a canary: its rule, the index, and stores that the gateway cannot write."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from contract.trials.trial import CANARY
from service.gateway.inference.trials.stop_rule import StopLimits, StopRule
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend, scripted
from tests.service.conftest import publish_empty
from tests.service.gateway.conftest import StartGateway, wait_until_ready
from tests.service.gateway.inference.trials.trials import NAME, answering, read_metric, wait_for, wait_for_share

LIMITS = StopLimits(max_errors=0.05, max_slowdown=2.0, min_answers=50)


def reason_of(candidate: list[float | None], live: list[float | None]) -> str | None:
    rule = StopRule(LIMITS)
    for seconds in live:
        rule.record(seconds, by_candidate=False)
    for seconds in candidate:
        rule.record(seconds, by_candidate=True)
    return rule.reason()


def try_candidate(backend: ScriptedBackend, index: ModelStore, **behaviour: Any) -> None:
    """Publish a candidate that behaves in a way, and let it answer every request."""
    backend.versions[NAME, 2] = scripted("permuted", **behaviour)
    publish_empty(index, live=False)
    index.set_trial_share(NAME, CANARY, 1)


def start_trying(start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore) -> TestClient:
    """Start a gateway and wait until it has read that the candidate answers every request."""
    gateway = start_gateway(backend=backend.address, models_dir=index.root)
    wait_until_ready(gateway)
    wait_for_share(gateway, CANARY, 1)
    return gateway


@pytest.mark.parametrize(
    ("candidate", "live"),
    [
        ([], []),
        ([None] * 2, []),  # 2 of at least 50 are 4 %
        ([0.1] * 95 + [None] * 5, [0.1] * 100),
        ([None] * 30, [None] * 30),  # the model server fails everything
        ([9.0] * 49, [0.1] * 100),  # too few
        ([9.0] * 100, [0.1] * 49),
        ([0.2] * 100, [0.1] * 100),
        ([0.015] * 100, [0.001] * 100),  # 14 ms more
        ([None] * 40 + [0.1] * 100, [0.1] * 100),  # long ago
    ],
)
def test_canary_goes_on(candidate: list[float | None], live: list[float | None]) -> None:
    assert reason_of(candidate, live) is None


@pytest.mark.parametrize(
    ("candidate", "live", "reason"),
    [
        ([None] * 3, [], "errors: 3 of the last 3 calls failed"),
        ([0.1] * 94 + [None] * 6, [0.1] * 100, "errors: 6 of the last 100"),
        ([None] * 30, [0.1] * 30, "errors: 30 of the last 30"),
        ([0.21] * 50, [0.1] * 50, "latency: the 95th percentile is 210 ms, the live version's 100 ms"),
        ([0.1] * 90 + [3.0] * 10, [0.1] * 100, "latency: the 95th percentile is 3000 ms"),
    ],
)
def test_canary_stops(candidate: list[float | None], live: list[float | None], reason: str) -> None:
    found = reason_of(candidate, live)

    assert found is not None
    assert found.startswith(reason)
    assert "FOVEA_CANARY_MAX_" in found


def test_stop_by_errors_is_written_to_the_index_and_ends_the_canary(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """Other gateways follow the index; each client has got an answer."""
    try_candidate(backend, index, fault=grpc.StatusCode.INTERNAL)
    gateways = [start_gateway(backend=backend.address, models_dir=index.root) for _ in range(2)]
    for gateway in gateways:
        wait_until_ready(gateway)
        wait_for_share(gateway, CANARY, 1)
    answers = [answering(gateways[0]) for _ in range(3)]
    for gateway in gateways:
        wait_for_share(gateway, CANARY, 0)
    trial = index.read_index()[NAME].trial

    assert [1, 1, 1] == answers
    assert trial is not None and trial.stopped is not None
    assert trial.stopped.startswith("errors: 3 of the last 3 calls failed")
    assert [1, 1] == [read_metric(gateway, "fovea_canary_stopped", model=NAME, version="2") for gateway in gateways]
    before = len(backend.predictions)
    answering(gateways[1])
    assert [(NAME, 1, 1)] == backend.predictions[before:]


def test_stop_by_latency(start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore) -> None:
    """Half of the sessions meet a candidate that takes a fifth of a second longer."""
    backend.versions[NAME, 2] = scripted("permuted", delay_s=0.2)
    backend.versions[NAME, 1] = scripted(delay_s=0.01)
    publish_empty(index, live=False)
    index.set_trial_share(NAME, CANARY, 0.5)
    gateway = start_gateway(
        backend=backend.address, models_dir=index.root, canary_min_answers=10, canary_max_slowdown=1.5
    )
    wait_until_ready(gateway)
    sessions = iter(range(10_000))

    def is_stopped() -> bool:
        answering(gateway, headers={"x-session-id": str(next(sessions))})
        trial = index.read_index()[NAME].trial
        return trial is not None and trial.stopped is not None

    wait_for(is_stopped, "the stop")
    trial = index.read_index()[NAME].trial

    assert trial is not None and trial.stopped is not None
    assert trial.stopped.startswith("latency: ")


def test_canary_is_started_again_by_hand(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """The new trial forgets the errors of the one before."""
    try_candidate(backend, index, fault=grpc.StatusCode.INTERNAL)
    gateway = start_trying(start_gateway, backend, index)
    for _ in range(3):
        answering(gateway)
    wait_for_share(gateway, CANARY, 0)
    backend.versions[NAME, 2] = scripted("permuted")
    index.set_trial_share(NAME, CANARY, 1)
    wait_for_share(gateway, CANARY, 1)

    assert 2 == answering(gateway)
    assert 0 == read_metric(gateway, "fovea_canary_stopped", model=NAME, version="2")


def test_gateway_that_cannot_write_the_store_stops_for_itself(
    start_gateway: StartGateway,
    backend: ScriptedBackend,
    index: ModelStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log says that the stop is this gateway's alone; the metric is 1 and clients get the live version."""
    try_candidate(backend, index, fault=grpc.StatusCode.INTERNAL)
    lock = index.root / ".lock"
    lock.unlink()
    lock.mkdir()  # as a folder that is mounted for reading: no writer can take its lock, root neither
    gateway = start_trying(start_gateway, backend, index)
    for _ in range(3):
        answering(gateway)
    wait_for(lambda: "holds for this gateway alone" in caplog.text, "the log line")

    assert 1 == read_metric(gateway, "fovea_canary_stopped", model=NAME, version="2")
    assert 0 == read_metric(gateway, "fovea_trial_share", kind=CANARY)
    before = len(backend.predictions)
    assert 1 == answering(gateway)
    assert [(NAME, 1, 1)] == backend.predictions[before:]
    trial = index.read_index()[NAME].trial
    assert trial is not None and trial.canary == 1


def test_impatient_clients_stop_no_canary(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """A deadline that no version meets says nothing of the candidate."""
    try_candidate(backend, index, delay_s=0.2)
    gateway = start_trying(start_gateway, backend, index)
    replies = [
        gateway.post("/v1/predict", content=encode("red"), headers={"X-Request-Timeout": "0.05"}) for _ in range(4)
    ]
    trial = index.read_index()[NAME].trial

    assert {504} == {reply.status_code for reply in replies}
    assert trial is not None and trial.stopped is None
    assert 2 == answering(gateway)


def test_locally_stopped_canary_is_started_again_by_off_and_on(
    start_gateway: StartGateway,
    backend: ScriptedBackend,
    index: ModelStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The index never said that it stopped: the share goes to 0 and up again by hand."""
    try_candidate(backend, index, fault=grpc.StatusCode.INTERNAL)
    lock, kept = index.root / ".lock", index.root / ".lock-kept"
    gateway = start_trying(start_gateway, backend, index)
    lock.rename(kept)
    lock.mkdir()
    for _ in range(3):
        answering(gateway)
    wait_for(lambda: "holds for this gateway alone" in caplog.text, "the log line")
    assert 1 == read_metric(gateway, "fovea_canary_stopped", model=NAME, version="2")
    lock.rmdir()
    kept.rename(lock)
    backend.versions[NAME, 2] = scripted("permuted")
    index.set_trial_share(NAME, CANARY, 0)

    def is_off() -> bool:
        gateway.get("/v1/models")  # reads the index when it is due
        return read_metric(gateway, "fovea_canary_stopped", version="2") == 0

    wait_for(is_off, "off")
    index.set_trial_share(NAME, CANARY, 1)
    wait_for_share(gateway, CANARY, 1)

    assert 2 == answering(gateway)
