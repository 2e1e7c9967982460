"""API keys, rights and rate limits over HTTP; the file of keys changes while the gateway runs."""

from __future__ import annotations

import importlib
import re
import time
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from service.gateway import routes
from service.gateway.access.api_keys import KeyFileError
from service.gateway.access.rate_limits import RateLimiter, name_address
from service.gateway.context.errors import RateLimitedError
from service.gateway.http.authorization import OPEN_PATHS, OPEN_PREFIXES
from service.key import main
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend
from tests.service.gateway.conftest import StartGateway, wait_until_ready


class Keys:
    """A file of keys and the keys themselves."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self._capsys = capsys

    def add(self, name: str, *flags: str) -> str:
        """Make a key."""
        assert 0 == main(["add", name, "--keys", str(self.path), *flags])
        return self._capsys.readouterr().out.strip()

    def remove(self, name: str) -> None:
        """Remove a key."""
        assert 0 == main(["remove", name, "--keys", str(self.path)])


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Keys:
    """No keys yet."""
    return Keys(tmp_path / "keys.json", capsys)


@pytest.fixture
def start(start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore) -> StartGateway:
    """A function that runs a ready gateway with some settings."""

    def run(**settings: Any) -> TestClient:
        client = start_gateway(backend=backend.address, models_dir=index.root, **settings)
        wait_until_ready(client)
        return client

    return run


def predict(client: TestClient, **headers: str) -> tuple[int, str]:
    """Return status and error code of a prediction."""
    reply = client.post(
        "/v1/predict", content=encode("red"), headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    return reply.status_code, reply.json().get("error", {}).get("code", "")


def wait_for(client: TestClient, status: int, **headers: str) -> None:
    """Wait until a prediction is answered with a status."""
    deadline = time.monotonic() + 120
    while predict(client, **headers)[0] != status:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_only_a_known_key_lets_in(start: StartGateway, keys: Keys) -> None:
    """By either header; nothing of a wrong key is repeated."""
    secret = keys.add("clinic")
    client = start(keys_file=keys.path)
    refused = client.post("/v1/predict", content=encode("red"), headers={"x-api-key": secret[:-1]})

    assert (200, "") == predict(client, x_api_key=secret) == predict(client, authorization=f"Bearer {secret}")
    assert (401, "unauthorized") == predict(client)
    assert (401, "unauthorized") == predict(client, authorization=f"Basic {secret}")
    assert (401, "unauthorized") == predict(client, x_api_key="x" * 5000)
    assert (401, 'Bearer realm="Fovea"') == (refused.status_code, refused.headers["www-authenticate"])
    assert secret[:-1] not in refused.text


def test_all_but_health_and_documents_needs_a_key(start: StartGateway, keys: Keys) -> None:
    """Whatever routes there are: each is open by name, or closed, unknown ones included."""
    keys.add("clinic")
    client = start(keys_file=keys.path)
    modules = [importlib.import_module(f"service.gateway.routes.{item.name}") for item in iter_modules(routes.__path__)]
    paths = {route.path for module in modules if hasattr(module, "router") for route in module.router.routes}
    paths = {re.sub(r"\{[^}]*\}", "1", path) for path in paths}
    status = {path: client.get(path, follow_redirects=False).status_code for path in {*paths, "/none", "/v1//predict"}}

    assert len(paths) >= 8
    closed = {path for path, code in status.items() if code == 401}
    assert {path for path in status if path not in OPEN_PATHS and not path.startswith(OPEN_PREFIXES)} == closed
    assert 200 == status["/healthz"] == status["/readyz"] == status["/docs"] == status["/v2/health/ready"]


def test_refused_requests_are_counted_by_route(start: StartGateway, keys: Keys) -> None:
    """And by nothing that the client made up."""
    secret = keys.add("watch", "--rights", "metrics")
    client = start(keys_file=keys.path)
    predict(client)
    client.get("/secret/path")
    text = client.get("/metrics", headers={"x-api-key": secret}).text

    assert 'fovea_requests_total{code="401",method="POST",route="/v1/predict"} 1.0' in text
    assert 'fovea_requests_total{code="401",method="GET",route="unmatched"} 1.0' in text
    assert "secret" not in text


def test_a_key_is_good_for_its_rights_only(start: StartGateway, keys: Keys) -> None:
    """A key for metrics predicts nothing, and the other way round."""
    watch, clinic = keys.add("watch", "--rights", "metrics"), keys.add("clinic")
    client = start(keys_file=keys.path)

    assert (403, "forbidden") == predict(client, x_api_key=watch)
    assert 200 == client.get("/metrics", headers={"authorization": f"Bearer {watch}"}).status_code
    assert 403 == client.get("/metrics", headers={"x-api-key": clinic}).status_code
    assert 403 == client.post("/v2/models/colours/infer", headers={"x-api-key": watch}).status_code
    assert 403 == client.post("/v1/feedback", headers={"x-api-key": clinic}).status_code
    assert 403 == client.delete("/v1/feedback/1", headers={"x-api-key": clinic}).status_code


def test_keys_rotate_without_a_restart(start: StartGateway, keys: Keys) -> None:
    """A new key counts soon, then the old one can go."""
    old = keys.add("old")
    client = start(keys_file=keys.path)
    new = keys.add("new")
    wait_for(client, 200, x_api_key=new)

    assert (200, "") == predict(client, x_api_key=old)
    keys.remove("old")
    wait_for(client, 401, x_api_key=old)
    assert (200, "") == predict(client, x_api_key=new)


def test_key_file_broken_by_hand_locks_nobody_out(
    start: StartGateway, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    """The keys read before stay in force, and the log says what is wrong; a mended file counts."""
    secret = keys.add("clinic")
    client = start(keys_file=keys.path)
    text = keys.path.read_text()
    keys.path.write_text(text[:-5])
    deadline = time.monotonic() + 120
    while "is not a file of keys" not in caplog.text:
        assert (200, "") == predict(client, x_api_key=secret)
        assert time.monotonic() < deadline
    keys.path.unlink()
    while "cannot be read" not in caplog.text:
        assert (200, "") == predict(client, x_api_key=secret)
        assert time.monotonic() < deadline
    keys.path.write_text('{"keys": []}')
    wait_for(client, 401, x_api_key=secret)


def test_expired_key_is_refused(start: StartGateway, keys: Keys) -> None:
    """A key has an end if it was made with one."""
    secret = keys.add("guest", "--days", "1")
    keys.path.write_text(keys.path.read_text().replace('"expires": "2', '"expires": "1'))
    client = start(keys_file=keys.path)

    assert (401, "unauthorized") == predict(client, x_api_key=secret)


def test_gateway_does_not_start_with_keys_that_it_cannot_read(start_gateway: StartGateway, tmp_path: Path) -> None:
    """An open door instead would be the worst of surprises."""
    with pytest.raises(KeyFileError, match="cannot be read"):
        start_gateway(models=("colours",), keys_file=tmp_path / "none.json")


def test_too_many_requests_are_told_when_to_come_back(start: StartGateway, keys: Keys) -> None:
    """Each key has its own allowance; health and metrics are never counted."""
    one, two = keys.add("one", "--rights", "predict,metrics"), keys.add("two")
    client = start(keys_file=keys.path, rate_limit=("1000/minute", "3/hour"))
    statuses = [predict(client, x_api_key=one) for _ in range(4)]
    reply = client.post("/v1/predict", content=encode("red"), headers={"x-api-key": one})

    assert [(200, "")] * 3 + [(429, "rate_limited")] == statuses
    assert "too many requests: the limit is 3 per hour (FOVEA_RATE_LIMIT)" == reply.json()["error"]["message"]
    assert 3000 < int(reply.headers["retry-after"]) <= 3600
    assert (200, "") == predict(client, x_api_key=two)
    assert {200} == {client.get(path).status_code for path in ("/healthz", "/v2/health/live") for _ in range(10)}
    assert {200} == {client.get("/metrics", headers={"x-api-key": one}).status_code for _ in range(10)}


def test_what_retry_after_promises_is_kept() -> None:
    """After that time the same client is let in again, and its refused requests have not counted."""
    limiter = RateLimiter(["8/day", "5/second"])
    with pytest.raises(RateLimitedError) as caught:
        for _ in range(50):
            limiter.check("a")
    limiter.check("b")
    time.sleep(caught.value.retry_after_s or 0)

    assert 1 == caught.value.retry_after_s
    for _ in range(3):
        limiter.check("a")
    with pytest.raises(RateLimitedError, match="the limit is 8 per day"):
        limiter.check("a")


def test_addresses_are_counted_without_keys_and_for_wrong_ones(start: StartGateway, keys: Keys) -> None:
    """Guessing keys is limited too, and does not use up what a real key may send."""
    client = start(rate_limit=("2/hour",))
    assert [200, 200, 429] == [predict(client)[0] for _ in range(3)]

    secret = keys.add("clinic")
    client = start(keys_file=keys.path, rate_limit=("2/hour",))
    assert [401, 401, 429] == [predict(client, x_api_key=f"guess{n}")[0] for n in range(3)]
    assert (200, "") == predict(client, x_api_key=secret)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
    ],
)
def test_an_ipv6_site_is_one_client(address: str, name: str) -> None:
    """The owner of a network has more addresses than there are requests."""
    assert name == name_address(address)
