"""A plain Starlette route gives the answers of the FastAPI route behind it, and is behind the same middleware."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route
from starlette.testclient import TestClient

from contract.store import ModelStore
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend
from tests.service.gateway.conftest import StartGateway, wait_until_ready


def without_id(reply: Any) -> tuple[int, Any, set[str]]:
    body = reply.json()
    body.pop("request_id", None)
    body.get("error", {}).pop("request_id", None)
    return reply.status_code, body, set(reply.headers) - {"date"}


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?top=2",
        "?model=colours&version=1&top=1",
        "?label=live",
        "?top=0",
        "?top=99",
        "?top=abc",
        "?top=1&top=2",
        "?unknown=1",
        "?model=&top=1",
        "?version=1&label=live",
        "?model=nobody",
        "?version=77",
        "?" + "&".join(f"a{n}=1" for n in range(40)),
        "?top=%F0%9F%98%80",
        "?;",
    ],
)
@pytest.mark.parametrize("body", [encode("red"), b"", b"not an image"], ids=["image", "empty", "text"])
def test_both_routes_give_the_same_answer(client: TestClient, query: str, body: bytes) -> None:
    """Status, body and headers are those of FastAPI's own route."""
    plain = client.post(f"/v1/predict{query}", content=body)
    first = cast(FastAPI, client.app).router.routes.pop(0)
    assert isinstance(first, Route) and not isinstance(first, APIRoute) and "/v1/predict" == first.path
    documented = client.post(f"/v1/predict{query}", content=body)

    assert without_id(documented) == without_id(plain)


@pytest.mark.parametrize(("method", "status"), [("GET", 405), ("PUT", 405), ("DELETE", 405)])
def test_other_methods_are_refused(client: TestClient, method: str, status: int) -> None:
    """They are refused as everywhere."""
    reply = client.request(method, "/v1/predict")

    assert (status, "method_not_allowed") == (reply.status_code, reply.json()["error"]["code"])


def test_keys_are_asked_for(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore, tmp_path: Path
) -> None:
    """It is behind access control, not beside it."""
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    client = start_gateway(backend=backend.address, models_dir=index.root, keys_file=keys)
    wait_until_ready(client)
    before = len(backend.predictions)
    reply = client.post("/v1/predict", content=encode("red"))

    assert (401, "unauthorized") == (reply.status_code, reply.json()["error"]["code"])
    assert before == len(backend.predictions)


def test_the_route_has_its_name_in_the_metrics(client: TestClient) -> None:
    """Answered, refused before the route, or refused for the query."""
    client.post("/v1/predict", content=encode("red"))
    client.post("/v1/predict", content=encode("red"), headers={"x-request-timeout": "soon"})
    client.post("/v1/predict?nothing=1", content=encode("red"))
    text = client.get("/metrics").text

    assert 'fovea_requests_total{code="200",method="POST",route="/v1/predict"} 1.0' in text
    assert 'fovea_requests_total{code="422",method="POST",route="/v1/predict"} 2.0' in text
