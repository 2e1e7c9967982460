"""Writes the curve of a learning-rate range test: a table and a drawing."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import DiskError
from pipeline.report.figures import draw_rates

RATES_FILE, DRAWING_FILE = "learning_rates.csv", "learning_rates.svg"


def write_rates(folder: Path, found: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write both files and return their paths.

    Args:
        folder: is made if it is missing.
        found: `RateSearch.document`.

    Raises:
        DiskError: if they cannot be written.
    """
    table, drawing = folder / RATES_FILE, folder / DRAWING_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["learning_rate", "loss"])
            writer.writerows(zip(found["rates"], found["losses"], strict=True))
        drawing.write_bytes(draw_rates(found))
    except OSError as err:
        raise DiskError(f"{folder} cannot be written: {err.strerror or err}") from err
    return table, drawing
