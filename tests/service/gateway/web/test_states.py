"""The page without a model, without a key and without the service; and its recovery."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from playwright.sync_api import Locator, expect

from contract.model import ModelContract
from contract.novelty import NoveltyCheck
from contract.store import ModelStore
from service.gateway.access.api_keys import ApiKey, hash_secret, make_secret, write_keys
from tests.helpers.gateway_process import ServiceProcess, fetch
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend, ScriptedVersion, scripted
from tests.helpers.server_process import ServerProcess
from tests.service.conftest import StartProcess, publish_empty
from tests.service.gateway.web.visit import OpenPage


@dataclass(frozen=True)
class Scripted:
    """A gateway that runs for the whole module, and the model server behind it.

    Attributes:
        url: the gateway's.
        version: `colours` 1, whose behaviour each test sets.
    """

    url: str
    version: ScriptedVersion


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    """One gateway process in front of a scripted model server."""
    folder = tmp_path_factory.mktemp("scripted")
    index = ModelStore(folder / "models")
    publish_empty(index)
    with ScriptedBackend(folder / "backend.sock") as backend:
        backend.versions["colours", 1] = scripted()
        arguments = ["gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0"]
        process = ServiceProcess(arguments, folder)
        try:
            yield Scripted(process.wait_for_url(), backend.versions["colours", 1])
        finally:
            process.stop()


@pytest.fixture
def running(shared: Scripted) -> Iterator[Scripted]:
    """The module's gateway, ready, with a model server that behaves until the test says otherwise."""
    shared.version.fault, shared.version.delay_s = None, 0.0
    yield shared
    shared.version.fault, shared.version.delay_s = None, 0.0


def test_it_waits_for_the_first_model_and_then_classifies(
    start_process: StartProcess, backend: ScriptedBackend, tmp_path: Path, open_page: OpenPage
) -> None:
    """Says what is missing and how to get it; an image that was chosen meanwhile is sent when it can be."""
    store = ModelStore(tmp_path / "empty")
    store.ensure()
    arguments = ["gateway", f"--models-dir={store.root}", f"--backend={backend.address}", "--port=0", "--poll-s=0.1"]
    visitor = open_page(start_process(*arguments).wait_for_url())
    visitor.expect_state("Not ready")
    notice = visitor.page.get_by_role("region", name="No model yet")
    expect(notice.get_by_text("python -m pipeline run")).to_be_visible()
    visitor.choose([("eye.png", encode("green"))])
    expect(visitor.card("eye.png").locator(".progress")).to_have_text("Waiting for the service")
    publish_empty(store)

    visitor.expect_answer("eye.png", "Green")
    visitor.expect_state("Ready")
    expect(notice).to_be_hidden()


def test_it_waits_for_a_candidate_to_be_promoted(
    start_process: StartProcess, backend: ScriptedBackend, tmp_path: Path, open_page: OpenPage
) -> None:
    """A model without a live version is no reason to send images; the page says what makes it live."""
    store = ModelStore(tmp_path / "candidates")
    publish_empty(store, live=False)
    arguments = ["gateway", f"--models-dir={store.root}", f"--backend={backend.address}", "--port=0", "--poll-s=0.1"]
    visitor = open_page(start_process(*arguments).wait_for_url())
    visitor.expect_state("Not ready")
    notice = visitor.page.get_by_role("region", name="No live version")
    expect(notice.get_by_text("fovea promote NAME VERSION")).to_be_visible()
    visitor.choose([("eye.png", encode("green"))])
    store.promote("colours")

    visitor.expect_answer("eye.png", "Green")
    visitor.expect_state("Ready")
    expect(notice).to_be_hidden()


def test_a_service_that_is_gone_is_said_and_the_image_can_be_sent_again(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore, open_page: OpenPage
) -> None:
    """A request that dies on its way fails with a reason, the head says so, nothing is shown as an answer."""
    process = start_process("gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0")
    visitor = open_page(process.wait_for_url())
    visitor.expect_state("Ready")
    backend.versions["colours", 1].on_predict = process.kill
    visitor.choose([("eye.png", encode("red"))])
    card = visitor.expect_failure("eye.png", "The service cannot be reached")

    visitor.expect_state("The service does not answer")
    expect(card.locator(".top-label")).to_be_hidden()
    card.get_by_role("button", name="Try again").click()
    expect(card.get_by_role("heading")).to_be_focused()
    expect(card.locator(".progress")).to_have_text("Waiting for the service")


def test_a_busy_service_is_tried_again_as_it_asks(running: Scripted, open_page: OpenPage) -> None:
    """503 with Retry-After: the image waits, and is answered in the end."""
    visitor = open_page(running.url)
    visitor.expect_state("Ready")
    running.version.fault = grpc.StatusCode.RESOURCE_EXHAUSTED
    visitor.choose([("eye.png", encode("blue"))])
    expect(visitor.card("eye.png").locator(".progress")).to_contain_text("The service is busy; again in")
    running.version.fault = None

    visitor.expect_answer("eye.png", "Blue")


def test_a_failing_model_server_is_reported_with_the_request_id(running: Scripted, open_page: OpenPage) -> None:
    """Nothing of its own text reaches the page; the id leads to the log."""
    visitor = open_page(running.url)
    visitor.expect_state("Ready")
    running.version.fault = grpc.StatusCode.INTERNAL
    visitor.choose([("eye.png", encode("blue"))])
    card = visitor.expect_failure("eye.png", "The model failed")

    expect(card.locator(".failure-request")).to_contain_text("Request ")
    expect(card).not_to_contain_text("secret")


def test_a_key_is_asked_for_refused_kept_and_forgotten(
    modelserver: ServerProcess, start_process: StartProcess, tmp_path: Path, open_page: OpenPage
) -> None:
    """One question for all images; a wrong key is asked for again; the right one stays in this tab alone."""
    secret = make_secret()
    write_keys(tmp_path / "keys.json", [ApiKey(name="me", sha256=hash_secret(secret), created=datetime.now(UTC))])
    arguments = ["gateway", f"--models-dir={modelserver.store.root}", f"--backend={modelserver.address}", "--port=0"]
    visitor = open_page(start_process(*arguments, f"--keys-file={tmp_path / 'keys.json'}").wait_for_url())
    page = visitor.page
    visitor.expect_state("Ready")
    expect(page.get_by_role("region", name="This service asks for a key")).to_be_visible()
    visitor.choose([(f"{i}.png", encode("red")) for i in range(3)])
    dialog = page.get_by_role("dialog", name="A key is needed")
    expect(dialog.get_by_label("Key")).to_be_focused()
    dialog.get_by_label("Key").fill("guessed")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_have_text("The service refused that key.")
    dialog.get_by_label("Key").fill(secret)
    dialog.get_by_role("button", name="Use the key").click()
    for i in range(3):
        visitor.expect_answer(f"{i}.png", "Red")

    expect(page.get_by_role("region", name="This service asks for a key")).to_be_hidden()
    assert secret == page.evaluate("sessionStorage.getItem('fovea-key')")
    assert 0 == page.evaluate("localStorage.length") == page.evaluate("document.cookie.length")
    page.reload()
    visitor.choose([("kept.png", encode("red"))])
    visitor.expect_answer("kept.png", "Red")
    page.get_by_role("button", name="Forget the key").click()
    visitor.choose([("asked.png", encode("red"))])
    dialog.get_by_role("button", name="Cancel").click()
    visitor.expect_failure("asked.png", "A key is needed")
    assert page.evaluate("sessionStorage.getItem('fovea-key')") is None


def test_several_models_can_be_chosen_from(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore, open_page: OpenPage
) -> None:
    """Each answer says by which model it is."""
    publish_empty(index, "other")
    backend.versions["other", 1] = scripted("permuted")
    arguments = ["gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0"]
    visitor = open_page(start_process(*arguments).wait_for_url())
    visitor.expect_state("Ready")
    visitor.page.get_by_label("Model", exact=True).select_option("other")
    visitor.choose([("a.png", encode("red"))])
    by_other = visitor.expect_answer("a.png", "Red")
    visitor.page.get_by_label("Model", exact=True).select_option("colours")
    visitor.choose([("b.png", encode("red"))])
    by_colours = visitor.expect_answer("b.png", "Red")

    expect(by_other.locator(".origin")).to_contain_text("Model other, version 1")
    expect(by_colours.locator(".origin")).to_contain_text("Model colours, version 1")


def test_a_version_with_fewer_classes_may_become_live_at_any_time(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore, open_page: OpenPage
) -> None:
    """The page's earlier choice does not fit any more; the new version answers the image all the same."""
    process = start_process("gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0")
    url = process.wait_for_url()
    visitor = open_page(url)
    expect(visitor.page.locator("#about-list")).to_contain_text("Blue, Green and Red")
    document = dict(backend.versions["colours", 1].contract.document)
    document["labels"] = document["labels"][:2]
    certain = np.array([[0.75, 0.25]], np.float32)
    two_classes = ModelContract.from_document(document)
    backend.versions["colours", 2] = ScriptedVersion(two_classes, answer=lambda images: certain.repeat(len(images), 0))
    publish_empty(index)
    deadline = time.monotonic() + 120
    while (reply := fetch(f"{url}/readyz")) is None or '"colours":2' not in reply.text:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    visitor.choose([("eye.png", encode("red"))])

    card = visitor.expect_answer("eye.png", "Blue")
    expect(card.locator(".bars li")).to_have_count(2)


def test_labels_decisions_and_warnings_are_text(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore, open_page: OpenPage
) -> None:
    """A label with markup in it is shown as it is written; thresholds are said in words."""
    hostile = "<img src=x onerror=alert(1)>"
    document = dict(backend.versions["colours", 1].contract.document)
    document["labels"] = [{**label, "name": f"{label['name']} {hostile}"} for label in document["labels"]]
    document["operating_points"] = [{"label": "red", "threshold": 0.4, "sensitivity": 0.95, "specificity": 0.81}]
    # No picture is like these.
    document["baseline"] = NoveltyCheck(np.zeros(14, np.float32), np.eye(14, dtype=np.float32), 1e-3).document()
    backend.versions["colours", 1] = ScriptedVersion(ModelContract.from_document(document))
    arguments = ["gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0"]
    visitor = open_page(start_process(*arguments).wait_for_url())
    visitor.expect_state("Ready")
    visitor.choose([(f"{hostile}.png", encode("red"))])
    card = visitor.expect_answer(f"{hostile}.png", f"Red {hostile}")

    assert 0 == visitor.page.locator("main img").count()
    expect(card.locator(".decision li")).to_have_text(
        re.compile(
            rf"Called: Red {re.escape(hostile)}.* is not below the threshold of 40.0 %. "
            "On test images it found 95 % of this class and left alone 81 % of the others."
        )
    )
    expect(card.locator(".warnings li")).to_contain_text("unlike the images that the model was trained on")
    # The warning is the headline: it stands above the class, in the largest type, and the answer is grey.
    warning, answer = card.locator(".warnings strong"), card.locator(".top-label")
    expect(warning).to_have_text("Unlike the training images")
    assert vertical_place(warning) < vertical_place(answer)
    sizes = [font_size(card.locator(place).first) for place in (".top-label", ".bars data", ".bars span")]
    assert font_size(warning) > 1.4 * max(sizes)
    assert [color_of(answer)] == [color_of(place) for place in card.locator(".bars li").all()[:1]]
    red, green, blue, *_ = card.locator(".track span").first.evaluate(CHANNELS)
    assert max(red, green, blue) - min(red, green, blue) < 40
    expect(visitor.page.locator("#about-list")).to_contain_text(hostile)


CHANNELS = "(e) => getComputedStyle(e).backgroundColor.match(/[0-9.]+/g).map(Number)"


def font_size(place: Locator) -> float:
    """Return the size of an element's type in CSS pixels."""
    return float(place.evaluate("(e) => parseFloat(getComputedStyle(e).fontSize)"))


def color_of(place: Locator) -> str:
    """Return the colour of an element's type."""
    return str(place.evaluate("(e) => getComputedStyle(e).color"))


def vertical_place(place: Locator) -> float:
    """Return the distance of an element from the top of the window."""
    return float(place.evaluate("(e) => e.getBoundingClientRect().top"))


def test_no_more_than_two_images_are_sent_at_once(running: Scripted, open_page: OpenPage) -> None:
    """The rest waits in the browser, and a removed image is never sent."""
    visitor = open_page(running.url)
    visitor.expect_state("Ready")
    with running.version.held():
        visitor.choose([(f"{i}.png", encode("red")) for i in range(5)])
        expect(visitor.page.locator(".card[data-state=sending]")).to_have_count(2)
        expect(visitor.page.locator(".card[data-state=waiting]")).to_have_count(3)
        visitor.page.get_by_role("button", name="Remove 4.png").click()
    for i in range(4):
        visitor.expect_answer(f"{i}.png", "Red")

    assert 4 == len([request for request in visitor.requests if "/v1/predict" in request.url])


def test_versions_are_chosen_and_compared_on_one_picture(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore, open_page: OpenPage
) -> None:
    """The candidate answers when it is chosen; a card asks each version, and marks another class."""
    document = dict(backend.versions["colours", 1].contract.document)
    document["provenance"] = {"metrics": {"accuracy": 0.9, "accuracy_interval": [0.85, 0.94], "images": 120}}
    document["input"] = {**document["input"], "width": 8}
    always_green = np.array([[0.1, 0.8, 0.1]], np.float32)
    backend.versions["colours", 2] = ScriptedVersion(
        ModelContract.from_document(document), answer=lambda images: always_green.repeat(len(images), 0)
    )
    publish_empty(index, live=False)
    arguments = ["gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0"]
    visitor = open_page(start_process(*arguments).wait_for_url())
    page = visitor.page
    expect(page.get_by_label("Version", exact=True).locator("option")).to_have_text(
        ["live, version 1", "candidate, version 2"]
    )
    page.get_by_label("Version", exact=True).select_option("candidate")
    about = page.locator("#about-list")
    expect(about).to_contain_text("90.0 % of 120 test images, 95 % interval 85.0 % to 94.0 %")
    expect(about).not_to_contain_text("pixels")
    expect(page.locator("#about-details")).to_be_hidden()
    page.locator("#about .more summary").click()
    expect(page.locator("#about-details")).to_contain_text("8 × 16 pixels in colour")
    expect(page.locator("#about-details")).to_contain_text("sha256:")
    visitor.choose([("eye.png", encode("blue"))])
    card = visitor.expect_answer("eye.png", "Green")
    expect(card.locator(".origin")).to_have_text("Model colours, version 2")

    card.get_by_role("button", name="Compare versions").click()
    rows = card.locator(".versions-rows tr")
    expect(rows).to_have_count(2)
    expect(rows.locator("th")).to_have_text(["live, version 1", "candidate, version 2"])
    expect(rows.locator("td:nth-child(2)")).to_have_text(["Blue", "Green"])
    expect(rows.nth(1)).to_contain_text("Another class")


def test_about_says_that_the_candidate_is_tried(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore, open_page: OpenPage
) -> None:
    """Shares and what the gateway found; without a trial there is no such line."""
    backend.versions["colours", 2] = scripted("permuted")
    publish_empty(index, live=False)
    trial = index.set_trial_share("colours", "canary", 0.5).trial
    assert trial is not None
    index.stop_canary("colours", trial, "errors: 3 of the last 3 calls failed")
    index.set_trial_share("colours", "shadow", 1)
    arguments = ["gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0"]
    url = start_process(*arguments).wait_for_url()
    visitor = open_page(url)
    about = visitor.page.locator("#about-list")
    expect(about).to_contain_text("Candidate on trial")
    expect(about).to_contain_text(
        "Version 2: is asked 100.0 % of the requests too; canary stopped by errors: 3 of the last 3 calls failed"
    )
    visitor.choose([("eye.png", encode("blue"))])
    card = visitor.expect_answer("eye.png", "Blue")
    expect(card.locator(".origin")).to_have_text("Model colours, version 1")
    deadline = time.monotonic() + 120
    while not _found(url).get("shadow", {}).get("images"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    visitor.page.reload()
    expect(about).to_contain_text("same class in 100.0 % of 1 images")

    index.promote("colours")
    while _found(url):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    visitor.page.reload()
    expect(about).to_contain_text("Classes")
    expect(about).not_to_contain_text("trial")


def _found(url: str) -> dict[str, Any]:
    """Return what the gateway found in the trial of `colours`."""
    reply = fetch(f"{url}/v1/models")
    assert reply is not None
    found: dict[str, Any] = reply.json()["models"][0].get("trial", {}).get("found", {})
    return found
