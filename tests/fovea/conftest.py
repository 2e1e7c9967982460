"""Fixtures: the wheel, built once, and an environment in which it is installed and the checkout is not to be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.shared import build_once
from tests.repository.project import ROOT


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel in it.

    Attributes:
        bin: the folder of its programs.
    """

    bin: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables in which nothing leads to the checkout."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FOVEA_", "COVERAGE_", "COV_CORE", "PYTHON", "VIRTUAL_ENV"))
        }
        return {**kept, "PATH": os.pathsep.join([str(self.bin), os.defpath]), "TF_CPP_MIN_LOG_LEVEL": "3"}

    def run(self, *command: str, cwd: Path, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment to its end."""
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=cwd,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of what git holds and of what is new."""
    (found,) = build_once(tmp_path_factory, "wheel", build_wheel).glob("*.whl")
    return found


def build_wheel(folder: Path) -> None:
    """Build the wheel in a copy: a checkout may have the leavings of a build."""
    copy = folder / "source"
    for name in project_files():
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    # Without isolation: pip would fetch setuptools, and no test uses the network.
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), "."]
    done = subprocess.run([sys.executable, "-m", "pip", *build], cwd=copy, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """One environment for the tests, which change nothing in it."""
    folder = build_once(tmp_path_factory, "environment", lambda folder: install(wheel, folder))
    return Installed(folder / "bin")


def install(wheel: Path, folder: Path) -> None:
    """Make an empty environment beside the locked dependencies, and install the wheel in it by pip."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    (site,) = folder.glob("lib/python*/site-packages")
    # The locked packages, without downloading TensorFlow again. A .pth file adds them, but none of their own .pth
    # files, so that a checkout installed there for editing stays out.
    (site / "locked.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python")]
    # "--ignore-installed": the locked packages may hold another Fovea.
    command = [*pip, "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def project_files() -> list[str]:
    """Return the files that git holds or would take; outside a checkout the tests that need them are skipped."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return sorted({name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()})
