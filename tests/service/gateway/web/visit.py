"""A user in front of the page: actions, and what the page shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Locator, Page, Request, expect

TIMEOUT_MS = 60_000
# What Chromium writes to the console when the policy stops something.
_BLOCKED = re.compile(r"content security policy|trusted(script|html| type)|refused to", re.I)

expect.set_options(timeout=TIMEOUT_MS)


_OUTSIDE = """() => {
  const screen = document.documentElement.clientWidth;
  const style = (e) => getComputedStyle(e);
  const scrolls = (e) => e && e !== document.body
    && (/auto|scroll/.test(style(e).overflowX) || scrolls(e.parentElement));
  const shown = (e) => {
    const box = e.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && style(e).visibility === "visible" && !e.closest("svg");
  };
  const cut = (e) => /hidden|clip/.test(style(e).overflowX) && style(e).textOverflow !== "ellipsis"
    && e.innerText && e.scrollWidth > e.clientWidth + 1;
  const outside = (e) => {
    const box = e.getBoundingClientRect();
    return box.right > screen + 1 || box.left < -1;
  };
  return [...document.body.querySelectorAll("*")]
    .filter((e) => shown(e) && ((outside(e) && !scrolls(e.parentElement)) || cut(e)))
    .map((e) => `${e.tagName.toLowerCase()}#${e.id}.${e.className}: ${(e.innerText || "").slice(0, 60)}`);
}"""


def parts_outside(page: Page) -> list[str]:
    """Return visible elements that stick out of the screen, or whose text is cut; boxes that scroll may hold such."""
    found: list[str] = page.evaluate(_OUTSIDE)
    return found


class Visitor:
    """A person with a browser.

    Args:
        page: a blank page of a fresh profile.
        url: the gateway's.

    Attributes:
        faults: what the policy blocked, and errors that no code caught.
        requests: those to /v1/, in their order.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.faults: list[str] = []
        self.requests: list[Request] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", self._see)
        page.goto(url)

    def expect_state(self, text: str) -> None:
        """Wait until the head says how the service is."""
        expect(self.page.locator("#state-text")).to_have_text(text)

    def wait_until_shown(self) -> None:
        """Wait until what fades in or moves to its place is there; what moves without end goes on."""
        self.page.evaluate(
            "Promise.all(document.getAnimations().filter((a) => a.effect.getComputedTiming().endTime < 1e5)"
            ".map((a) => a.finished.catch(() => null)))"
        )

    def choose(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Choose files by name and contents in the browser's dialog."""
        payload: Any = [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in files]
        self.page.get_by_label("Choose images").set_input_files(payload)

    def drop(self, paths: Sequence[Path]) -> None:
        """Drag files and folders onto the page and let go, as from a file manager."""
        session = self.page.context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})
        session.detach()

    def card(self, name: str) -> Locator:
        """Return what the page shows of one image."""
        return self.page.get_by_role("listitem").filter(has=self.page.get_by_role("heading", name=name, exact=True))

    def expect_answer(self, name: str, label: str) -> Locator:
        """Wait for an image's most probable class; returns its card."""
        card = self.card(name)
        expect(card.locator(".top-label")).to_have_text(label)
        return card

    def expect_failure(self, name: str, title: str) -> Locator:
        """Wait until an image's card says what went wrong; returns the card."""
        card = self.card(name)
        expect(card.locator(".failure-title")).to_have_text(title)
        return card

    def sizes_sent(self, path: str) -> list[int]:
        """Return the bytes of the bodies of the requests to a path; Chromium does not show files themselves."""
        return [int(request.all_headers()["content-length"]) for request in self.requests if path in request.url]

    def _hear(self, message: ConsoleMessage) -> None:
        if _BLOCKED.search(message.text):
            self.faults.append(message.text)

    def _see(self, request: Request) -> None:
        if "/v1/" in request.url:
            self.requests.append(request)


OpenPage = Callable[..., Visitor]
