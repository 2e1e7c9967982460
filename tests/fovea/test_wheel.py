"""The wheel: what it holds, and that an installation needs nothing else of the project."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from contract.commands import DISTRIBUTION
from fovea.commands import COMMANDS
from pipeline.recipe.recipe_files import shipped_recipes
from service import VERSION
from tests.fovea.conftest import Installed, project_files
from tests.repository.project import PACKAGES, ROOT

WHERE = """
import importlib, json, sys
names = sys.argv[1:]
print(json.dumps({"modules": {name: importlib.import_module(name).__file__ for name in names}, "path": sys.path}))
"""


def test_it_holds_every_file_of_the_packages(wheel: Path) -> None:
    """Code, templates, recipes, the page: what git has in the packages' folders, and nothing else."""
    expected = {name for name in project_files() if name.split("/")[0] in PACKAGES}
    with zipfile.ZipFile(wheel) as archive:
        actual = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert expected == actual
    assert {"pipeline", "service", "fovea"} <= {name.split("/")[0] for name in actual}


def test_it_has_a_name_a_license_and_one_command(wheel: Path) -> None:
    """Metadata as an index shows it."""
    with zipfile.ZipFile(wheel) as archive:
        info = f"{DISTRIBUTION.replace('-', '_')}-{VERSION}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        commands = archive.read(f"{info}/entry_points.txt").decode()
        licence = archive.read(f"{info}/licenses/LICENSE").decode()

    assert f"\nName: {DISTRIBUTION}\nVersion: {VERSION}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "[console_scripts]\nfovea = fovea.cli:entry\n" == commands
    assert licence == (ROOT / "LICENSE").read_text()


def test_an_installation_does_not_see_the_checkout(installed: Installed, tmp_path: Path) -> None:
    """Every package comes from the environment, and no entry of the path is in the checkout."""
    done = installed.run("python", "-c", WHERE, *PACKAGES, cwd=tmp_path)
    found = json.loads(done.stdout)

    assert all(Path(file).is_relative_to(installed.bin.parent) for file in found["modules"].values())
    assert not [entry for entry in found["path"] if entry and Path(entry) == ROOT]
    assert installed.run("python", "-c", "import tests.helpers", cwd=tmp_path).returncode == 1


def test_importing_fovea_imports_nothing_heavy(installed: Installed, tmp_path: Path) -> None:
    """Not even NumPy; its names are listed all the same."""
    code = "import fovea, json, sys; print(json.dumps([dir(fovea), sorted(sys.modules)]))"
    names, modules = json.loads(installed.run("python", "-c", code, cwd=tmp_path).stdout)

    assert {"Client", "load", "train"} <= set(names)
    assert not {"numpy", "pydantic", "httpx2", "tensorflow", "openvino", "pipeline", "service"} & set(modules)


def test_the_command_is_on_the_path(installed: Installed, tmp_path: Path) -> None:
    """Version, overview, and a recipe that only the wheel brought."""
    assert f"fovea {VERSION}\n" == installed.run("fovea", "--version", cwd=tmp_path).stdout
    overview = installed.run("fovea", "--help", cwd=tmp_path).stdout
    assert all(f"\n  {name} " in overview for name in COMMANDS)
    printed = installed.run("fovea", "train", "--help", cwd=tmp_path).stdout
    assert all(recipe in printed for recipe in shipped_recipes())


def test_messages_name_the_installed_command(installed: Installed, tmp_path: Path) -> None:
    """`fovea serve`, not `python -m service up`."""
    (tmp_path / "cell.png").write_bytes(b"not read")
    done = installed.run("fovea", "predict", "cell.png", "--url=http://127.0.0.1:9", cwd=tmp_path)
    assert (1, True) == (done.returncode, "start a service with: fovea serve" in done.stderr)
    done = installed.run("fovea", "report", cwd=tmp_path)
    assert (1, True) == (done.returncode, "train one with fovea train FOLDER" in done.stderr)
