"""Builds the Jinja environment of the reports, with their number formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

_NO_BREAK = "\N{NO-BREAK SPACE}"
FILTERS: dict[str, Callable[[Any], str]] = {
    "percent": lambda value: "-" if value is None else f"{100 * value:.1f}{_NO_BREAK}%",
    "percents": lambda value: "" if value is None else f"{100 * value[0]:.1f} to {100 * value[1]:.1f}{_NO_BREAK}%",
    "decimals": lambda value: "-" if value is None else f"{value:.3f}",
    "interval": lambda value: "-" if value is None else f"{value[0]:.3f} to {value[1]:.3f}",
    "number": lambda value: f"{value:.3g}",
}


def build_environment() -> Environment:
    """Return the environment: every value is escaped, a missing one is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(("html", "j2"), default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    return environment
