"""The repository's layout, layers and what git holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository.project import ROOT

EXPECTED = [
    "README.md", "Dockerfile", "docker-compose.yml", "Makefile", "pyproject.toml", "requirements.lock", "CHANGELOG.md",
    "LICENSE", "contract/model.py", "contract/image.py", "contract/predictions.py", "contract/tensors.py",
    "contract/store.py", "engine", "pipeline/recipe/recipes", "service/gateway", "service/modelserver", "benchmarks",
    "docs/architecture.md", "docs/decisions", "datasets/README.md", "models/.gitkeep", "runs/.gitkeep",
    "datasets/.gitkeep", ".ci/run",
]  # fmt: skip
MAX_FILE_BYTES = 1_000_000


def tracked_files() -> list[str]:
    """Return the files that git holds; outside a checkout the tests that need them are skipped."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("path", EXPECTED)
def test_the_layout_is_the_documented_one(path: str) -> None:
    """Files named by README and the architecture page are where the pages say."""
    assert (ROOT / path).exists()


def test_git_holds_no_large_file() -> None:
    """Models, pictures and archives stay out."""
    large = [name for name in tracked_files() if (ROOT / name).stat().st_size > MAX_FILE_BYTES]
    assert [] == large


def test_git_holds_no_model_run_or_data() -> None:
    """models/, runs/ and datasets/ are in git as empty folders and a page."""
    held = {name for name in tracked_files() if name.split("/")[0] in ("models", "runs", "datasets")}
    assert held <= {"models/.gitkeep", "runs/.gitkeep", "datasets/.gitkeep", "datasets/README.md"}


def test_imports_point_one_way() -> None:
    """The layers of docs/architecture.md hold, as import-linter reads them in pyproject.toml."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert 0 == done.returncode, done.stdout


@pytest.mark.parametrize("decision", sorted(path.name for path in (ROOT / "docs/decisions").glob("*.md")))
def test_decisions_are_numbered_and_complete(decision: str) -> None:
    """Each page has its number in name and title, a context, a choice and what was rejected."""
    text = (ROOT / "docs/decisions" / decision).read_text()
    assert text.startswith(f"# {decision[:4]}: ")
    assert all(f"**{part}.**" in text for part in ("Context", "Choice", "Rejected"))
