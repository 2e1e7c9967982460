"""Completion scripts, in the shells that they are for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fovea.cli import main
from fovea.commands import COMMANDS
from fovea.completion import SHELLS

# Asks bash what it would offer for words of which the last is not finished.
ASK_BASH = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(( $# - 1 ))
_shtab_fovea "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(name="script")
def fixture_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The script for bash."""
    return write_script("bash", tmp_path, capsys)


def write_script(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Write what `fovea completion` prints."""
    assert 0 == main(["completion", shell])
    path = folder / f"fovea.{shell}"
    path.write_text(capsys.readouterr().out)
    return path


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        pytest.param(["fovea", ""], set(COMMANDS), id="commands"),
        pytest.param(["fovea", "pro"], {"promote"}, id="command"),
        pytest.param(["fovea", "train", "--re"], {"--recipe", "--resume"}, id="pipeline"),
        pytest.param(["fovea", "serve", "--engine", ""], {"embedded", "tfserving"}, id="choices"),
        pytest.param(["fovea", "serve", "--max-b"], {"--max-body-bytes", "--max-batch"}, id="settings"),
        pytest.param(["fovea", "modelserver", "--model_"], {"--model_config_file", "--model_name"}, id="modelserver"),
        pytest.param(["fovea", "key", ""], {"add", "list", "remove"}, id="nested"),
        pytest.param(["fovea", "completion", ""], set(SHELLS), id="shells"),
    ],
)
def test_bash_offers_commands_options_and_choices(script: Path, words: list[str], offered: set[str]) -> None:
    """The shell itself is asked."""
    done = subprocess.run(
        ["bash", "-c", ASK_BASH, "ask", str(script), *words], capture_output=True, text=True, timeout=60
    )
    assert offered <= set(done.stdout.split()), done.stderr


def test_bash_offers_files_where_a_path_is_taken(script: Path, tmp_path: Path) -> None:
    """Such as the folder to train on."""
    (tmp_path / "shapes.zip").touch()
    command = ["bash", "-c", ASK_BASH, "ask", str(script), "fovea", "train", "sha"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["shapes.zip"], done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_reads_its_script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command is in it; where the shell is installed, it finds no mistake."""
    path = write_script(shell, tmp_path, capsys)
    assert all(name in path.read_text() for name in COMMANDS)
    if shutil.which(shell):
        done = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, timeout=60)
        assert (0, "") == (done.returncode, done.stderr)
