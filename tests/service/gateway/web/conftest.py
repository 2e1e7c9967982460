"""Fixtures: Chromium, driven through Playwright, in front of a real gateway and a real model server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.helpers.browser import CHROMIUM
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.server_process import ServerProcess
from tests.service.gateway.web.visit import OpenPage, Visitor

TIMEOUT_MS = 60_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests on machines without a browser."""
    skip = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(skip)


@pytest.fixture(scope="module")  # Playwright's event loop runs as long: no test elsewhere may meet it
def browser() -> Iterator[Browser]:
    """One Chromium for a module; each test has a profile of its own."""
    flags = ["--no-sandbox", "--disable-quic", "--disable-component-update", "--disable-background-networking"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def url(modelserver: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway in front of the shared model server: model `colours`, version 2 live (red, blue, green)."""
    arguments = ["gateway", f"--models-dir={modelserver.store.root}", f"--backend={modelserver.address}", "--port=0"]
    process = ServiceProcess(arguments, tmp_path_factory.mktemp("web-gateway"))
    try:
        address = process.wait_for_url()
        process.wait_until_ready(address)
        yield address
    finally:
        process.stop()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """A function that opens the page in a fresh profile; in the end nothing may have been blocked or thrown."""
    opened: list[Visitor] = []

    def open_one(url: str, *, script: str = "", **options: object) -> Visitor:
        context = browser.new_context(**options)  # type: ignore[arg-type]
        context.add_init_script(script)
        context.set_default_timeout(TIMEOUT_MS)
        opened.append(Visitor(context.new_page(), url))
        return opened[-1]

    yield open_one
    for visitor in opened:
        visitor.page.context.close()
    assert [] == [fault for visitor in opened for fault in visitor.faults]


@pytest.fixture
def visitor(open_page: OpenPage, url: str) -> Visitor:
    """A user who has opened the page on a desktop; the service is ready."""
    person = open_page(url)
    person.expect_state("Ready")
    return person


@pytest.fixture
def page(visitor: Visitor) -> Page:
    """That person's page, for what a `Visitor` does not do."""
    return visitor.page
