"""Adds the flags for the store's and the runs' folders, which every command takes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.options.paths import check_folder, check_folder_to_write

if TYPE_CHECKING:
    from contract.store import ModelStore


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Add --models-dir and --runs-dir."""
    parser.add_argument("--models-dir", type=Path, default=Path("models"), help="the model store")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where runs are recorded")


def add_trials_folder(parser: argparse.ArgumentParser) -> None:
    """Add --trials-dir."""
    parser.add_argument(
        "--trials-dir",
        type=Path,
        help="where gateways write what they find in trials (FOVEA_TRIALS_DIR); by default .trials in the model store",
    )


def trials_folder(arguments: argparse.Namespace) -> Path:
    """Return the folder for what gateways find in trials."""
    from contract.store import TRIALS_FOLDER

    given: Path | None = arguments.trials_dir
    return arguments.models_dir / TRIALS_FOLDER if given is None else given


def check_folders(arguments: argparse.Namespace) -> None:
    """Refuse a store or a folder of runs that cannot be written to, before anything slow is done.

    Raises:
        PipelineError: naming the flag, the folder and the reason.
    """
    check_folder_to_write(arguments.models_dir, "--models-dir")
    check_folder_to_write(arguments.runs_dir, "--runs-dir")


def existing_store(arguments: argparse.Namespace) -> ModelStore:
    """Return the store of --models-dir.

    Raises:
        PipelineError: if there is no such folder.
    """
    check_folder(arguments.models_dir, "a model store")
    from contract.store import ModelStore

    return ModelStore(arguments.models_dir)
