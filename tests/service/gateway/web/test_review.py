"""From a correction on a card and a queued folder, over the review page, to a retrained model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from contract.heatmap import encode_png
from contract.store import ModelStore
from service.key import main as key_command
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.pictures import COLOURS, encode
from tests.helpers.server_process import ServerProcess
from tests.service.gateway.web.visit import OpenPage, Visitor, parts_outside


@dataclass(frozen=True)
class Desk:
    """A gateway that takes feedback.

    Attributes:
        url: its address.
        folder: where the images go.
        key: with the rights predict, feedback and review.
        process: the gateway.
    """

    url: str
    folder: Path
    key: str
    process: ServiceProcess


@pytest.fixture
def desk(modelserver: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    """In front of the shared model server, with keys."""
    keys = tmp_path / "keys.json"
    assert 0 == key_command(["add", "me", "--keys", str(keys), "--rights", "predict,feedback,review"])
    key, folder = capsys.readouterr().out.strip(), tmp_path / "feedback"
    arguments = [f"--models-dir={modelserver.store.root}", f"--backend={modelserver.address}", "--port=0"]
    process = ServiceProcess(["gateway", *arguments, f"--feedback-dir={folder}", f"--keys-file={keys}"], tmp_path)
    try:
        url = process.wait_for_url()
        process.wait_until_ready(url)
        yield Desk(url, folder, key, process)
    finally:
        process.stop()


def enter_key(page: Page, key: str) -> None:
    """Answer the page's question for a key."""
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use the key").click()


def correct(card: Locator, label: str) -> None:
    """Say on a card what its class is."""
    card.get_by_text("Wrong?").click()
    card.get_by_label("The right class is").select_option(label)
    card.get_by_label("The person who may consent").check()
    card.get_by_role("button", name="Send the correction").click()
    expect(card.locator(".correction-state")).to_have_text("Kept for review and the next training.")


def tinted(channel: int, *, seed: int) -> bytes:
    """Return a PNG of noise that is mostly of one colour."""
    pixels = np.random.default_rng(seed + 100 * channel).integers(0, 90, (48, 48, 3))
    pixels[..., channel] += 120
    return encode_png(pixels.astype(np.uint8))


def kept(folder: Path) -> list[str]:
    """Return the classes' folders with the number of their images."""
    return sorted(f"{path.name} {len(list(path.iterdir()))}" for path in (folder / "colours").glob("*"))


def test_a_correction_is_kept_reviewed_and_taken_back(open_page: OpenPage, desk: Desk) -> None:
    """Without consent nothing is sent; the review needs the key and shows the most doubtful image first."""
    visitor = open_page(desk.url)
    enter_key_on_first_image(visitor, desk.key)
    card = visitor.card("a.png")
    card.get_by_text("Wrong?").click()
    card.get_by_role("button", name="Send the correction").click()
    expect(card.locator(".correction-state")).to_have_text("Consent is needed: tick the box.")
    assert not desk.folder.joinpath("colours").exists()
    card.get_by_text("Wrong?").click()
    correct(card, "Blue")
    assert ["blue 1"] == kept(desk.folder)
    card.get_by_role("button", name="Take it back").click()
    expect(card.locator(".correction-state")).to_have_text("Taken back.")
    assert [] == kept(desk.folder)
    card.get_by_role("button", name="Send the correction").click()
    expect(card.get_by_role("button", name="Take it back")).to_be_visible()

    page = visitor.page
    page.get_by_role("link", name="Review").click()
    entry = page.get_by_role("listitem").filter(has_text="Labelled Blue")
    expect(entry.locator(".facts")).to_contain_text("says Red")
    expect(entry.locator(".picture")).not_to_have_attribute("width", "4")
    entry.get_by_label("Class").select_option("Red")
    entry.get_by_role("button", name="Correct").click()
    expect(page.locator("#total")).to_have_text("Nothing here.")
    assert ["red 1"] == kept(desk.folder)
    assert desk.key not in page.url
    assert desk.key not in desk.process.log


def enter_key_on_first_image(visitor: Visitor, key: str) -> None:
    """Send an image; the page asks for the key."""
    visitor.expect_state("Ready")
    visitor.choose([("a.png", encode("red"))])
    enter_key(visitor.page, key)
    visitor.expect_answer("a.png", "Red")


def test_review_page_fits_a_phone_and_axe_finds_nothing(open_page: OpenPage, desk: Desk) -> None:
    """Empty, refused, and with an image; a bad file among the queued says why."""
    visitor = open_page(f"{desk.url}/review", bypass_csp=True, viewport={"width": 320, "height": 800})
    page = visitor.page
    enter_key(page, desk.key)
    expect(page.locator("#total")).to_have_text("Nothing here.")
    files = [
        {"name": "<b>x</b>.png", "mimeType": "image/png", "buffer": b"no image"},
        {"name": "green.png", "mimeType": "image/png", "buffer": encode("green")},
    ]
    page.get_by_label("Choose images").set_input_files(files)  # type: ignore[arg-type]
    expect(page.get_by_role("alert").first).to_contain_text("Consent is needed")
    page.get_by_label("The person who may consent").check()
    page.get_by_label("Choose images").set_input_files(files)  # type: ignore[arg-type]
    expect(page.locator("#queued")).to_contain_text("1 image queued, 1 refused (<b>x</b>.png: ")
    expect(page.get_by_role("heading", name="No label yet")).to_be_visible()
    found = Axe().run(page)

    assert 0 == found.violations_count, found.generate_report()
    assert 320 == page.evaluate("document.documentElement.scrollWidth")
    assert [] == parts_outside(page)
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#total")).to_have_text("Nothing here.")


@pytest.mark.slow
def test_corrections_and_a_queued_folder_become_a_retrained_model(
    open_page: OpenPage, desk: Desk, tmp_path: Path
) -> None:
    """Active learning's loop: queue a folder, label it, add corrections, train; the new version has the classes."""
    from pipeline.__main__ import main as pipeline_command

    visitor = open_page(desk.url)
    enter_key_on_first_image(visitor, desk.key)
    correct(visitor.card("a.png"), "Red")
    page = visitor.page
    page.goto(f"{desk.url}/review")
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    for colour in COLOURS:
        for i in range(12):
            (incoming / f"{colour}-{i}.png").write_bytes(tinted(COLOURS.index(colour), seed=i))
    page.get_by_label("The person who may consent").check()
    page.get_by_label("Choose a folder").set_input_files(incoming)
    expect(page.locator("#queued")).to_have_text("36 images queued.")
    for _ in range(37):
        place = page.locator(".entry").first.get_by_label("Class").get_attribute("id")
        page.locator(".entry").first.get_by_role("button", name="Accept").click()
        expect(page.locator(f"#{place}")).to_have_count(0)
    expect(page.locator("#total")).to_have_text("Nothing here.")
    assert ["blue 12", "green 12", "red 13"] == kept(desk.folder)
    store = ModelStore(tmp_path / "models")
    arguments = ["run", str(desk.folder / "colours"), "--recipe", "demo", "--set", "train.epochs=2"]
    folders = ["--models-dir", str(store.root), "--runs-dir", str(tmp_path / "runs")]
    assert 0 == pipeline_command([*arguments, "--set", "data.allow_leakage=true", *folders])

    labels = store.read_contract("colours", 1).labels
    assert ["blue", "green", "red"] == [label.id for label in labels]
