"""The documentation site: built whole by its own tools, every link leads somewhere, the search finds pages."""

from __future__ import annotations

import json
import os
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.repository.project import ROOT

SITE = ROOT / "build" / "site"


class Links(HTMLParser):
    """The targets of a page's links and files, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("href", "src") and value is not None:
                self.targets.append(value)
            if key in ("id", "name") and value is not None:
                self.anchors.add(value)


@pytest.fixture(scope="module", name="pages")
def fixture_pages() -> dict[Path, Links]:
    """Every page of the site as `make docs` builds it."""
    # Without the closed proxy that keeps tests off the network: pip is no test.
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(["make", "docs"], cwd=ROOT, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path: Links(path) for path in SITE.rglob("*.html")}


@pytest.mark.slow
def test_every_page_is_there(pages: dict[Path, Links]) -> None:
    """Each Markdown file of docs/ has its page."""
    built = {path.relative_to(SITE).with_suffix("").as_posix().replace("index", "README") for path in pages}
    written = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert written <= built


@pytest.mark.slow
def test_every_link_leads_somewhere(pages: dict[Path, Links]) -> None:
    """Inside the site: the file is there, and its anchor. Nothing is loaded from another host."""
    broken, foreign = [], []
    for path, page in pages.items():
        if path.name == "404.html":  # its links are those of the server's root
            continue
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme in ("http", "https"):
                foreign += [target] if target.endswith((".js", ".css", ".woff2", ".png", ".svg")) else []
                continue
            if parts.scheme:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            file = file / "index.html" if file.is_dir() else file
            known = pages[file].anchors if file in pages else {unquote(parts.fragment)}
            if not file.exists() or unquote(parts.fragment) not in known:
                broken.append((path.relative_to(SITE).as_posix(), target))
    assert broken == []
    assert foreign == []


@pytest.mark.slow
def test_search_knows_the_pages(pages: dict[Path, Links]) -> None:
    """The index that the browser searches has the sections with their text."""
    found = json.loads((SITE / "search" / "search_index.json").read_text())["docs"]
    texts = {entry["location"]: entry["text"] for entry in found}
    assert "fovea_warnings_total" in texts["watch.html#metrics"]
    assert "runbooks.html#foveaerrors" in texts
