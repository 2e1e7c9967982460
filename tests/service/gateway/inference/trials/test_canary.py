"""A canary: which requests the candidate answers, and what is recorded of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tifffile
from starlette.testclient import TestClient

from contract.model import ModelContract
from contract.store import ModelStore
from contract.trials.trial import CANARY
from service.gateway.context.request_context import RequestContext
from service.gateway.inference.trials.chosen import is_chosen, subject_of
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend, ScriptedVersion, scripted
from tests.helpers.tiny_model import VARIANTS, build_contract
from tests.service.conftest import publish_empty
from tests.service.gateway.conftest import StartGateway, wait_until_ready
from tests.service.gateway.inference.trials.trials import NAME, answering, read_metric, wait_for_share


def test_share_one_gives_every_open_request_to_the_candidate(trying: TestClient, index: ModelStore) -> None:
    index.set_trial_share(NAME, CANARY, 1)
    wait_for_share(trying, CANARY, 1)

    assert [2, 2] == [answering(trying), answering(trying, model=NAME)]
    assert [1, 1] == [answering(trying, version=1), answering(trying, label="live")]
    assert 2 == answering(trying, path="/v1/explain")
    assert "colours version 1 has no embeddings" in trying.post("/v1/embed", content=encode("red")).text


def test_off_and_promotion_end_it_without_a_restart(trying: TestClient, index: ModelStore) -> None:
    index.set_trial_share(NAME, CANARY, 1)
    wait_for_share(trying, CANARY, 1)
    during = answering(trying)
    index.set_trial_share(NAME, CANARY, 0)
    wait_for_share(trying, CANARY, 0)
    after = answering(trying)
    index.set_trial_share(NAME, CANARY, 1)
    index.promote(NAME)
    wait_for_share(trying, CANARY, None)

    assert (2, 1, 2) == (during, after, answering(trying))


def test_same_session_gets_the_same_version(trying: TestClient, index: ModelStore) -> None:
    """The header decides; a share of a half divides sessions, and each of them stays where it is."""
    index.set_trial_share(NAME, CANARY, 0.5)
    wait_for_share(trying, CANARY, 0.5)
    by_session = {str(n): {answering(trying, headers={"X-Session-ID": str(n)}) for _ in range(3)} for n in range(12)}

    assert all(len(versions) == 1 for versions in by_session.values())
    assert {1, 2} == set().union(*by_session.values())


def test_candidate_that_fails_costs_no_client_an_answer(
    trying: TestClient, backend: ScriptedBackend, index: ModelStore
) -> None:
    index.set_trial_share(NAME, CANARY, 1)
    wait_for_share(trying, CANARY, 1)
    backend.versions[NAME, 2] = scripted("permuted", fault=grpc.StatusCode.INTERNAL)
    failed = answering(trying)
    del backend.versions[NAME, 2]
    missing = answering(trying)

    assert (1, 1) == (failed, missing)
    assert 1 == read_metric(trying, "fovea_trial_calls_total", kind=CANARY, outcome="error", version="2")
    assert 1 == read_metric(trying, "fovea_trial_calls_total", kind=CANARY, outcome="not_loaded", version="2")


def test_request_that_does_not_fit_the_candidate_is_answered_by_the_live_version(
    trying: TestClient, index: ModelStore
) -> None:
    """Wrong images and parameters are no errors of the candidate."""
    index.set_trial_share(NAME, CANARY, 1)
    wait_for_share(trying, CANARY, 1)
    replies = [
        trying.post("/v1/predict", content=b"no picture"),
        trying.post("/v1/predict", params={"top": 99}, content=encode("red")),
    ]

    assert [415, 422] == [reply.status_code for reply in replies]
    assert 0 == read_metric(trying, "fovea_trial_calls_total", kind=CANARY, version="2")


def test_image_that_the_candidate_does_not_read_is_answered_by_the_live_version(
    client: TestClient, backend: ScriptedBackend, index: ModelStore
) -> None:
    """Its contract names an earlier rule of the decoder, by which a TIFF of 12 bits is refused."""
    document = build_contract(VARIANTS["permuted"]).document
    contract = ModelContract.from_document({**document, "input": {**document["input"], "decoder": 1}})
    backend.versions[NAME, 2] = ScriptedVersion(contract)
    publish_empty(index, live=False)
    index.set_trial_share(NAME, CANARY, 1)
    wait_for_share(client, CANARY, 1)
    file = io.BytesIO()
    tifffile.imwrite(file, np.full((16, 16, 3), (4000, 0, 0), np.uint16), bitspersample=12)
    reply = client.post("/v1/predict", content=file.getvalue())

    assert 2 == answering(client)
    assert (200, 1) == (reply.status_code, reply.json()["model"]["version"])


def test_metrics_have_model_version_and_kind(trying: TestClient, index: ModelStore) -> None:
    index.set_trial_share(NAME, CANARY, 1)
    wait_for_share(trying, CANARY, 1)
    for _ in range(3):
        answering(trying)

    assert 3 == read_metric(trying, "fovea_trial_calls_total", model=NAME, version="2", kind=CANARY, outcome="ok")
    assert 3 == read_metric(trying, "fovea_trial_seconds_count", model=NAME, version="2", kind=CANARY)


def test_audit_log_says_which_answers_were_the_canarys(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore, tmp_path: Path
) -> None:
    backend.versions[NAME, 2] = scripted("permuted")
    publish_empty(index, live=False)
    index.set_trial_share(NAME, CANARY, 1)
    log = tmp_path / "audit.jsonl"
    gateway = start_gateway(backend=backend.address, models_dir=index.root, audit_log=log)
    wait_until_ready(gateway)
    answering(gateway)
    answering(gateway, version=1)
    answering(gateway, version=2)
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]

    assert [(2, True), (1, None), (2, None)] == [(line["version"], line.get("canary")) for line in lines]


def test_hash_is_sticky_and_keeps_its_choice_when_the_share_grows() -> None:
    from contract.trials.trial import Trial

    subjects = [f"key {n}" for n in range(4000)]

    def chosen(share: float, *, version: int = 2) -> set[str]:
        trial = Trial(version, "2026-01-01T00:00:00Z", canary=share)
        return {subject for subject in subjects if is_chosen(NAME, trial, subject)}

    assert chosen(0.05) <= chosen(0.2) <= chosen(1) == set(subjects)
    assert set() == chosen(0)
    assert 0.2 == pytest.approx(len(chosen(0.2)) / len(subjects), abs=0.03)
    assert chosen(0.2) != chosen(0.2, version=3)


def test_subject_is_the_key_then_the_header_then_the_request() -> None:
    headers = [(b"x-session-id", b"s1")]

    assert "key anna" == subject_of(RequestContext("r", key="anna", headers=headers), b"x-session-id")
    assert "session s1" == subject_of(RequestContext("r", headers=headers), b"x-session-id")
    assert "request r" == subject_of(RequestContext("r", headers=headers), b"x-user")
    assert "request r" == subject_of(RequestContext("r", headers=[(b"x-session-id", b"")]), b"x-session-id")
