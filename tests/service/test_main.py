"""`python -m service`: dispatch."""

from __future__ import annotations

import importlib

import pytest

from service.__main__ import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_module_with_a_main(command: str) -> None:
    """Commands of the usage text exist."""
    assert callable(importlib.import_module(COMMANDS[command][0]).main)


def test_usage_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """--help prints to stdout and is a success."""
    assert 0 == main(["--help"])
    printed = capsys.readouterr().out
    assert all(command in printed for command in COMMANDS)


@pytest.mark.parametrize(("argv", "received"), [([], "none"), (["serve"], "serve")], ids=["nothing", "unknown"])
def test_unknown_command_is_status_2(argv: list[str], received: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The reason is the last line of stderr."""
    assert 2 == main(argv)
    assert f"service: expected a command. Received: {received}" == capsys.readouterr().err.splitlines()[-1]
