"""Results as HTML tables, for notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence


def format_table(rows: Sequence[tuple[str, str]], title: str) -> str:
    """Return a table of names and values; both are escaped."""
    cells = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f"<table><caption>{html.escape(title)}</caption>{cells}</table>"
