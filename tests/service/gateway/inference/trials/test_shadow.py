"""A shadow: the candidate is asked what the live version has answered, and no client notices."""

from __future__ import annotations

import threading
from pathlib import Path

import grpc
import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from contract.trials.findings import Figures, read_findings
from contract.trials.trial import SHADOW
from tests.helpers.pictures import COLOURS, encode
from tests.helpers.scripted_backend import ScriptedBackend, scripted
from tests.helpers.tiny_model import expected_probabilities
from tests.service.conftest import publish_empty
from tests.service.gateway.conftest import StartGateway, run_gateway, wait_until_ready
from tests.service.gateway.inference.trials.trials import NAME, answering, read_metric, wait_for, wait_for_share


def calls(client: TestClient, outcome: str) -> float:
    return read_metric(client, "fovea_trial_calls_total", model=NAME, version="2", kind=SHADOW, outcome=outcome)


def shadow_all(client: TestClient, index: ModelStore) -> None:
    index.set_trial_share(NAME, SHADOW, 1)
    wait_for_share(client, SHADOW, 1)


def test_live_version_answers_and_the_candidate_is_compared(
    trying: TestClient, backend: ScriptedBackend, index: ModelStore
) -> None:
    """Two images in one call: the candidate, whose labels are in another order, finds the same classes."""
    shadow_all(trying, index)
    files = [("file", ("a.png", encode("red"))), ("file", ("b.png", encode("blue"))), ("file", ("c.png", b"broken"))]
    reply = trying.post("/v1/predict", files=files)
    wait_for(lambda: calls(trying, "ok") == 1, "the shadow call")

    assert 1 == reply.json()["model"]["version"]
    assert [(NAME, 1, 2), (NAME, 2, 2)] == backend.predictions[-2:]
    assert 2 == read_metric(trying, "fovea_shadow_images_total", model=NAME, version="2", agreement="same")
    assert 0 == read_metric(trying, "fovea_shadow_images_total", model=NAME, version="2", agreement="other")


def test_other_classes_are_counted(trying: TestClient, backend: ScriptedBackend, index: ModelStore) -> None:
    backend.versions[NAME, 2] = scripted(answer=lambda images: expected_probabilities(255 - images, tuple(COLOURS)))
    shadow_all(trying, index)
    answering(trying)
    wait_for(lambda: calls(trying, "ok") == 1, "the shadow call")

    assert 1 == read_metric(trying, "fovea_shadow_images_total", agreement="other")


def test_only_open_predictions_are_shadowed(trying: TestClient, backend: ScriptedBackend, index: ModelStore) -> None:
    shadow_all(trying, index)
    answering(trying, version=1)
    answering(trying, label="live")
    answering(trying, path="/v1/explain")
    trying.post("/v1/embed", content=encode("red"))
    answering(trying)
    wait_for(lambda: calls(trying, "ok") == 1, "the shadow call")

    assert 1 == sum(version == 2 for _, version, _ in backend.predictions)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (grpc.StatusCode.INTERNAL, "error"),
        (grpc.StatusCode.NOT_FOUND, "not_loaded"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "error"),
    ],
)
def test_failing_candidate_fails_no_answer(
    trying: TestClient, backend: ScriptedBackend, index: ModelStore, fault: grpc.StatusCode, outcome: str
) -> None:
    backend.versions[NAME, 2] = scripted("permuted", fault=fault)
    shadow_all(trying, index)
    version = answering(trying)
    wait_for(lambda: calls(trying, outcome) == 1, "the shadow call")

    assert 1 == version


def test_hanging_candidate_delays_no_answer_and_calls_beyond_the_bound_are_dropped(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """With two calls held, live answers come all the same, and their shadow calls are dropped and counted."""
    begun = threading.Semaphore(0)
    backend.versions[NAME, 2] = scripted("permuted", on_predict=begun.release)
    publish_empty(index, live=False)
    gateway = start_gateway(backend=backend.address, models_dir=index.root, shadow_max_in_flight=2)
    wait_until_ready(gateway)
    shadow_all(gateway, index)
    with backend.versions[NAME, 2].held():
        versions = []
        for _ in range(2):
            versions.append(answering(gateway))
            assert begun.acquire(timeout=120)
        versions += [answering(gateway) for _ in range(3)]
        dropped = calls(gateway, "dropped")
    wait_for(lambda: calls(gateway, "ok") == 2, "the held calls")

    assert [1] * 5 == versions
    assert 3 == dropped


def test_request_of_a_client_with_little_time_is_shadowed_without_its_deadline(
    trying: TestClient, backend: ScriptedBackend, index: ModelStore
) -> None:
    shadow_all(trying, index)
    answering(trying, headers={"X-Request-Timeout": "10"})
    wait_for(lambda: calls(trying, "ok") == 1, "the shadow call")
    live, shadow = backend.times_left[-2:]

    assert live < 15 < shadow  # the limit of FOVEA_PREDICT_TIMEOUT_S is 30 s


def test_shutdown_with_a_hanging_candidate_ends(backend: ScriptedBackend, index: ModelStore) -> None:
    """Shadow calls are cancelled; figures are written before the process ends."""
    begun = threading.Event()
    backend.versions[NAME, 2] = scripted("permuted", on_predict=begun.set)
    publish_empty(index, live=False)
    trial = index.set_trial_share(NAME, SHADOW, 1).trial
    assert trial is not None
    with run_gateway(backend=backend.address, models_dir=index.root, shadow_max_in_flight=1) as gateway:
        wait_for_share(gateway, SHADOW, 1)
        with backend.versions[NAME, 2].held():
            answering(gateway)
            assert begun.wait(120)
            answering(gateway)
            gateway.__exit__(None, None, None)
            found = read_findings(index.root / ".trials" / NAME, trial)[SHADOW]
    assert 1 == found.dropped


def test_figures_of_several_gateways_are_added(backend: ScriptedBackend, index: ModelStore, tmp_path: Path) -> None:
    backend.versions[NAME, 2] = scripted("permuted")
    publish_empty(index, live=False)
    trial = index.set_trial_share(NAME, SHADOW, 1).trial
    assert trial is not None
    folder = tmp_path / "figures"
    for _ in range(2):
        with run_gateway(backend=backend.address, models_dir=index.root, trials_dir=folder) as gateway:
            wait_for_share(gateway, SHADOW, 1)
            answering(gateway)
            wait_for(lambda gateway=gateway: calls(gateway, "ok") == 1, "the shadow call")  # type: ignore[misc]
    found = read_findings(folder / NAME, trial)[SHADOW]

    assert (2, 2, 2, 2) == (found.answers, found.images, found.agreed, found.live_answers)
    assert found.seconds.percentile(0.5) is not None
    assert not (index.root / ".trials").exists()


def test_findings_are_read_back_and_other_files_passed_over(index: ModelStore, tmp_path: Path) -> None:
    publish_empty(index, live=False)
    trial = index.set_trial_share(NAME, SHADOW, 1).trial
    assert trial is not None
    for name, text in {
        "a.json": "no json",
        "b.json": "[]",
        "c.json": f'{{"started": "{trial.started}", "shadow": {{"answers": -1}}}}',
        "d.json": f'{{"started": "{trial.started}", "shadow": 3}}',
        "e.json": '{"started": "other", "shadow": {"answers": 5}, "canary": {}}',
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "pipe.json").mkdir()

    assert Figures() == read_findings(tmp_path, trial)[SHADOW]


def test_status_has_the_trial_and_what_this_gateway_found(trying: TestClient, index: ModelStore) -> None:
    """Without a trial the documents are as before."""
    full = {"accept": "application/vnd.fovea+json"}
    before = [trying.get("/v1/models").json()["models"][0], trying.get(f"/v1/models/{NAME}", headers=full).json()]
    shadow_all(trying, index)
    answering(trying)
    wait_for(lambda: calls(trying, "ok") == 1, "the shadow call")
    listed = trying.get("/v1/models").json()["models"][0]["trial"]
    described = trying.get(f"/v1/models/{NAME}", headers=full).json()["trial"]

    assert ["trial" in document for document in before] == [False, False]
    assert listed == described
    assert (2, 1.0, 0.0, None) == tuple(described[key] for key in ("version", "shadow", "canary", "stopped"))
    found = described["found"]
    assert {"shadow"} == set(found)
    assert (1, 1, 1.0, 0) == tuple(found["shadow"][key] for key in ("answers", "images", "agreement", "dropped"))
    assert 0 < found["shadow"]["p50_s"] <= found["shadow"]["p95_s"]
