"""The API page: Swagger UI under the pages' strict policy, every operation shown, requests sent from the page."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Locator, expect

from contract.store import ModelStore
from service.key import main as key_command
from tests.helpers.gateway_process import ServiceProcess, predict
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend
from tests.service.conftest import StartProcess
from tests.service.gateway.web.visit import OpenPage, Visitor, parts_outside

PREDICT = "#operations-Fovea-predict_v1_predict_post"
EXPLAIN = "#operations-Fovea-explain_v1_explain_post"
MODELS = "#operations-Fovea-list_models_v1_models_get"
IMAGE = {"name": "eye.png", "mimeType": "image/png", "buffer": encode("red")}


def open_operation(visitor: Visitor, selector: str) -> Locator:
    """Open one operation and press "Try it out"."""
    operation = visitor.page.locator(selector)
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    return operation


def choose_body(operation: Locator, kind: str) -> None:
    """Choose the media type of the body."""
    operation.locator(".opblock-section-request-body .content-type").select_option(kind)


def execute(operation: Locator) -> tuple[str, str]:
    """Send the request; returns the reply's status and its address."""
    operation.get_by_role("button", name="Execute").click()
    status = operation.locator(".live-responses-table .response-col_status").last
    expect(status).to_have_text("200")
    return status.inner_text(), operation.locator(".request-url pre").inner_text()


def read_reply(operation: Locator) -> Any:
    """Return the JSON of the reply that the page shows."""
    return json.loads(operation.locator(".live-responses-table .highlight-code code").first.inner_text())


def test_every_operation_is_shown_and_nothing_is_loaded_from_elsewhere(open_page: OpenPage, url: str) -> None:
    """With its summary; the policy is that of every page, and blocks nothing."""
    addresses: list[str] = []
    visitor = open_page(url)
    visitor.page.on("request", lambda request: addresses.append(request.url))
    reply = visitor.page.goto(f"{url}/docs")
    assert reply is not None
    policy = fetch_policy(url)
    document = json.loads(httpx2.get(f"{url}/openapi.json", trust_env=False, timeout=60).text)
    operations = [
        (method, path, operation["summary"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    expect(visitor.page.locator(".opblock")).to_have_count(len(operations))
    shown = [
        (
            block.locator(".opblock-summary-method").inner_text().lower(),
            block.locator(".opblock-summary-path").get_attribute("data-path"),
            block.locator(".opblock-summary-description").inner_text(),
        )
        for block in visitor.page.locator(".opblock").all()
    ]

    assert sorted(operations) == sorted(shown)
    assert policy == reply.headers["content-security-policy"]
    assert [] == [address for address in addresses if not address.startswith(url)]


def fetch_policy(url: str) -> str:
    """Return the policy of the page at the root."""
    return str(httpx2.get(url, trust_env=False, timeout=60).headers["content-security-policy"])


def test_descriptions_have_code_samples_and_error_codes(open_page: OpenPage, url: str) -> None:
    """Backticks become code, paragraphs stay apart, shell samples follow, each error has its examples."""
    visitor = open_page(f"{url}/docs")
    operation = visitor.page.locator(PREDICT)
    operation.locator(".opblock-summary-control").click()
    description = operation.locator(".opblock-description")

    expect(description.locator("p code", has_text="error")).to_have_text("error")
    expect(description.locator("pre").first).to_have_text(f"curl --data-binary @eye.jpg {url}/v1/predict")
    expect(description).not_to_contain_text("`")
    expect(operation.get_by_role("option", name="unsupported_image")).to_have_count(1)


def test_operations_are_grouped_and_classifying_comes_first(open_page: OpenPage, url: str) -> None:
    """Fovea's own, TensorFlow Serving's, those of the Open Inference Protocol, administration."""
    page = open_page(f"{url}/docs").page
    expect(page.locator(".opblock-tag a")).to_have_text(
        ["Fovea", "TensorFlow Serving", "Open Inference", "Administration"]
    )
    expect(page.locator(".opblock .opblock-summary-path").first).to_have_attribute("data-path", "/v1/predict")


def test_samples_in_three_languages_are_copied(open_page: OpenPage, url: str) -> None:
    """Each runs as it stands: the address is this service's."""
    visitor = open_page(f"{url}/docs", permissions=["clipboard-read", "clipboard-write"])
    page, operation = visitor.page, visitor.page.locator(MODELS)
    operation.locator(".opblock-summary-control").click()
    copied = {}
    for language in ("curl", "Python", "JavaScript"):
        operation.get_by_role("button", name=language, exact=True).click()
        operation.get_by_role("button", name="Copy", exact=True).click()
        expect(operation.get_by_role("button", name="Copied")).to_be_visible()
        copied[language] = str(page.evaluate("navigator.clipboard.readText()"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(copied["Python"], {})
    asked = page.evaluate(f"async () => {{ {copied['JavaScript'].replace('console.log(', 'return (')} }}")

    assert f"curl {url}/v1/models" == copied["curl"]
    assert ["colours"] == [model["name"] for model in json.loads(printed.getvalue())["models"]]
    assert json.loads(printed.getvalue()) == json.loads(asked)


def test_an_image_is_sent_from_the_page(open_page: OpenPage, url: str) -> None:
    """The reply is the gateway's; fields that were left empty are not sent."""
    visitor = open_page(f"{url}/docs")
    operation = open_operation(visitor, PREDICT)
    choose_body(operation, "image/*")
    operation.locator("input[type=file]").set_input_files([IMAGE])  # type: ignore[list-item]
    _, address = execute(operation)
    headers = visitor.requests[-1].all_headers()

    assert f"{url}/v1/predict" == address
    assert predict(url, encode("red")).json()["predictions"][0]["top"] == read_reply(operation)["predictions"][0]["top"]
    assert not {"x-request-id", "x-request-timeout"} & set(headers)
    expect(operation.locator(".curl-command")).to_contain_text("--data-binary '@eye.png'")


@pytest.mark.parametrize("kind", ["multipart/form-data", "application/json"])
def test_forms_and_json_are_sent_from_the_page(open_page: OpenPage, url: str, kind: str) -> None:
    """A file of a form; the example of the JSON body as it stands there."""
    operation = open_operation(open_page(f"{url}/docs"), PREDICT)
    choose_body(operation, kind)
    if kind == "multipart/form-data":
        operation.locator("input[type=file]").first.set_input_files([IMAGE])  # type: ignore[list-item]
    execute(operation)

    assert ["eye.png"] == [prediction["name"] for prediction in read_reply(operation)["predictions"]]


def test_a_reply_that_is_an_image_is_drawn(open_page: OpenPage, url: str) -> None:
    """On a canvas: the policy allows no blob: address."""
    operation = open_operation(open_page(f"{url}/docs"), EXPLAIN)
    choose_body(operation, "image/*")
    operation.locator("input[type=file]").set_input_files([IMAGE])  # type: ignore[list-item]
    operation.locator(".responses-wrapper .content-type").first.select_option("image/png")
    execute(operation)
    canvas = operation.locator(".live-responses-table canvas")

    expect(canvas).not_to_have_attribute("width", "300")  # a canvas on which nothing was drawn
    alpha = canvas.evaluate("(canvas) => canvas.getContext('2d').getImageData(0, 0, 1, 1).data[3]")
    assert 255 == alpha


def test_the_key_is_sent_where_one_is_needed(
    open_page: OpenPage,
    start_process: StartProcess,
    backend: ScriptedBackend,
    index: ModelStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The page opens without one; Authorize adds it to requests, and it ends with the page. Behind a prefix, too."""
    keys = tmp_path / "keys.json"
    assert 0 == key_command(["add", "me", "--keys", str(keys)])
    secret = capsys.readouterr().out.strip()
    process, url = start_behind_prefix(start_process, backend, index, f"--keys-file={keys}")
    visitor = open_page(f"{url}/fovea/docs")
    operation = open_operation(visitor, MODELS)
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .response-col_status").last).to_contain_text("401")

    visitor.page.get_by_role("button", name="Authorize").first.click()
    dialog = visitor.page.locator(".modal-ux")
    dialog.locator("input").fill(secret)
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").last.click()
    _, address = execute(operation)

    assert f"{url}/fovea/v1/models" == address
    assert "colours" == read_reply(operation)["models"][0]["name"]
    assert "{}" == visitor.page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
    assert secret not in process.log


@pytest.mark.parametrize("path", ["/hidden/docs", "/hidden/docs/"])
def test_a_prefix_that_the_gateway_does_not_know_is_kept(open_page: OpenPage, url: str, path: str) -> None:
    """A proxy takes it off without a word; the page's requests still go through the proxy."""
    with strip_prefix("/hidden", url) as proxy:
        operation = open_operation(open_page(proxy + path), MODELS)

        assert f"{proxy}/hidden/v1/models" == execute(operation)[1]


def test_a_description_that_cannot_be_loaded_is_said(open_page: OpenPage, url: str) -> None:
    """Instead of an empty page."""
    visitor = open_page(url)
    visitor.page.route("**/openapi.json", lambda route: route.fulfill(status=502, body="bad gateway"))
    visitor.page.goto(f"{url}/docs")

    expect(visitor.page.get_by_role("alert")).to_contain_text("answered with status 502. Reload the page to try again.")


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (390, "dark")])
def test_nothing_is_wider_than_a_phone(open_page: OpenPage, url: str, width: int, scheme: str) -> None:
    """With an operation open, in either colour scheme."""
    visitor = open_page(f"{url}/docs", viewport={"width": width, "height": 800}, color_scheme=scheme)
    open_operation(visitor, PREDICT)
    page = visitor.page

    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert [] == parts_outside(page)
    assert (scheme == "dark") == page.evaluate("document.documentElement.classList.contains('dark-mode')")


def start_behind_prefix(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore, *flags: str
) -> tuple[ServiceProcess, str]:
    """Start a gateway whose paths begin with /fovea; returns it and its address without the prefix."""
    arguments = (f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0", "--root-path=/fovea")
    process = start_process("gateway", *arguments, *flags)
    url = process.wait_for_url()
    process.wait_until_ready(url)
    return process, url


@contextlib.contextmanager
def strip_prefix(prefix: str, url: str) -> Iterator[str]:
    """Run a proxy that serves a gateway below a prefix and does not say so; yields the proxy's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path.startswith(prefix), self.path
            reply = httpx2.get(url + self.path.removeprefix(prefix), trust_env=False, timeout=60)
            self.send_response(reply.status_code)
            for name in ("content-type", "content-length", "content-security-policy"):
                if name in reply.headers:
                    self.send_header(name, reply.headers[name])
            self.end_headers()
            self.wfile.write(reply.content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
