"""`runs`: one page of all runs and versions, to sort and to compare."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path
from typing import Any

from contract.errors import StoreError
from contract.store import ModelStore
from pipeline.commands.options.folders import add_folders
from pipeline.errors import PipelineError


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    runs = commands.add_parser("runs", help="write a page of all runs and versions, to sort and to compare")
    runs.add_argument("--out", type=Path, help="the HTML file; by default runs.html in --runs-dir")
    runs.add_argument("--open", action="store_true", help="open it in a browser")
    add_folders(runs)
    runs.set_defaults(command=_runs)


def _runs(arguments: argparse.Namespace) -> None:
    from pipeline.report.runs.gather import gather_runs
    from pipeline.report.runs.page import write_runs_page

    if not (arguments.models_dir.is_dir() or arguments.runs_dir.is_dir()):
        raise PipelineError(
            f"expected a folder of runs or a model store. Received: --runs-dir {arguments.runs_dir} and --models-dir "
            f"{arguments.models_dir}, neither of which exists"
        )
    page = (arguments.out or arguments.runs_dir / "runs.html").resolve()
    entries = gather_runs(ModelStore(arguments.models_dir), arguments.runs_dir.resolve(), page)
    try:
        write_runs_page(page, entries)
    except OSError as err:
        raise StoreError(f"--out: {page} cannot be written: {err.strerror or err}") from err
    print(f"{len(entries)} runs and versions: {page}")
    if arguments.open and not webbrowser.open(page.as_uri()):
        raise StoreError(f"no browser can be started here; open {page}")
