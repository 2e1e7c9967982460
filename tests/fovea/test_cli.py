"""The command `fovea`: finding commands, help, what is imported and when, mistakes and the next step."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from contract.commands import MODULES
from contract.store import ModelStore
from fovea.cli import main
from fovea.commands import ALIASES, COMMANDS
from pipeline.commands import MODULES as PIPELINE_COMMANDS
from service import VERSION
from service.__main__ import COMMANDS as SERVICE_COMMANDS
from tests.repository.project import ROOT, read_pyproject

HEAVY = ("tensorflow", "keras", "openvino", "fastapi", "grpc", "httpx2", "matplotlib", "numpy", "pydantic", "yaml")

# Runs `fovea` as the console script does, and prints the heavy modules that it imported.
PROBE = f"""
import sys
from fovea.cli import main
status = main(sys.argv[1:])
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
sys.exit(status)
"""


def run(*arguments: str, cwd: Path = ROOT, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `fovea` in a process of its own."""
    program = ["-m", "fovea"] if code is None else ["-c", code]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FOVEA_")}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [sys.executable, *program, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


def processor_time(*arguments: str, cwd: Path, status: int) -> float:
    """Run `fovea` and return the seconds that it computed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run(*arguments, cwd=cwd)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert status == done.returncode, done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imported(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the heavy modules that a run imported."""
    found: list[str] = json.loads(done.stderr.splitlines()[-1].replace("'", '"'))
    return found


def test_every_command_of_the_programs_is_a_command_of_fovea() -> None:
    """Each has its name, or the one that the task gives it."""
    names = {*PIPELINE_COMMANDS, *SERVICE_COMMANDS}
    assert {ALIASES.get(name, name) for name in names} == COMMANDS.keys() - {"report", "completion"}


def test_commands_are_spelled_as_the_programs_have_them() -> None:
    """The commands that a message names in a checkout exist there."""
    for name, words in MODULES.items():
        program, command = words.split()
        assert command in (PIPELINE_COMMANDS if program == "pipeline" else SERVICE_COMMANDS)
        assert ALIASES.get(command, command) == name
    unmapped = {ALIASES.get(name, name) for name in PIPELINE_COMMANDS} - MODULES.keys()
    assert unmapped <= PIPELINE_COMMANDS.keys()


def test_overview_lists_every_command_and_imports_nothing_heavy() -> None:
    """`fovea --help` names them all."""
    done = run("--help", code=PROBE)

    assert 0 == done.returncode
    assert [] == imported(done)
    assert all(re.search(rf"^  {name} +\w", done.stdout, re.M) for name in COMMANDS)


def test_overview_is_quick() -> None:
    """Under 0.3 s; processor time, which does not count what others on the machine do."""
    assert min(processor_time("--help", cwd=ROOT, status=0) for _ in range(3)) < 0.3


def test_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    """One number in pyproject.toml and in the code."""
    assert 0 == main(["--version"])
    assert f"fovea {VERSION}\n" == capsys.readouterr().out
    assert read_pyproject()["project"]["version"] == VERSION


def test_help_is_a_word_too(capsys: pytest.CaptureFixture[str]) -> None:
    """`fovea help` and `fovea help train`."""
    assert 0 == main(["help"])
    assert capsys.readouterr().out.startswith("usage: fovea COMMAND")
    assert 0 == main(["help", "train"])
    assert capsys.readouterr().out.startswith("usage: fovea train ")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_a_summary_options_and_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command's help is its own, under the name that was typed; defaults are stated, and none reads "None"."""
    assert 0 == main([name, "--help"])
    printed = capsys.readouterr().out

    assert printed.startswith(f"usage: fovea {name} ")
    assert all(f"\n  {example}" in printed for example in COMMANDS[name].examples)
    assert "default: None" not in printed
    assert "default: False" not in printed
    assert "python -m" not in printed.splitlines()[0]


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if "pipeline." in command.module])
def test_folders_have_their_defaults_in_the_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A user sees where the store is looked for."""
    main([name, "--help"])
    printed = " ".join(capsys.readouterr().out.split())

    assert "--models-dir" not in printed or "the model store (default: models)" in printed


@pytest.mark.parametrize("example", [example for command in COMMANDS.values() for example in command.examples])
def test_examples_are_right_command_lines(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No example is refused as wrong use; in an empty folder most end with the reason why they cannot go on."""
    words = shlex.split(example.partition(" >")[0])
    if words[1] in ("serve", "gateway", "modelserver", "weights", "imagenet", "sample", "sync"):
        words.append("--help")  # they would start, fetch or draw something
    monkeypatch.chdir(tmp_path)

    status = main(words[1:])

    printed = capsys.readouterr()
    assert words[0] == "fovea"
    assert 2 != status, printed.err
    assert "usage:" not in printed.err
    assert status == 0 or len(printed.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        pytest.param([], "fovea: expected a command. Received: none; fovea --help lists them", id="nothing"),
        pytest.param(["trian"], "fovea: expected a command. Received: trian; did you mean train?", id="train"),
        pytest.param(["servee"], "did you mean serve?", id="serve"),
        pytest.param(["xyzzy"], "Received: xyzzy; fovea --help lists them", id="unlike-any"),
        pytest.param(["train", "--recipie", "demo", "x"], "did you mean --recipe?", id="option"),
        pytest.param(["serve", "--prot", "1"], "did you mean --port?", id="setting"),
        pytest.param(["train"], "fovea train: the following arguments are required: dataset", id="missing"),
        pytest.param(["completion", "fsh"], "did you mean fish?", id="choice"),
        pytest.param(["sample", "glaucma", "--out", "x"], "did you mean glaucoma?", id="pipeline-choice"),
    ],
)
def test_wrong_use_is_status_2_with_the_nearest_name(
    argv: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason is the last line of stderr."""
    assert 2 == main(argv)
    assert reason in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "sett"],
        ["audit", "sett"],
        ["preview", "sett", "--out", "x.png"],
        ["evaluate", "cells", "sett"],
        ["compare", "cells/1", "cells/2", "--data", "sett"],
        ["verify", "cells", "--data", "sett"],
        ["score", "cells", "sett", "--out", "x.csv"],
        ["import", "sett", "--name", "x"],
        ["import", "set", "--name", "x", "--labels", "sett"],
        ["imagenet", "--weights", "sett"],
        ["imagenet", "--class-index", "sett"],
        ["preview", "set", "--out", "sett/x.png"],
        ["score", "cells", "set", "--out", "sett/x.csv"],
        ["evaluate", "cells", "set", "--out", "sett/x.json"],
        ["train", "set", "--recipe", "sett.yaml"],
        ["models", "--models-dir", "sett"],
        ["promote", "cells", "--models-dir", "sett"],
        ["rollback", "cells", "--models-dir", "sett"],
        ["resume", "sett"],
        ["report", "--models-dir", "sett"],
        ["predict", "sett.png"],
    ],
    ids=" ".join,
)
def test_mistyped_path_is_refused_before_anything_heavy_is_imported(argv: list[str], tmp_path: Path) -> None:
    """One line names the path; TensorFlow, OpenVINO and Keras are not there yet."""
    (tmp_path / "set").mkdir()
    (tmp_path / "models").mkdir()

    done = run(*argv, cwd=tmp_path, code=PROBE)

    *printed, _ = done.stderr.splitlines()
    assert (0 if argv[0] == "models" else 1) == done.returncode, done.stderr
    assert "sett" in done.stdout + "\n".join(printed)
    assert len(printed) <= 1
    assert not {"tensorflow", "keras", "openvino", "matplotlib"} & set(imported(done))
    if argv[:2] in (["train", "sett"], ["audit", "sett"]):
        assert printed[0].endswith("Received: no such file or folder; did you mean set?")
        assert [] == imported(done)


@pytest.mark.parametrize("command", ["train", "audit", "evaluate", "score", "import"])
def test_mistyped_path_is_answered_within_half_a_second(command: str, tmp_path: Path) -> None:
    """Processor time, as above."""
    rest = {
        "evaluate": ["cells", "sett"],
        "score": ["cells", "sett", "--out=x.csv"],
        "import": ["sett", "--name=x"],
    }.get(command, ["sett"])
    assert min(processor_time(command, *rest, cwd=tmp_path, status=1) for _ in range(3)) < 0.5


@pytest.mark.parametrize("module", ["pipeline", "service"])
def test_the_programs_name_the_nearest_command_too(module: str) -> None:
    """`python -m pipeline` and `python -m service` stay, and are as helpful."""
    typed, meant = {"pipeline": ("promte", "promote"), "service": ("predic", "predict")}[module]
    done = subprocess.run(
        [sys.executable, "-m", module, typed], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert 2 == done.returncode
    assert done.stderr.splitlines()[-1].endswith(f"did you mean {meant}?")


def test_misspelt_model_and_recipe_have_the_nearest_name(
    store: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names in the store, and recipes that come with Fovea."""
    assert 1 == main(["promote", "colour", f"--models-dir={store.root}"])
    assert capsys.readouterr().err.endswith("did you mean colours?\n")
    (tmp_path / "set").mkdir()
    assert 1 == main(["train", str(tmp_path / "set"), "--recipe=dmeo"])
    assert capsys.readouterr().err.endswith("did you mean demo?\n")


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_nothing_to_promote_names_the_next_step(
    command: str, store: ModelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that lists the versions, as it is typed here."""
    assert 1 == main([command, "colours", f"--models-dir={store.root}"])
    printed = capsys.readouterr().err
    assert re.search(r"list the versions with: (fovea|python -m pipeline) models$", printed.strip(), re.I)


def test_predict_of_a_folder_names_the_command_for_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only image files are sent."""
    assert 1 == main(["predict", str(tmp_path)])
    assert re.search(r"Is a directory; of a whole folder: (fovea|python -m pipeline) score$", capsys.readouterr().err)


def test_predict_without_a_server_names_the_next_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A port of this machine on which nothing listens."""
    (tmp_path / "cell.png").write_bytes(b"not read")
    assert 1 == main(["predict", str(tmp_path / "cell.png"), "--url=http://127.0.0.1:9"])
    assert re.search(
        r"start a service with: (fovea serve|python -m service up), or name another one with --url$",
        capsys.readouterr().err.strip(),
    )
