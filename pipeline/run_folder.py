"""The folder of one run, and the name that a set gives its model."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from pathlib import Path

_SUFFIXES = re.compile(r"\.(zip|csv|parquet)$", re.IGNORECASE)


def new_folder(parent: Path) -> Path:
    """Make and return a folder below a model's runs; names sort by time."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = parent / f"{now}-{secrets.token_hex(3)}"
    folder.mkdir(parents=True)
    return folder


def default_name(dataset: Path) -> str:
    """Return the folder's or file's name with what a model's name cannot have made into dashes."""
    name = _SUFFIXES.sub("", dataset.resolve().name)
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:64] or "model"
