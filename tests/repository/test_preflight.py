"""The preflight: which machines it takes, what it says to the others, and when it does nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository.project import ROOT


def run_preflight(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the preflight of a project folder."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHON"}
    command = [sys.executable, str(root / "scripts" / "preflight.py"), *arguments]
    return subprocess.run(command, env={**environment, **variables}, capture_output=True, text=True, timeout=120)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the preflight and a lock that asks for nothing."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "preflight.py", tmp_path / "scripts")
    (tmp_path / "requirements.lock").write_text("# nothing\n")
    return tmp_path


def test_this_machine_passes() -> None:
    """Where the tests run, the project can be installed."""
    done = run_preflight(ROOT, "--check", "--python", sys.executable)
    assert (0, "") == (done.returncode, done.stderr)


def test_it_makes_the_environment_once_for_each_lock(project: Path) -> None:
    """`python -m venv`, `pip install --require-hashes`, a stamp; then nothing, until the lock changes."""
    first = run_preflight(project, "--python", sys.executable)
    assert first.returncode == 0, first.stderr
    stamp = project / ".venv" / "lock.sha256"
    assert hashlib.sha256(b"# nothing\n").hexdigest() == stamp.read_text().strip()
    made = stamp.stat().st_mtime_ns
    second = run_preflight(project)
    assert (0, "", made) == (second.returncode, second.stderr, stamp.stat().st_mtime_ns)
    (project / ".venv" / "kept").touch()
    (project / "requirements.lock").write_text("# still nothing\n")
    third = run_preflight(project)
    assert third.returncode == 0, third.stderr
    assert "installing" in third.stderr
    assert (project / ".venv" / "kept").exists()
    assert hashlib.sha256(b"# still nothing\n").hexdigest() == stamp.read_text().strip()


def test_a_failed_installation_leaves_no_stamp(project: Path) -> None:
    """The next run takes it up again."""
    (project / "requirements.lock").write_text("nothing-of-this-name==1 --hash=sha256:" + "0" * 64 + "\n")
    (project / "pip.conf").write_text("[global]\nno-index = true\n")
    done = run_preflight(project, "--python", sys.executable, PIP_CONFIG_FILE=str(project / "pip.conf"))
    assert done.returncode == 1
    assert "the packages were not installed" in done.stderr.splitlines()[-1]
    assert not (project / ".venv" / "lock.sha256").exists()


def test_an_interpreter_that_does_not_exist_is_named(project: Path) -> None:
    """The requirement, the versions that meet it, and the way to get one."""
    done = run_preflight(project, "--python", "python2.99")
    assert done.returncode == 1
    assert "python2.99: not found" in done.stderr
    assert "3.11, 3.12, 3.13" in done.stderr
    assert "sudo apt-get install python3 python3-venv" in done.stderr
    assert not (project / ".venv").exists()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param("echo 3 9 $(uname -m) /usr/bin/python3.9; echo", "is Python 3.9", id="too-old"),
        pytest.param(
            "echo 3 12 $(uname -m) /usr/bin/python3; echo venv ensurepip", "lacks venv and ensurepip", id="debian"
        ),
        pytest.param("echo 3 12 pdp11 /usr/bin/python3; echo", "is built for pdp11", id="other-machine"),
        pytest.param("exit 1", "does not start", id="broken"),
    ],
)
def test_interpreters_that_will_not_do_are_refused(project: Path, script: str, reason: str) -> None:
    """Each with its reason: here programs that answer as such interpreters would."""
    interpreter = project / "python3"
    interpreter.write_text(f"#!/bin/sh\n{script}\n")
    interpreter.chmod(0o755)
    done = run_preflight(project, "--python", str(interpreter))
    assert done.returncode == 1
    assert f"{interpreter}: {reason}" in done.stderr


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param("check_platform('Windows', 'AMD64')", "WSL 2", id="windows"),
        pytest.param("check_platform('Darwin', 'x86_64')", "no package for Darwin on x86_64", id="intel-mac"),
        pytest.param("check_avx('x86_64', Path('cpuinfo'))", "no AVX", id="no-avx"),
        pytest.param("check_disk(10**9)", "1.0 GB are free", id="disk"),
    ],
)
def test_machines_that_will_not_do_are_refused(project: Path, call: str, expected: str) -> None:
    """The text says what is missing and what to do."""
    (project / "cpuinfo").write_text("processor : 0\nflags : fpu sse2 ssse3\n")
    code = f"from pathlib import Path\nfrom preflight import *\ntry:\n    {call}\nexcept Unmet as err:\n    print(err)"
    environment = {**os.environ, "PYTHONPATH": str(project / "scripts")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert expected in done.stdout
