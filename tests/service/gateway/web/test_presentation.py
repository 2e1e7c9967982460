"""The page on phones, in dark mode, with keyboards, screen readers and reduced motion."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import FileChooser, Page, expect

from contract.model import ModelContract, canonical_json
from contract.store import CONTRACT_FILE, ModelStore
from tests.conftest import StartModelServer
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.pictures import encode
from tests.service.gateway.web.visit import OpenPage, Visitor, parts_outside

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


def fill(visitor: Visitor) -> None:
    """Bring the page into a state that has everything in it: answer, heat map, failure, facts about the model."""
    visitor.choose([("a_long_name_without_any_space_" * 4 + ".png", encode("red")), ("bad.png", b"no image")])
    card = visitor.expect_answer("a_long_name_without_any_space_" * 4 + ".png", "Red")
    visitor.expect_failure("bad.png", "This format is not read")
    card.get_by_role("button", name="Show heat map").click()
    expect(card.get_by_label("Strength")).to_be_visible()


def wait_for(page: Page, condition: Callable[[], bool], *, timeout_s: float = 120.0) -> None:
    """Wait until something is true that no locator shows."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        page.wait_for_timeout(50)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(open_page: OpenPage, url: str, scheme: str) -> None:
    """Names, roles, contrast and structure, empty and full, by day and by night."""
    # Axe is put into the page, which the page's own policy would refuse.
    visitor = open_page(url, bypass_csp=True, color_scheme=scheme)
    visitor.expect_state("Ready")
    empty = Axe().run(visitor.page)
    fill(visitor)
    visitor.wait_until_shown()
    full = Axe().run(visitor.page)

    assert (0, 0) == (empty.violations_count, full.violations_count), full.generate_report()
    assert len(full.response["passes"]) > 10


@pytest.mark.parametrize("width", [320, pytest.param(360, marks=pytest.mark.slow)])
def test_nothing_is_wider_than_the_screen(open_page: OpenPage, url: str, width: int) -> None:
    """A phone scrolls in one direction, also with a long file name; the notice stays in sight."""
    visitor = open_page(url, **{**PHONE, "viewport": {"width": width, "height": 740}})
    visitor.expect_state("Ready")
    fill(visitor)
    visitor.page.mouse.wheel(0, 5000)

    assert width == visitor.page.evaluate("document.documentElement.scrollWidth")
    assert [] == parts_outside(visitor.page)
    expect(visitor.page.get_by_text("Not a medical device.")).to_be_in_viewport()


def test_notice_follows_the_models_recipe(
    open_page: OpenPage, tiny_models: dict[str, Path], start_modelserver: StartModelServer, tmp_path: Path
) -> None:
    """It is shown unless the chosen model's recipe says that its images are not medical."""
    store = ModelStore(tmp_path / "models")
    for name, medical in (("eyes", True), ("shapes", False)):
        with store.staging() as directory:
            shutil.copytree(tiny_models["plain"], directory, dirs_exist_ok=True)
            contract = dict(ModelContract.from_json((directory / CONTRACT_FILE).read_bytes()).document)
            contract["provenance"] = {"recipe": {"evaluate": {"card": {"medical": medical}}}}
            (directory / CONTRACT_FILE).write_text(canonical_json(contract))
            store.publish(name, directory)
    server = start_modelserver(store)
    gateway = ServiceProcess(
        ["gateway", f"--models-dir={store.root}", f"--backend={server.address}", "--port=0"], tmp_path
    )
    try:
        address = gateway.wait_for_url()
        gateway.wait_until_ready(address)
        visitor = open_page(address)
        visitor.expect_state("Ready")
        notice = visitor.page.get_by_text("Not a medical device.")
        for name, medical in (("shapes", False), ("eyes", True), ("shapes", False)):
            visitor.page.locator("#model").select_option(name)
            expect(notice).to_be_visible(visible=medical)
    finally:
        gateway.stop()


def test_a_phone_offers_its_camera_and_a_desktop_does_not(open_page: OpenPage, url: str) -> None:
    """With a finger: a button that opens the camera. With a mouse: a place to drop files on."""
    phone, desktop = open_page(url, **PHONE), open_page(url)

    expect(phone.page.get_by_text("Take a photo")).to_be_visible()
    expect(phone.page.get_by_label("Take a photo")).to_have_attribute("capture", "environment")
    expect(phone.page.get_by_text("Drop images here")).to_be_hidden()
    expect(desktop.page.get_by_text("Take a photo")).to_be_hidden()
    expect(desktop.page.get_by_text("Drop images here")).to_be_visible()


def test_it_is_dark_where_people_want_that(open_page: OpenPage, url: str) -> None:
    """The ground is dark and the ink light, or the other way round."""
    grounds = {}
    for scheme in ("light", "dark"):
        body = open_page(url, color_scheme=scheme).page.locator("body")
        color = body.evaluate("(body) => [getComputedStyle(body).backgroundColor, getComputedStyle(body).color]")
        grounds[scheme] = [sum(map(int, re.findall(r"\d+", value)[:3])) / 3 for value in color]

    assert grounds["light"][0] > 230 > 60 > grounds["light"][1]
    assert grounds["dark"][0] < 40 < 200 < grounds["dark"][1]


def test_nothing_moves_for_people_who_asked_for_that(open_page: OpenPage, url: str) -> None:
    """prefers-reduced-motion leaves no animation running."""
    visitor = open_page(url, reduced_motion="reduce")
    visitor.expect_state("Ready")
    fill(visitor)

    assert 0 == visitor.page.evaluate("document.getAnimations().length")


def test_everything_can_be_done_with_a_keyboard(visitor: Visitor) -> None:
    """Tab reaches every control with a visible ring; Enter and arrows work them; focus is not lost on removal."""
    page = visitor.page
    choosers: list[FileChooser] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    expect(page.get_by_label("Version", exact=True)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Version", exact=True)).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="API")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Choose images")).to_be_focused()
    ring = page.locator("label[for=choose]").evaluate("(label) => getComputedStyle(label).outlineStyle")
    assert "solid" == ring
    page.keyboard.press("Enter")
    wait_for(page, lambda: len(choosers) == 1)
    choosers[0].set_files([{"name": "a.png", "mimeType": "image/png", "buffer": encode("red")}])
    card = visitor.expect_answer("a.png", "Red")
    card.get_by_role("button", name="Show heat map").focus()
    page.keyboard.press("Enter")
    slider = card.get_by_role("slider", name="Strength")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(slider).to_have_value("75")
    card.get_by_role("button", name="Remove a.png").focus()
    page.keyboard.press("Enter")

    expect(page.get_by_label("Choose images")).to_be_focused()


def test_screen_readers_hear_each_outcome(visitor: Visitor) -> None:
    """A polite live region names the image and what became of it."""
    visitor.choose([("a.png", encode("blue"))])
    expect(visitor.page.locator("#announcer[aria-live=polite]")).to_have_text(
        re.compile(r"^a\.png: most probable Blue, .+ %$")
    )
    visitor.choose([("b.png", b"no image")])
    expect(visitor.page.locator("#announcer")).to_have_text("b.png: This format is not read")
