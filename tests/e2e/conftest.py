"""`make demo`, once: what a newcomer runs is what these tests judge."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contract.store import ModelStore
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.shared import build_once
from tests.repository.project import PACKAGES, ROOT

DEMO_TIMEOUT_S = 1200


@dataclass(frozen=True)
class Demo:
    """A finished demo.

    Attributes:
        home: the copy of the project that it ran in.
        project: a copy of that folder, with its datasets/, models/ and runs/.
        output: what it printed.
        reply: the JSON reply that it printed.
    """

    home: Path
    project: Path
    output: str
    reply: dict[str, Any]

    @property
    def store(self) -> ModelStore:
        """The store that it published to."""
        return ModelStore(self.project / "models")

    @property
    def run_folder(self) -> Path:
        """The record of its training run."""
        return next((self.project / "runs" / "glaucoma").iterdir())


def run_demo(project: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo of a copy of the project to its end."""
    command = [sys.executable, "scripts/demo.py"]
    # Measuring coverage would slow the training down, and says nothing that the tests of contract/ do not.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=DEMO_TIMEOUT_S, check=False
    )


@pytest.fixture(name="demo", scope="session")
def fixture_demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo, run in a copy of the project with an empty store; each worker has a copy of what it left behind."""
    finished = build_once(tmp_path_factory, "finished-demo", build_demo)
    project = tmp_path_factory.mktemp("demo") / "project"
    shutil.copytree(finished / "project", project)
    output = (finished / "output").read_text()
    printed = re.search(r"^\{$.*?^\}$", output, re.M | re.S)
    return Demo(finished / "project", project, output, json.loads(printed[0]) if printed else {})


def build_demo(folder: Path) -> None:
    """Run the demo in `project`; minutes of real training."""
    project = folder / "project"
    for name in (*PACKAGES, "scripts"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = run_demo(project)
    if done.returncode != 0:
        raise RuntimeError(f"the demo failed:\n{done.stdout}\n{done.stderr}")
    (folder / "output").write_text(done.stdout)


@pytest.fixture(name="served", scope="session")
def fixture_served(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The demo's model behind `python -m service up`, at float32; the fixture is its URL."""
    arguments = ["up", "--port", "0", "--models-dir", str(demo.store.root), "--precision", "float32"]
    service = ServiceProcess(arguments, tmp_path_factory.mktemp("served"))
    try:
        url = service.wait_for_url()
        service.wait_until_ready(url)
        yield url
    finally:
        assert service.stop() == 0
