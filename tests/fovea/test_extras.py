"""Optional dependencies: the table of their modules, and what a command says without them."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fovea
from contract.commands import DISTRIBUTION
from fovea.commands import COMMANDS
from fovea.extras import MODULES
from tests.helpers.image_sets import color_files, write_files
from tests.repository.project import ROOT, normal_name, read_pyproject

# Hides modules from the import system, as if they were not installed, and runs `fovea`.
HIDING = """
import importlib.abc, sys
hidden = set(sys.argv[1].split(","))
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None
sys.meta_path.insert(0, Hide())
find = __import__("importlib.util").util.find_spec
__import__("importlib.util").util.find_spec = lambda name, package=None: None if name in hidden else find(name, package)
from fovea.cli import main
sys.exit(main(sys.argv[2:]))
"""


def run_without(hidden: set[str], *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `fovea` where some modules are not installed."""
    return subprocess.run(
        [sys.executable, "-c", HIDING, ",".join(hidden), *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_table_is_pyprojects() -> None:
    """Each requirement of an extra that commands need is there by a module that it installs, and nothing else is."""
    installs: dict[str, set[str]] = {}
    for module, distributions in importlib.metadata.packages_distributions().items():
        for distribution in distributions:
            installs.setdefault(normal_name(distribution), set()).add(module)
    extras = read_pyproject()["project"]["optional-dependencies"]
    assert extras.keys() - MODULES.keys() == {"dev", "int8", "otel", "ray"}
    for extra, modules in MODULES.items():
        required = [normal_name(requirement) for requirement in extras[extra]]
        assert len(required) == len(modules)
        for name in required:
            assert installs[name] & set(modules), name


def test_distribution_is_the_projects() -> None:
    """Messages name what pip installs."""
    assert read_pyproject()["project"]["name"] == DISTRIBUTION


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.extras])
def test_missing_extra_is_answered_with_the_pip_command(name: str, tmp_path: Path) -> None:
    """One line, status 1, no traceback."""
    extras = COMMANDS[name].extras
    hidden = {module for extra in extras for module in MODULES[extra]}

    done = run_without(hidden, name, "--help", cwd=tmp_path)

    assert 1 == done.returncode
    assert 1 == len(done.stderr.splitlines())
    assert f"pip install '{DISTRIBUTION}[{','.join(extras)}]'" in done.stderr


@pytest.mark.parametrize(
    "argv",
    [["--help"], ["--version"], ["models"], ["backbones"], ["report", "--help"], ["completion", "bash"]],
    ids=" ".join,
)
def test_commands_without_extras_work_without_any(argv: list[str], tmp_path: Path) -> None:
    """The base installation is enough for them."""
    done = run_without({module for modules in MODULES.values() for module in modules}, *argv, cwd=tmp_path)
    notes = [line for line in done.stderr.splitlines() if argv != ["backbones"] or not line.startswith("All take grey")]
    assert (0, []) == (done.returncode, notes)


@pytest.mark.parametrize("argv", [["audit", "set"], ["prune", "--keep=1"]], ids=" ".join)
def test_commands_work_with_the_extras_that_they_name(argv: list[str], tmp_path: Path) -> None:
    """Where every other extra is missing."""
    write_files(tmp_path / "set", color_files(train=3, test=2))
    needed = {module for extra in COMMANDS[argv[0]].extras for module in MODULES[extra]}
    done = run_without({module for found in MODULES.values() for module in found} - needed, *argv, cwd=tmp_path)
    assert 0 == done.returncode, done.stderr


def test_page_has_the_extras_of_every_command() -> None:
    """docs/install.md, row by row."""
    rows = re.findall(r"^\| (`.+`) \| (`.+`|none) \|$", (ROOT / "docs/install.md").read_text(), re.M)
    written = {
        name: tuple(extras.strip("`").split(",")) if extras != "none" else ()
        for names, extras in rows
        for name in names.replace("`", "").split(", ")
    }
    expected = {name: command.extras for name, command in COMMANDS.items()}
    expected |= {name: extras for name, (_, _, extras) in fovea._SOURCES.items() if extras}
    assert expected == written


def test_python_names_need_their_extras(tmp_path: Path) -> None:
    """`fovea.train` without TensorFlow raises ImportError with the pip command."""
    code = HIDING.replace(
        "from fovea.cli import main\nsys.exit(main(sys.argv[2:]))",
        "import fovea\ntry:\n    fovea.train\nexcept ImportError as err:\n    print(err)",
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "tensorflow"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (
        f"fovea.train needs tensorflow, which is not installed: pip install '{DISTRIBUTION}[pipeline,tensorflow]'\n"
        == done.stdout
    )
