"""Writes the page of all runs: one file, whose only script is allowed by its hash."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from pipeline.metrics.table import metrics_in
from pipeline.report.runs.gather import Entry

_FOLDER = Path(__file__).parent


def write_runs_page(path: Path, entries: Sequence[Entry]) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        entries: as `gather_runs` gives them.
    """
    script = (_FOLDER / "runs.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("runs.html.j2").render(
        entries=entries,
        columns=[metric for metric in metrics_in("models") if any(metric.name in e["metrics"] for e in entries)],
        data=Markup(_script_json(entries)),  # noqa: S704 - no character of it ends the element
        script=Markup(script),  # noqa: S704 - the project's own file
        digest=digest,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")


def _script_json(entries: Sequence[Entry]) -> str:
    """Return JSON that a script element can hold: no text of it is markup."""
    text = json.dumps(entries)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
