"""The recipes that come with Fovea, by name."""

from __future__ import annotations

from pathlib import Path

RECIPES = Path(__file__).parent / "recipes"


def shipped_recipes() -> list[str]:
    """Return the names of the recipes that come with Fovea, sorted."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))
