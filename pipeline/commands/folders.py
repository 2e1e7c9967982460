"""Where the store and the runs are: flags that every command takes."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Add --models-dir and --runs-dir."""
    parser.add_argument("--models-dir", type=Path, default=Path("models"), help="the model store")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where runs are recorded")
