"""The option --precision of commands that compute with a published version."""

from __future__ import annotations

import argparse

from engine.precision_names import AUTO, PRECISION_SETTINGS


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add --precision."""
    parser.add_argument(
        "--precision",
        choices=PRECISION_SETTINGS,
        default=AUTO,
        help="auto (default: the fastest that the version's verification allows), float32, or a faster one that it has",
    )
