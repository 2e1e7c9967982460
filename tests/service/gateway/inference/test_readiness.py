"""Readiness with several models: which of them it waits for, which it only names."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend, scripted
from tests.service.conftest import publish_empty
from tests.service.gateway.conftest import StartGateway, wait_until_ready

NAN: dict[str, Any] = {"answer": lambda images: np.full((len(images), 3), np.nan, np.float32)}
PENDING = {
    "unknown": None,
    "start": {"state": "START"},
    "loading": {"state": "LOADING"},
    "loading-again-after-a-failure": {"state": "LOADING", "error_code": 13},
    "unloading": {"state": "UNLOADING"},
    "unavailable": {"fault": grpc.StatusCode.UNAVAILABLE},
    "overloaded": {"fault": grpc.StatusCode.RESOURCE_EXHAUSTED},
    "does-not-describe-itself-yet": {"describe_fault": grpc.StatusCode.UNAVAILABLE},
}
FAILED = {
    "failed-to-load": {"state": "END", "error_code": 13},
    "damaged": {"state": "END", "error_code": 15},
    "unloaded": {"state": "END"},
    "answers-nonsense": NAN,
    "fails": {"fault": grpc.StatusCode.INTERNAL},
    "breaks-its-contract": {"contract_bytes": b"{}"},
}


def wait_for(client: TestClient, condition: Callable[[int, Any], bool], *, timeout_s: float = 30.0) -> Any:
    """Return the document of /readyz once it fulfils a condition on its status and itself."""
    deadline = time.monotonic() + timeout_s
    while True:
        reply = client.get("/readyz")
        if condition(reply.status_code, reply.json()):
            return reply.json()
        if time.monotonic() > deadline:
            raise TimeoutError(reply.text)
        time.sleep(0.02)


def says(*parts: str) -> Callable[[int, Any], bool]:
    """Return the condition that /readyz is 503 and its message has these parts."""
    return lambda status, document: status == 503 and all(part in document["error"]["message"] for part in parts)


@pytest.fixture(params=["store", "names"])
def start_with(
    request: pytest.FixtureRequest, start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> Callable[..., TestClient]:
    """A function that starts a gateway for `colours` and other models: from a store, or from names."""

    def start(*names: str) -> TestClient:
        for name in names:
            publish_empty(index, name)
        source: dict[str, Any] = {"models_dir": index.root} if request.param == "store" else {}
        return start_gateway(backend=backend.address, **(source or {"models": ("colours", *names)}))

    return start


@pytest.mark.parametrize("behaviour", PENDING.values(), ids=PENDING)
def test_ready_waits_for_every_live_model(
    start_with: Callable[..., TestClient], backend: ScriptedBackend, behaviour: dict[str, Any] | None
) -> None:
    """Not ready, in both protocols, while one of two models has not answered; its name is in the reason."""
    if behaviour is not None:
        backend.versions["late", 1] = scripted(**behaviour)
    client = start_with("late")
    refused = wait_for(client, says("late"))
    open_inference = client.get("/v2/health/ready")
    backend.versions["late", 1] = scripted()
    ready = wait_for(client, lambda status, _: status == 200)

    assert "colours:" not in refused["error"]["message"]
    assert 503 == open_inference.status_code
    assert "late" in open_inference.text
    assert {"status": "ready", "models": {"colours": 1, "late": 1}} == ready
    assert 200 == client.get("/v2/health/ready").status_code


@pytest.mark.parametrize("behaviour", FAILED.values(), ids=FAILED)
def test_model_that_failed_for_good_is_named_and_holds_nothing(
    start_with: Callable[..., TestClient], backend: ScriptedBackend, behaviour: dict[str, Any]
) -> None:
    """Ready with the other model; the failed one joins once it answers."""
    backend.versions["bad", 1] = scripted(**behaviour)
    client = start_with("bad")
    ready = wait_for(client, lambda status, _: status == 200)
    backend.versions["bad", 1] = scripted()
    mended = wait_for(client, lambda status, document: status == 200 and "failed" not in document)

    assert {"colours": 1} == ready["models"]
    assert ["bad"] == list(ready["failed"])
    assert {"bad": 1, "colours": 1} == mended["models"]


def test_every_model_failed_is_not_ready(start_with: Callable[..., TestClient], backend: ScriptedBackend) -> None:
    """The reason names each, and what the code of the first says."""
    backend.versions["colours", 1] = scripted(**FAILED["failed-to-load"])
    backend.versions["other", 1] = scripted(**FAILED["answers-nonsense"])
    client = start_with("other")
    document = wait_for(client, says("colours: version 1 of colours failed to load (INTERNAL)", "other: "))

    assert "model_not_ready" == document["error"]["code"]


def test_waiting_and_failed_models_are_told_apart(
    start_with: Callable[..., TestClient], backend: ScriptedBackend
) -> None:
    """One message has both."""
    backend.versions["bad", 1] = scripted(**FAILED["damaged"])
    backend.versions["late", 1] = scripted(**PENDING["loading"] or {})
    client = start_with("bad", "late")
    message = wait_for(client, says("late"))["error"]["message"]

    assert (
        "late: version 1 of late is loading (state LOADING); "
        "failed: bad: version 1 of bad failed to load (DATA_LOSS); the model server's log says why"
    ) == message


def test_previous_version_is_waited_for_where_the_live_one_failed(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """It answers for the model."""
    publish_empty(index)
    backend.versions["colours", 2] = scripted(**FAILED["failed-to-load"])
    backend.versions["colours", 1] = scripted(state="LOADING")
    client = start_gateway(backend=backend.address, models_dir=index.root)
    wait_for(client, says("version 1 of colours is loading"))
    backend.versions["colours", 1] = scripted()

    assert {"colours": 1} == wait_for(client, lambda status, _: status == 200)["models"]


def test_model_without_a_live_version_holds_nothing(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """A candidate alone, or a name whose versions are all removed, is not waited for."""
    path = index.root / "index.json"
    document = json.loads(path.read_text())
    nothing = {"live": None, "previous": None, "candidate": None, "highest": 1}
    document["models"] |= {"candidate": {**nothing, "candidate": 1}, "removed": nothing}
    path.write_text(json.dumps(document))
    client = start_gateway(backend=backend.address, models_dir=index.root)

    assert {"status": "ready", "models": {"colours": 1}} == wait_for(client, lambda status, _: status == 200)


def test_gateway_with_candidates_alone_is_ready_while_the_model_server_answers(
    start_gateway: StartGateway, backend: ScriptedBackend, tmp_path: Path
) -> None:
    """Nothing is live; a candidate can be asked by its number. A promoted one is then warmed and listed."""
    store = ModelStore(tmp_path / "candidates")
    publish_empty(store, live=False)
    client = start_gateway(backend=backend.address, models_dir=store.root)
    assert {"status": "ready", "models": {}} == wait_for(client, lambda status, _: status == 200)

    store.promote("colours")
    wait_for(client, lambda status, document: status == 200 and document["models"] == {"colours": 1})


def test_gateway_with_candidates_alone_waits_for_the_model_server(start_gateway: StartGateway, tmp_path: Path) -> None:
    """Without it not even a candidate answers."""
    store = ModelStore(tmp_path / "candidates")
    publish_empty(store, live=False)
    client = start_gateway(backend=f"unix:{tmp_path / 'nothing.sock'}", models_dir=store.root)

    reason = wait_for(client, lambda _, document: document["error"]["code"] == "model_server_unreachable")
    assert "model server" in reason["error"]["message"]


def test_model_published_later_is_named_and_does_not_end_readiness(
    client: TestClient, backend: ScriptedBackend, index: ModelStore
) -> None:
    """Others are answered all the time; once it answers it is listed."""
    statuses = set()

    def watch(status: int, document: Any) -> bool:
        statuses.add(status)
        return "pending" in document

    publish_empty(index, "late")
    named = wait_for(client, watch)
    backend.versions["late", 1] = scripted(state="LOADING")
    loading = wait_for(client, lambda _, document: "is loading" in document.get("pending", {}).get("late", ""))
    backend.versions["late", 1] = scripted()
    ready = wait_for(client, lambda _, document: "late" in document["models"])

    assert {200} == statuses
    assert {"late": "version 1 of late is not known to the model server yet"} == named["pending"]
    assert {"colours": 1} == loading["models"]
    assert {"status": "ready", "models": {"colours": 1, "late": 1}} == ready


def test_restarted_model_server_is_waited_for_by_what_it_had_loaded(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """The models that answered before must answer again; one that never did does not hold them."""
    publish_empty(index, "second")
    backend.versions["second", 1] = scripted()
    client = start_gateway(backend=backend.address, models_dir=index.root)
    wait_until_ready(client)
    publish_empty(index, "newcomer")
    wait_for(client, lambda _, document: "pending" in document)
    backend.stop()
    away = wait_for(client, lambda status, _: status == 503)
    backend.versions["second", 1] = scripted(state="LOADING")
    backend.start()
    half = wait_for(client, says("second"))
    answered = client.post("/v1/predict?model=colours", content=encode("red"))
    backend.versions["second", 1] = scripted()
    ready = wait_for(client, lambda status, _: status == 200)

    assert "model_server_unreachable" == away["error"]["code"]
    assert "newcomer" not in half["error"]["message"]
    assert 200 == answered.status_code
    assert ({"colours": 1, "second": 1}, ["newcomer"]) == (ready["models"], list(ready["pending"]))


def test_reason_stays_short_with_many_models(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """Ten are named, the others counted."""
    for number in range(14):
        publish_empty(index, f"late{number:02}")
    client = start_gateway(backend=backend.address, models_dir=index.root)

    assert "late09" in wait_for(client, says("and 4 more models"))["error"]["message"]
