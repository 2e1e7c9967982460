"""The options of commands that work by a recipe."""

from __future__ import annotations

import argparse

from pipeline.recipe.recipe_files import shipped_recipes


def add_name(parser: argparse.ArgumentParser) -> None:
    """Add --name."""
    parser.add_argument("--name", help="the model's name; by default the folder's")


def add_recipe(parser: argparse.ArgumentParser, *, example: str, default: str | None = "default") -> None:
    """Add --recipe and --set.

    Args:
        parser: of the command.
        example: of --set, such as "train.epochs=5".
        default: the recipe; None where a command has to know whether one was named.
    """
    names = ", ".join(shipped_recipes())
    parser.add_argument("--recipe", default=default, help=f"{names}, or a YAML file (default: default)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"such as {example}")
