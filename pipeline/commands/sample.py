"""`sample`: draw a synthetic set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.options.paths import check_folder_to_write


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    sample = commands.add_parser("sample", help="draw a synthetic set to try things on")
    sample.add_argument("kind", choices=["glaucoma"])
    sample.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    sample.add_argument("--seed", type=int, default=0)
    sample.set_defaults(command=_sample)


def _sample(arguments: argparse.Namespace) -> None:
    check_folder_to_write(arguments.out.parent, "--out")
    from pipeline.sample.sample import write_glaucoma_set

    write_glaucoma_set(arguments.out, seed=arguments.seed)
    print(f"written: {arguments.out}")
