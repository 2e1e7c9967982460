"""`python -m benchmarks [NAME ...]`: measure this machine, into benchmarks/results/ and docs/benchmarks.md.

Each benchmark is a module here with `run() -> dict`, which measures whole commands, several times where it is short.
Without names those of serving run, which takes an hour; `all` takes hours. They are never part of the tests. Those
whose `run` takes a size can be run at `--size quick` (to see that they work: the numbers are only printed), `standard`
or `full`. `python -m benchmarks capacity --rate 10000` measures nothing: it computes from the results.
`lectures` has options of its own and is named alone: `python -m benchmarks lectures --help`.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from os import cpu_count
from pathlib import Path
from typing import Any

from benchmarks.capacity.__main__ import main as compute_capacity
from benchmarks.report.__main__ import write_report

HERE = Path(__file__).parent
SIZES = ("quick", "standard", "full")
SERVING = ("serving", "curves", "batch_scoring", "gateway_start")
NAMES = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def main() -> int:
    """Run the named benchmarks and write what they measured."""
    if sys.argv[1:2] == ["capacity"]:
        return compute_capacity(sys.argv[2:])
    first = next(iter(sys.argv[1:]), "")
    if first in NAMES and hasattr(module := importlib.import_module(f"benchmarks.{first}"), "parse"):
        options = module.parse(sys.argv[2:])
        measure(first, options, is_kept=not options.pop("print_only"))
        return 0
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(["all", *NAMES]))
    parser.add_argument("--size", choices=SIZES, default="standard", help="how long and how often to measure")
    arguments = parser.parse_args()
    names = NAMES if arguments.names == ["all"] else arguments.names or SERVING
    if unknown := set(names) - set(NAMES):
        parser.error(f"expected some of {', '.join(NAMES)}. Received: {', '.join(sorted(unknown))}")
    for name in names:
        is_sized = "size" in inspect.signature(importlib.import_module(f"benchmarks.{name}").run).parameters
        options = {"size": arguments.size} if is_sized else {}
        try:
            measure(name, options, is_kept=not is_sized or arguments.size != "quick")
        except SystemExit as err:  # it lacks what it measures
            if arguments.names != ["all"]:
                raise
            sys.stderr.write(f"{err}; left out\n")
    return 0


def measure(name: str, options: Mapping[str, Any], *, is_kept: bool) -> None:
    """Run one benchmark and print what it measured.

    Args:
        name: of its module.
        options: for its `run`.
        is_kept: whether the result and the page are written.
    """
    measured = importlib.import_module(f"benchmarks.{name}").run(**options)
    document = {"benchmark": name, "measured": datetime.now(UTC).isoformat(timespec="seconds"), **machine()}
    text = json.dumps({**document, **measured}, indent=2) + "\n"
    if is_kept:
        (HERE / "results").mkdir(exist_ok=True)
        (HERE / "results" / f"{name}.json").write_text(text, encoding="utf-8")
        write_report()
    sys.stdout.write(text)


def machine() -> dict[str, Any]:
    """Say what the numbers were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return {
        "machine": {
            "cpu": models[0] if models else platform.processor(),
            "cores": cpu_count(),
            "vector_units": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags],
            "python": platform.python_version(),
            "system": platform.platform(),
        }
    }


if __name__ == "__main__":
    sys.exit(main())
