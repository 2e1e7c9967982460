"""Headless Chromium for tests of pages: what a page measures, and pictures of it."""

import functools
import http.server
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# A frame of the wanted width: Chromium's own window is never narrower than 500 pixels.
_FRAME = """<!doctype html><body style="margin:0">
<iframe id="f" src="{page}" style="border:0;width:{width}px;height:{height}px"></iframe>
<script>document.getElementById("f").onload = (event) => {{
  const page = event.target.contentDocument.scrollingElement;
  document.title = `${{page.scrollWidth}} ${{page.clientWidth}} ${{page.scrollHeight}}`;
}}</script>"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; yields the URL."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)


def run_chromium(url: str, *flags: str) -> str:
    """Run headless Chromium on one page and return what it printed."""
    if CHROMIUM is None:
        raise RuntimeError("chromium is not installed")
    with tempfile.TemporaryDirectory() as profile:
        command = [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=10000",
            *flags,
            url,
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def measure_page(page: Path, *, width: int, height: int = 800) -> tuple[int, int, int]:
    """Return a page's scroll width, the width it has, and its scroll height, at a screen's width in CSS pixels."""
    frame = page.with_name(f"frame-{width}.html")
    frame.write_text(_FRAME.format(page=page.name, width=width, height=height))
    try:
        with serve_folder(page.parent) as url:
            dom = run_chromium(f"{url}/{frame.name}", "--dump-dom")
    finally:
        frame.unlink()
    found = re.search(r"<title>(\d+) (\d+) (\d+)</title>", dom)
    if found is None:
        raise RuntimeError(f"the page did not load:\n{dom[:500]}")
    return int(found[1]), int(found[2]), int(found[3])
