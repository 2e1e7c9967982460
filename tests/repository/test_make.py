"""The Makefile: every documented command exists, and what it would run."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.conftest import LONGEST
from tests.repository.project import ROOT

TARGETS = (
    "demo",
    "test",
    "test-fast",
    "test-all",
    "test-docker",
    "coverage",
    "serve",
    "lint",
    "format",
    "bench",
    "clean",
    "lock",
)

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def make(*arguments: str) -> str:
    """Run make and return what it prints."""
    done = subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plain_make_lists_the_commands() -> None:
    """Nothing happens by surprise."""
    listed = re.findall(r"^ +make ([a-z-]+)", make(), re.M)
    assert set(TARGETS) <= set(listed)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("demo", "scripts/demo.py", id="demo"),
        pytest.param("serve", "-m service up", id="serve"),
        pytest.param("test", '-m pytest -m "not slow and not docker" --numprocesses=', id="test"),
        pytest.param("test-fast", "-m pytest -m fast --numprocesses=", id="test-fast"),
        pytest.param("test-all", '-m pytest -m "not docker"', id="test-all"),
        pytest.param("coverage", "--cov --cov-report=term tests/contract tests/service", id="coverage"),
        pytest.param("test-docker", "-m pytest -m docker", id="test-docker"),
        pytest.param("lint", "lint-imports", id="lint"),
        pytest.param("format", "ruff format", id="format"),
        pytest.param("bench", "-m benchmarks", id="bench"),
        pytest.param("lock", "scripts/lock.sh", id="lock"),
    ],
)
def test_a_target_runs_its_program(target: str, expected: str) -> None:
    """As `make -n` shows it, after the environment is current."""
    assert expected in make("-n", target)


@pytest.mark.parametrize("target", ["test", "test-fast", "test-all"])
def test_tests_run_without_coverage(target: str) -> None:
    """A trace function costs time and changes what threads do; `make coverage` has it."""
    assert "--cov" not in make("-n", target)


def test_continuous_integration_tries_nothing_again() -> None:
    """A test that fails once is a fault."""
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if not line.lstrip().startswith("#")]
    assert ["make test", "make coverage", "make test-docker"] == re.findall(
        r"^timeout \d+ (make test\S*|make cov\S*)$", "\n".join(commands), re.M
    )
    assert not re.search(r"--last-failed|--lf\b|--reruns|--ff\b", "\n".join(commands))


def test_cleaning_spares_what_people_made() -> None:
    """Models, runs and images are not caches."""
    words = make("-n", "clean").split()
    assert not {"models", "runs", "datasets"} & {word.strip("/") for word in words}


def test_files_that_begin_first_exist() -> None:
    """A file of tests that is renamed is renamed in the order too."""
    assert [] == [name for name in LONGEST if not (ROOT / "tests" / name).is_file()]
