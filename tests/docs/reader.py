"""A person who follows a page: types every block in a folder like the project's, one after the other."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
from playwright._impl._driver import compute_driver_executable

from tests.docs.blocks import Block, shape_of
from tests.helpers.traffic import wait_until
from tests.repository.project import LOCKS, PACKAGES, ROOT

ADDRESS = "127.0.0.1:8000"  # as the pages have it
_READY = re.compile(r"Fovea is ready: https?://(?P<address>\S+) ")
_LISTENING = re.compile(r"listening on (https?://(?P<address>[^\s,]+)|\S+)")
LANGUAGES = {"sh": ["bash", "-euo", "pipefail"], "python": [sys.executable, "-"], "js": ["node", "--input-type=module"]}
_TIMEOUT_S = 900


class Reader:
    """Runs blocks in a folder that has the project's packages and its own models, runs and datasets.

    Args:
        folder: empty or not; the packages are linked into it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._address: str | None = None
        self._servers: list[subprocess.Popen[bytes]] = []
        self._printed = ""
        for name in (*PACKAGES, *LOCKS):
            (folder / name).symlink_to(ROOT / name)

    def follow(self, blocks: list[Block]) -> None:
        """Do what the blocks say.

        Raises:
            AssertionError: if a block fails, or prints something of another shape than the page shows.
        """
        for block in blocks:
            if block.elsewhere is not None:
                continue
            if block.mark == "output":
                self._compare(block)
            elif block.mark.endswith("server"):
                if block.mark == "server":
                    self.stop()
                self._start(block)
            elif block.language in LANGUAGES:
                self._run(block)

    def wait_for(self, path: str, body: bytes) -> None:
        """Post until it is answered: a service is ready with its live version, and others may still load."""
        wait_until(lambda: httpx2.post(f"http://{self._address}{path}", content=body, timeout=60).status_code == 200)

    def stop(self) -> None:
        """Stop the servers that blocks started, the last one first."""
        while self._servers:
            server = self._servers.pop()
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(90)
            finally:
                if server.poll() is None:
                    os.killpg(server.pid, signal.SIGKILL)
                    server.wait(30)

    def _run(self, block: Block) -> None:
        assert block.language in LANGUAGES, f"{block.where}: no test runs {block.language}"
        done = subprocess.run(
            LANGUAGES[block.language],
            input=self._with_address(block.text),
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{block.where}:\n{block.text}\n{done.stdout}\n{done.stderr}"
        self._printed = done.stdout

    def _compare(self, block: Block) -> None:
        expected, actual = shape_of(json.loads(block.text)), shape_of(json.loads(self._printed))
        assert expected == actual, f"{block.where}: the reply is\n{self._printed}"

    def _start(self, block: Block) -> None:
        """Start a server and wait until it is ready, or listens if it is only a part of the service."""
        log = self.folder / f"server{len(self._servers)}.log"
        with log.open("wb") as out:
            # Any free port: 8000 may be taken on the machine that runs the tests.
            environment = {**self._environment(), "FOVEA_PORT": "0"}
            command = ["bash", "-euc", f"exec {block.text.strip()}"]
            server = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=out, stderr=out, start_new_session=True
            )
        self._servers.append(server)
        pattern = _READY if "service up" in block.text else _LISTENING
        deadline = time.monotonic() + 300
        while (found := pattern.search(log.read_text())) is None:
            assert server.poll() is None, f"{block.where}: it ended:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"{block.where}: not ready:\n{log.read_text()}"
            time.sleep(0.05)
        self._address = found["address"] or self._address

    def _with_address(self, text: str) -> str:
        """Return a block as it has to be where the service has another port."""
        if self._address is None:
            return text
        text = re.sub(r"(-m service predict)(?!.*--url)", rf"\1 --url http://{self._address}", text)
        return text.replace(ADDRESS, self._address)

    def _environment(self) -> dict[str, str]:
        node, _ = compute_driver_executable()  # Playwright brings one, for machines that have none
        programs = [str(Path(sys.executable).parent), os.environ["PATH"], str(Path(node).parent)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FOVEA_", "COVERAGE_"))}
        return {**kept, "PATH": os.pathsep.join(programs), "PYTHONWARNINGS": "ignore", "TF_CPP_MIN_LOG_LEVEL": "3"}
