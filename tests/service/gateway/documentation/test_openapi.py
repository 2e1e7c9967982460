"""/openapi.json: every route, every status, an example for every error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.gateway.context import errors
from service.gateway.context.errors import GatewayError

# Codes that no route of the API answers with, or that a reply has under another status.
NOT_IN_EXAMPLES = {"internal_error", "unavailable", "invalid_argument"}


@pytest.fixture(name="document", scope="module")
def fixture_document() -> dict[str, Any]:
    """The document of a gateway that was never started."""
    from service.gateway.app import create_app
    from service.gateway.context.settings import Settings

    found: dict[str, Any] = create_app(Settings(models=("colours",))).openapi()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def classes(root: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    yield root
    for child in root.__subclasses__():
        yield from classes(child)


def test_every_route_of_the_design_is_there(document: dict[str, Any]) -> None:
    """With the methods that it names."""
    expected = {
        *(("POST", f"/v1/{name}") for name in ("predict", "explain")),
        *(("POST", f"/v1/models/{{model}}{where}:predict") for where in ("", "/versions/{version}", "/labels/{label}")),
        *(("GET", f"/v1/models{where}") for where in ("", "/{model}", "/{model}/versions/{version}")),
        *(("GET", f"/{name}") for name in ("healthz", "readyz", "metrics")),
        *(("GET", f"/v2{where}") for where in ("", "/health/live", "/health/ready")),
        *(("GET", f"/v2/models/{{model}}{where}") for where in ("", "/ready", "/versions/{version}/ready")),
        *(("POST", f"/v2/models/{{model}}{where}/infer") for where in ("", "/versions/{version}")),
    }

    assert expected <= {(method, path) for method, path, _ in operations(document)}


def test_every_operation_says_what_it_is_and_what_can_go_wrong(document: dict[str, Any]) -> None:
    """A summary, a description, the request's id, and an example or a schema of every reply."""
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert "X-Request-ID" in [item["name"] for item in operation["parameters"]], where
        for status, reply in operation["responses"].items():
            assert reply["description"], (where, status)
            assert "X-Request-ID" in reply["headers"], (where, status)
            for content in reply.get("content", {}).values():
                assert content.get("schema") or content.get("example"), (where, status)


def test_every_error_has_an_example_of_each_of_its_codes(document: dict[str, Any]) -> None:
    """The codes are those of the error classes, under their statuses."""
    shown: set[tuple[int, str]] = set()
    for _, _, operation in operations(document):
        for status, reply in operation["responses"].items():
            examples = reply.get("content", {}).get("application/json", {}).get("examples", {})
            shown |= {(int(status), code) for code in examples}
    own = {(kind.status_code, kind.code) for kind in classes() if kind.__module__ == errors.__name__}
    images = {(400, "empty_image"), (400, "undecodable_image"), (413, "image_too_large"), (415, "unsupported_image")}

    assert {item for item in own if item[1] not in NOT_IN_EXAMPLES} | images <= shown


def test_retry_after_is_documented_where_it_is_sent(document: dict[str, Any]) -> None:
    """On every 429 and 503."""
    for method, path, operation in operations(document):
        for status in ("429", "503"):
            if status in operation["responses"]:
                assert "Retry-After" in operation["responses"][status]["headers"], (method, path)


def test_keys_are_asked_for_by_closed_routes_only(document: dict[str, Any]) -> None:
    """Health and readiness stay open."""
    are_open = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
    for _, path, operation in operations(document):
        assert ("security" in operation) == (path not in are_open), path


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    """Every $ref names a schema of the document, and every schema is used."""
    text = str(document)
    for name in document["components"]["schemas"]:
        assert f"#/components/schemas/{name}'" in text, name
    for part in text.split("#/components/schemas/")[1:]:
        assert part.split("'")[0] in document["components"]["schemas"]


def test_the_example_bodies_are_answered(client: TestClient, document: dict[str, Any]) -> None:
    """The document's examples can be sent as they are."""
    for path in ("/v1/predict", "/v1/explain"):
        example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert 200 == client.post(path, json=example).status_code
