"""Prints the notes of a release: CHANGELOG.md's section of a version.

    python scripts/release_notes.py 0.2.0

The exit status is 1 if pyproject.toml has another version or CHANGELOG.md no entry for it.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class ReleaseError(Exception):
    """A version that is not ready to be released."""


def read_notes(version: str, root: Path = ROOT) -> str:
    """Return the changelog's section of a version, without its heading.

    Raises:
        ReleaseError: if pyproject.toml has another version, or the section is absent or empty.
    """
    declared = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if declared != version:
        raise ReleaseError(f"pyproject.toml has version {declared}, the tag {version}; they must be equal")
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    section = re.search(rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if section is None:
        raise ReleaseError(f"CHANGELOG.md has no section [{version}]; rename [Unreleased] to it, with the date")
    notes = section[1].strip()
    if not notes:
        raise ReleaseError(f"CHANGELOG.md: the section [{version}] is empty")
    return notes


def main(arguments: list[str]) -> int:
    """Print the notes of the version in the arguments; return the exit status."""
    if len(arguments) != 1:
        print("usage: python scripts/release_notes.py VERSION", file=sys.stderr)
        return 2
    try:
        print(read_notes(arguments[0].removeprefix("v")))
    except ReleaseError as err:
        print(f"release_notes: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
