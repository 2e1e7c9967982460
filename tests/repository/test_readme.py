"""README: short, its first command early, its commands known to a test."""

from __future__ import annotations

import re

import pytest

from tests.repository.project import ROOT, fenced_commands

README = (ROOT / "README.md").read_text()

# Which test runs a command of README, or the same words with other paths and ports.
RUN_BY = {
    r"make demo": "tests/e2e/test_demo.py",
    r"make (serve|test|test-fast|test-all|test-docker|coverage|format|bench)": "tests/repository/test_make.py",
    r"curl --data-binary @\S+ http://127\.0\.0\.1:8000/v1/predict": "tests/e2e",
    r"python3 -m venv \.venv": "tests/repository/test_preflight.py",
    r"\.venv/bin/pip install --require-hashes -r requirements\.lock": "tests/repository/test_preflight.py",
    r"\.venv/bin/python -m pipeline (audit|preview|sample|run|models|promote|rollback) .*": "tests/pipeline",
    r"\.venv/bin/python -m pipeline models": "tests/pipeline",
    r"\.venv/bin/python -m service (up|predict .*)": "tests/service",
    r"(COMPOSE_PROFILES=embedded )?docker compose up": "tests/docker/test_compose_up.py",
    r"FOVEA_DATA=\S+ docker compose run --rm pipeline run /data --name \w+": "tests/docker/test_compose_up.py",
}


def test_the_first_command_comes_early() -> None:
    """A newcomer sees what to type without scrolling."""
    lines = README.splitlines()
    first = next(number for number, line in enumerate(lines, 1) if line.startswith("```sh"))
    assert first < 25
    assert lines[first] == "make demo"


def test_it_is_short() -> None:
    """Details are in docs/."""
    assert len(README.splitlines()) < 150


@pytest.mark.parametrize("command", fenced_commands(README))
def test_every_command_is_run_by_a_test(command: str) -> None:
    """No command of README is only text."""
    tests = [test for pattern, test in RUN_BY.items() if re.fullmatch(pattern, command)]
    assert len(tests) > 0, f"name in RUN_BY the test that runs: {command}"
    assert all((ROOT / test).exists() for test in tests)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(((?!https?:)[^)#]+)\)", README))))
def test_links_lead_somewhere(link: str) -> None:
    """Every file that README links to exists."""
    assert (ROOT / link).exists()


def test_it_says_what_it_is_not() -> None:
    """A classifier of retina pictures that people can start with one command must say so."""
    assert "not a medical device" in README
