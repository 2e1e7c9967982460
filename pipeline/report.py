"""The run as one HTML file: aggregate numbers only, so that the copy inside the model shows no patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

_WIDTH, _HEIGHT = 480, 180


def write_report(path: Path, document: Mapping[str, Any]) -> None:
    """Write a report.

    Args:
        path: the HTML file.
        document: what pipeline/run.py gathers in metrics.json: name, run, dataset, recipe, splits, curves, test, ...
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(), undefined=StrictUndefined
    )
    environment.filters["percent"] = lambda value: "-" if value is None else f"{100 * value:.1f} %"
    environment.filters["number"] = lambda value: f"{value:.4g}"
    curves = document["training"]["curves"]
    lines = {
        name: _polyline([row[name] for row in curves]) for name in ("loss", "val_loss", "accuracy", "val_accuracy")
    }
    template = environment.get_template("report.html.j2")
    path.write_text(template.render(document, lines=lines, width=_WIDTH, height=_HEIGHT), encoding="utf-8")


def _polyline(values: Sequence[float]) -> str:
    """Return SVG polyline points over the whole drawing; the vertical axis runs from 0 to the largest value or 1."""
    top = max(1.0, *values) if len(values) > 1 else max(1.0, values[0])
    step = _WIDTH / max(1, len(values) - 1)
    return " ".join(f"{i * step:.1f},{_HEIGHT * (1 - value / top):.1f}" for i, value in enumerate(values))
