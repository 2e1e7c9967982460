"""The table of requests of the Open Inference Protocol, sent to the gateway in front of the real model server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.conformance.open_inference_cases import CASES, Case
from tests.helpers.server_process import ServerProcess
from tests.service.gateway.conftest import run_gateway


@pytest.fixture(name="client", scope="module")
def fixture_client(modelserver: ServerProcess) -> Iterator[TestClient]:
    """A gateway in front of the shared model server."""
    with run_gateway(backend=modelserver.address, models_dir=modelserver.store.root) as gateway:
        yield gateway


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.area}: {case.what}")
def test_reply(client: TestClient, case: Case) -> None:
    """Status, the fields that the table names, and the length of the binary data."""
    reply = client.request(case.method, case.path, content=case.body, headers=dict(case.headers))

    assert case.status == reply.status_code, reply.text
    length = int(reply.headers.get("inference-header-content-length", len(reply.content)))
    document = json.loads(reply.content[:length])
    assert case.binary == len(reply.content) - length
    if isinstance(case.reply, str):
        assert {"error"} == document.keys()
        assert case.reply in document["error"]
    else:
        check_fields(dict(case.reply), document)


def check_fields(expected: Any, actual: Any) -> None:
    """Check that a document has at least these fields, in lists the same number of them."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            check_fields(value, actual[name])
    elif isinstance(expected, list):
        assert len(expected) == len(actual)
        for one, other in zip(expected, actual, strict=True):
            check_fields(one, other)
    else:
        assert expected == actual
