"""scripts/demo.py where it cannot work; tests/e2e/test_demo.py has the demo itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.repository.project import ROOT

DEMO_TIMEOUT_S = 1500


def run_demo(project: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end."""
    command = [sys.executable, "scripts/demo.py"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=DEMO_TIMEOUT_S)


def test_a_step_that_fails_is_named(tmp_path: Path) -> None:
    """A sample set that cannot be drawn ends the demo at once, with status 1 and the command that failed."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    done = run_demo(tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("demo: the sample images were not made: python -m pipeline sample")
