"""A release: notes of a version, and a workflow whose commands exist. Nothing is published from here."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.repository.project import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def load_script() -> Any:
    """Import scripts/release_notes.py, which is no package."""
    spec = importlib.util.spec_from_file_location("release_notes", ROOT / "scripts" / "release_notes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release_notes = load_script()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with two releases."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "0.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-11-28\n\n### Added\n\n- A thing.\n\n"
        "## [0.1.0]\n\n- First.\n"
    )
    return tmp_path


def test_notes_are_the_section_of_the_version(project: Path) -> None:
    """Without its heading, and without its neighbours."""
    assert release_notes.read_notes("0.2.0", project) == "### Added\n\n- A thing."


@pytest.mark.parametrize(
    ("version", "changelog", "message"),
    [
        ("0.3.0", None, "pyproject.toml has version 0.2.0, the tag 0.3.0"),
        ("0.2.0", "# Changelog\n\n## [Unreleased]\n\n- A thing.\n", r"no section \[0.2.0\]; rename \[Unreleased\]"),
        ("0.2.0", "## [0.2.0]\n\n## [0.1.0]\n\n- First.\n", "is empty"),
        ("0.2.0", "## [0x2.0]\n\n- Another.\n", "no section"),
    ],
)
def test_version_that_is_not_ready_is_refused(project: Path, version: str, changelog: str | None, message: str) -> None:
    """A tag without notes, or that the package does not have, makes no release."""
    if changelog is not None:
        (project / "CHANGELOG.md").write_text(changelog)
    with pytest.raises(release_notes.ReleaseError, match=message):
        release_notes.read_notes(version, project)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_commands_of_workflows_exist(workflow: Path) -> None:
    """Bash reads every step; targets of make, scripts and image targets are there."""
    steps = [step for job in yaml.safe_load(workflow.read_text())["jobs"].values() for step in job["steps"]]
    commands = "\n".join(step["run"] for step in steps if "run" in step)
    plain = re.sub(r"\$\{\{.*?\}\}", "value", commands)
    done = subprocess.run(["bash", "-n"], input=plain, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", commands)) <= targets
    assert all((ROOT / path).exists() for path in re.findall(r"scripts/\w+\.\w+", commands))


def test_released_images_are_targets_of_the_dockerfile() -> None:
    """The matrix has every service of docker-compose.yml that is built."""
    document = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    released = set(document["jobs"]["images"]["strategy"]["matrix"]["target"])
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    composed = set(re.findall(r"build: \{context: \., target: (\w+)\}", (ROOT / "docker-compose.yml").read_text()))
    assert released <= stages
    assert released == composed
