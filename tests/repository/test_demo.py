"""`make demo`, as a newcomer runs it, in a copy of the project."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.repository.project import PACKAGES, ROOT

DEMO_TIMEOUT_S = 1500


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the demo runs, with an empty store."""
    copy = tmp_path_factory.mktemp("demo")
    for name in (*PACKAGES, "scripts"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def run_demo(project: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end."""
    command = [sys.executable, "scripts/demo.py"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=DEMO_TIMEOUT_S)


def processes_in(folder: Path) -> list[list[str]]:
    """Return the command lines of processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == folder:
                found.append(process.cmdline())
        except (psutil.Error, OSError):
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(2 * DEMO_TIMEOUT_S)
def test_the_demo_works_twice(project: Path) -> None:
    """It trains, serves, answers with the report's class, says where things are, and stops; so does a second run."""
    for version in (1, 2):
        done = run_demo(project)
        assert done.returncode == 0, done.stdout + done.stderr
        reply = json.loads(re.search(r"^\{$.*?^\}$", done.stdout, re.M | re.S)[0])
        assert reply["model"]["name"] == "glaucoma"
        assert (
            f"served class = the report's class for this image: {reply['predictions'][0]['top'][0]['id']}"
            in done.stdout
        )
        assert (project / re.search(r"report +(\S+)", done.stdout)[1]).is_file()
        assert (project / "models" / "glaucoma" / str(version) / "saved_model.pb").is_file()
        assert processes_in(project) == []


def test_a_step_that_fails_is_named(tmp_path: Path) -> None:
    """A sample set that cannot be drawn ends the demo at once, with status 1 and the command that failed."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    done = run_demo(tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("demo: the sample images were not made: python -m pipeline sample")
