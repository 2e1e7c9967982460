"""The project's files as the tests of this folder read them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOCKS = (
    "requirements.lock",
    "requirements-gateway.lock",
    "requirements-modelserver.lock",
    "requirements-pipeline.lock",
    "requirements-ray.lock",
)
PACKAGES = ("contract", "engine", "fovea", "pipeline", "service")


def read_pyproject() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def normal_name(requirement: str) -> str:
    """Return a requirement's package name as indexes compare names: lower case, runs of -_. as one dash."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    if found is None:
        raise ValueError(f"expected a requirement. Received: {requirement!r}")
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def read_pins(lock: str) -> dict[str, set[str]]:
    """Return the versions that a lock file pins, by package; several where markers tell platforms apart."""
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", (ROOT / lock).read_text(), re.M):
        pins.setdefault(normal_name(name), set()).add(version)
    return pins


def module_names() -> list[str]:
    """Return every importable module of the project's packages, but for `__main__` modules, which are programs."""
    names = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[-1] != "__main__":
                names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def fenced_commands(markdown: str) -> list[str]:
    """Return the lines of the fenced `sh`, `bash` and `console` blocks of a page."""
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", markdown, re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]
