"""One request, one version: which one answers, and what happens when it is not there."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from starlette.testclient import TestClient

from contract.model import InputSpec
from contract.store import ModelStore
from tests.helpers.pictures import COLOURS, encode
from tests.helpers.scripted_backend import ScriptedBackend, scripted
from tests.service.conftest import publish_empty
from tests.service.gateway.conftest import StartGateway, wait_until_ready

NAME = "colours"


def ask(client: TestClient, colour: str = "red", **params: Any) -> tuple[int, int | None, str]:
    """Return status, version and top class; for an error its code instead of the class."""
    reply = client.post("/v1/predict", params=params, content=encode(colour))
    body = reply.json()
    if reply.status_code != 200:
        return reply.status_code, None, body["error"]["code"]
    return 200, body["model"]["version"], body["predictions"][0]["top"][0]["id"]


def wait_for_label(client: TestClient, label: str, version: int, *, model: str = NAME) -> None:
    """Wait until the gateway has read from the index that a model's label stands for a version."""
    deadline = time.monotonic() + 120
    accept = {"accept": "application/vnd.fovea+json"}
    while client.get(f"/v1/models/{model}", headers=accept).json().get("labels", {}).get(label) != version:
        if time.monotonic() > deadline:
            raise TimeoutError(label)
        time.sleep(0.01)


@pytest.mark.parametrize("variant", ["permuted", "small"])
def test_new_version_answers_with_its_own_pixels_and_labels(
    client: TestClient, backend: ScriptedBackend, index: ModelStore, variant: str
) -> None:
    """After a publish the new version's input and labels are used together, and the old one stays reachable."""
    backend.versions[NAME, 2] = scripted(variant)
    publish_empty(index)
    wait_for_label(client, "live", 2)

    assert [(200, 2, colour) for colour in COLOURS] == [ask(client, colour) for colour in COLOURS]
    assert [(200, 1, colour) for colour in COLOURS] == [ask(client, colour, label="previous") for colour in COLOURS]
    assert (200, 1, "red") == ask(client, version=1)


@pytest.mark.parametrize("variant", ["permuted", "small"])
@pytest.mark.parametrize("state", ["absent", "LOADING", "END"])
def test_previous_version_answers_while_live_is_not_loaded(
    client: TestClient, backend: ScriptedBackend, index: ModelStore, variant: str, state: str
) -> None:
    """A live version that the server does not have yet costs no client an answer."""
    if state != "absent":
        backend.versions[NAME, 2] = scripted(variant, state=state)
    publish_empty(index)
    wait_for_label(client, "live", 2)
    before = [ask(client, colour) for colour in COLOURS]
    backend.versions[NAME, 2] = scripted(variant)
    after = [ask(client, colour) for colour in COLOURS]

    assert [(200, 1, colour) for colour in COLOURS] == before
    assert [(200, 2, colour) for colour in COLOURS] == after


@pytest.mark.parametrize("variant", ["permuted", "small"])
def test_version_that_vanishes_between_describe_and_predict_is_replaced(
    client: TestClient, backend: ScriptedBackend, index: ModelStore, variant: str
) -> None:
    """The images are prepared anew for the version that answers instead."""
    backend.versions[NAME, 2] = scripted(variant)
    publish_empty(index)
    wait_for_label(client, "live", 2)
    assert (200, 2, "red") == ask(client)
    backend.versions[NAME, 2].fault = grpc.StatusCode.NOT_FOUND

    assert [(200, 1, colour) for colour in COLOURS] == [ask(client, colour) for colour in COLOURS]


def test_version_that_answered_goes_on_while_two_newer_ones_load(
    client: TestClient, backend: ScriptedBackend, index: ModelStore
) -> None:
    """Neither live nor previous is loaded yet: publishing twice in a hurry does not stop the service."""
    assert (200, 1, "red") == ask(client)
    publish_empty(index)
    publish_empty(index)
    wait_for_label(client, "live", 3)
    before = [ask(client, colour) for colour in COLOURS]
    wait_until_ready(client)
    backend.versions[NAME, 2] = scripted("permuted")
    between = [ask(client, colour) for colour in COLOURS]
    del backend.versions[NAME, 1], backend.versions[NAME, 2]

    assert [(200, 1, colour) for colour in COLOURS] == before
    assert [(200, 2, colour) for colour in COLOURS] == between
    assert (503, None, "model_not_ready") == ask(client)


def test_rollback_is_followed(client: TestClient, backend: ScriptedBackend, index: ModelStore) -> None:
    """The live version is the one in the index now."""
    backend.versions[NAME, 2] = scripted("permuted")
    publish_empty(index)
    wait_for_label(client, "live", 2)
    index.rollback(NAME)
    wait_for_label(client, "live", 1)

    assert [(200, 1, "red"), (200, 2, "red")] == [ask(client), ask(client, label="previous")]


def test_candidate_answers_only_when_asked_for(client: TestClient, backend: ScriptedBackend, index: ModelStore) -> None:
    """A candidate is newer than live, and reachable by number and label alone."""
    backend.versions[NAME, 2] = scripted("permuted")
    publish_empty(index, live=False)
    wait_for_label(client, "candidate", 2)

    answers = [ask(client, "green", **params) for params in ({}, {"label": "candidate"}, {"version": 2})]
    assert [(200, 1, "green"), (200, 2, "green"), (200, 2, "green")] == answers


CANDIDATE_ONLY = "shapes has no live version; version 1 is a candidate, which `version=1` asks. Make it live with "


def test_model_with_a_candidate_alone_answers_when_asked_for_it(
    client: TestClient, backend: ScriptedBackend, index: ModelStore
) -> None:
    """Whatever the route, a request that names no version is 404 with the command; the other model serves."""
    backend.versions["shapes", 1] = scripted("embedding")
    publish_empty(index, "shapes", live=False)
    wait_for_label(client, "candidate", 1, model="shapes")
    red = {"content": encode("red"), "params": {"model": "shapes"}}
    tensor = {"name": "images", "shape": [1], "datatype": "BYTES", "data": [""]}
    refused = [
        client.post("/v1/predict", **red),
        client.post("/v1/predict", content=encode("red"), params={"model": "shapes", "label": "live"}),
        client.post("/v1/explain", **red),
        client.post("/v1/embed", **red),
        client.post("/v1/models/shapes:predict", json={"instances": [[[[0, 0, 0]]]]}),
        client.post("/v1/models/shapes/labels/live:predict", json={"instances": [[[[0, 0, 0]]]]}),
        client.get("/v1/models/shapes/metadata"),
        client.post("/v2/models/shapes/infer", json={"inputs": [tensor]}),
        client.get("/v2/models/shapes"),
        client.get("/v2/models/shapes/ready"),
    ]
    for reply in refused:
        assert 404 == reply.status_code, reply.request.url
        assert CANDIDATE_ONLY in reply.text, reply.request.url
        assert re.search(r"promote shapes 1`", reply.text), reply.request.url
    assert "no_live_version" == refused[0].json()["error"]["code"]

    asked = [{"model": "shapes", "version": 1}, {"model": "shapes", "label": "candidate"}, {}, {"model": NAME}]
    assert [(200, 1, "red")] * 4 == [ask(client, **params) for params in asked]
    assert (404, None, "label_not_found") == ask(client, model="shapes", label="previous")
    assert {"status": "ready", "models": {NAME: 1}} == client.get("/readyz").json()
    listed = {model["name"]: model["labels"] for model in client.get("/v1/models").json()["models"]}
    assert {NAME: {"live": 1}, "shapes": {"candidate": 1}} == listed
    status = client.get("/v1/models/shapes", headers={"accept": "application/vnd.fovea+json"}).json()
    assert ({"candidate": 1}, [["candidate"]], None) == (
        status["labels"],
        [version["labels"] for version in status["model_version_status"]],
        status["contract"],
    )

    index.promote("shapes")
    wait_for_label(client, "live", 1, model="shapes")
    assert (200, 1, "red") == ask(client, model="shapes")


def test_only_model_is_meant_also_when_it_has_a_candidate_alone(
    start_gateway: StartGateway, backend: ScriptedBackend, tmp_path: Path
) -> None:
    """A request that names no model is told how to make it live, or answered by the version that it names."""
    store = ModelStore(tmp_path / "candidates")
    publish_empty(store, live=False)
    client = start_gateway(backend=backend.address, models_dir=store.root)
    wait_until_ready(client)

    assert [(404, None, "no_live_version"), (200, 1, "red")] == [ask(client), ask(client, version=1)]


def test_listed_version_that_is_not_loaded_is_503(
    client: TestClient, backend: ScriptedBackend, index: ModelStore
) -> None:
    """The index promises the version, so it is late, not missing; the client may try again."""
    publish_empty(index, live=False)
    wait_for_label(client, "candidate", 2)
    reply = client.post("/v1/predict", params={"label": "candidate"}, content=encode("red"))

    assert (503, "model_not_ready", "1") == (
        reply.status_code,
        reply.json()["error"]["code"],
        reply.headers["retry-after"],
    )


def test_version_published_just_now_is_known_at_once(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """A request for a version that the last reading of the index lacks causes another reading."""
    client = start_gateway(backend=backend.address, models_dir=index.root, poll_s=60)
    wait_until_ready(client)
    backend.versions[NAME, 2] = scripted("permuted")
    publish_empty(index, live=False)
    time.sleep(0.1)

    assert (200, 2, "blue") == ask(client, "blue", version=2)


def test_model_published_just_now_is_known_at_once(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """So does a request for a model."""
    client = start_gateway(backend=backend.address, models_dir=index.root, poll_s=60)
    wait_until_ready(client)
    backend.versions["shapes", 1] = scripted("permuted")
    publish_empty(index, "shapes")
    time.sleep(0.1)

    assert (200, 1, "blue") == ask(client, "blue", model="shapes")


def test_broken_index_leaves_what_was_served(client: TestClient, index: ModelStore) -> None:
    """An index that cannot be read changes nothing."""
    (index.root / "index.json").write_text("{")
    time.sleep(0.1)

    assert (200, 1, "red") == ask(client)


def test_contract_is_asked_once_for_each_version_and_connection(client: TestClient, backend: ScriptedBackend) -> None:
    """Contracts are remembered, until the model server may be another one."""
    for _ in range(3):
        ask(client)
    assert [(NAME, 1)] == backend.descriptions
    backend.stop()
    backend.versions[NAME, 1] = scripted("permuted")
    backend.start()
    wait_until(lambda: (200, 1, "blue") == ask(client, "blue"))

    assert [(NAME, 1), (NAME, 1)] == backend.descriptions


@pytest.mark.parametrize("restart", ["plain", "small"])
def test_restarted_model_server_is_found_again(client: TestClient, backend: ScriptedBackend, restart: str) -> None:
    """While it is away requests get 503; afterwards they are answered, whatever the same number now means."""
    backend.stop()
    wait_until(lambda: client.get("/readyz").status_code == 503)
    assert (503, None, "model_server_unreachable") == ask(client)
    backend.versions[NAME, 1] = scripted(restart)
    backend.start()
    wait_until_ready(client)

    assert (200, 1, "red") == ask(client)


# Without a store: the names are given, the model server's newest AVAILABLE version answers.


@pytest.fixture
def named(start_gateway: StartGateway, backend: ScriptedBackend) -> TestClient:
    """A gateway that serves `colours` by name and believes what it learnt about versions for a minute."""
    client = start_gateway(backend=backend.address, models=(NAME,), poll_s=60)
    wait_until_ready(client)
    return client


def test_newest_version_answers_without_a_store(named: TestClient, backend: ScriptedBackend) -> None:
    """Predict names no version then."""
    backend.predictions.clear()

    assert [(200, 1, colour) for colour in COLOURS] == [ask(named, colour) for colour in COLOURS]
    assert [(NAME, None, 1)] * 3 == backend.predictions


@pytest.mark.parametrize("variant", ["permuted", "small"])
def test_newer_version_that_answers_unexpectedly_is_answered_for_as_itself(
    named: TestClient, backend: ScriptedBackend, variant: str
) -> None:
    """If another version answers than the images were prepared for, they are prepared and sent again where needed."""
    assert (200, 1, "red") == ask(named)
    backend.versions[NAME, 2] = scripted(variant)

    assert [(200, 2, colour) for colour in COLOURS] == [ask(named, colour) for colour in COLOURS]


def test_input_that_only_the_newer_version_reads_otherwise_is_prepared_again(
    named: TestClient, backend: ScriptedBackend
) -> None:
    """Same shape, other rules: the first answer was made of the wrong pixels and is thrown away."""
    assert (200, 1, "red") == ask(named)
    newer = scripted("permuted")
    document = {**newer.contract.document, "input": {**newer.contract.document["input"], "fit": "crop"}}
    newer.contract = type(newer.contract).from_document(document)
    assert InputSpec(height=16, width=16, fit="crop") == newer.contract.input
    backend.versions[NAME, 2] = newer
    backend.predictions.clear()

    assert (200, 2, "blue") == ask(named, "blue")
    assert [(NAME, None, 1), (NAME, 2, 1)] == backend.predictions


def test_all_batches_of_a_request_are_answered_by_one_version(
    start_gateway: StartGateway, backend: ScriptedBackend
) -> None:
    """The version that answered the first batch is named for the others."""
    client = start_gateway(backend=backend.address, models=(NAME,), poll_s=60, max_batch=1)
    wait_until_ready(client)
    assert (200, 1, "red") == ask(client)
    backend.predictions.clear()
    files = [("file", (f"{colour}.png", encode(colour))) for colour in COLOURS]
    old = client.post("/v1/predict", files=files).json()
    backend.versions[NAME, 2] = scripted("permuted")
    new = client.post("/v1/predict", files=files).json()

    assert [(NAME, None, 1), (NAME, 1, 1), (NAME, 1, 1)] == backend.predictions[:3]
    assert [1, 2] == [old["model"]["version"], new["model"]["version"]]
    assert [list(COLOURS)] * 2 == [[p["top"][0]["id"] for p in body["predictions"]] for body in (old, new)]


def test_unloaded_guess_is_replaced_by_what_the_server_has_now(named: TestClient, backend: ScriptedBackend) -> None:
    """When the version that was guessed is gone, its contract too, the model server is asked again."""
    assert (200, 1, "red") == ask(named)
    backend.versions[NAME, 1].state = "END"
    backend.versions[NAME, 2] = scripted("small")

    assert (200, 2, "red") == ask(named)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        pytest.param({"version": 1}, (200, 1, "red"), id="number"),
        pytest.param({"label": "live"}, (200, 1, "red"), id="live"),
        pytest.param({"version": 9}, (404, None, "version_not_found"), id="unknown-number"),
        pytest.param({"label": "previous"}, (404, None, "label_not_found"), id="other-label"),
        pytest.param({"model": "other"}, (404, None, "model_not_found"), id="unknown-model"),
    ],
)
def test_versions_and_labels_without_a_store(named: TestClient, params: dict[str, Any], expected: object) -> None:
    """Numbers go to the model server; `live` is the only label."""
    assert expected == ask(named, **params)


def test_named_model_without_an_available_version_is_503(start_gateway: StartGateway, backend: ScriptedBackend) -> None:
    """A configured name is promised, so what is missing is late."""
    client = start_gateway(backend=backend.address, models=("later",))

    assert (503, None, "model_not_ready") == ask(client)
    backend.versions["later", 1] = scripted(state="LOADING")
    time.sleep(0.05)
    assert (503, None, "model_not_ready") == ask(client)
    backend.versions["later", 1].state = "AVAILABLE"
    wait_until(lambda: (200, 1, "red") == ask(client))


def wait_until(condition: Any, *, timeout_s: float = 120.0) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: if it does not come true.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)
