"""`python -m benchmarks.checkouts BASE OTHER ...`: serve several checkouts side by side and compare their speed.

Each checkout runs its own model server and gateway over the same store. Windows of the first one and of another one
alternate; a pair is two neighbouring windows. The network is MobileNetV2 at 224 x 224 with random weights, at the
fastest precision of the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.checkouts.ratios import difference_of_pairs, ratio_of_pairs
from benchmarks.checkouts.windows import measure, read_plan
from benchmarks.systems.choice import precisions
from benchmarks.systems.fovea import fovea
from benchmarks.systems.running import started
from benchmarks.systems.system import System
from benchmarks.workload.shared import shared_workload

CONCURRENCIES = (1, 8)
_BACKBONE = "MobileNetV2"
_STREAMS = 2
_MAX_BATCH = 8
_WARM_UP_S = 0.25


def main() -> int:
    """Start all checkouts, measure, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkouts", description=__doc__)
    parser.add_argument("checkouts", nargs="*", type=Path, metavar="DIR", help="the first one is the reference")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a window")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for all windows")
    parser.add_argument("--results", type=Path, required=True, help="file of JSON lines, to which blocks are added")
    parser.add_argument("--workload", type=Path, help="what an earlier run built; built anew without it")
    parser.add_argument("--through", default="", help="command that runs the measuring command, such as `nice -n -5`")
    parser.add_argument("--plans", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plans is not None:
        plans = {name: read_plan(plan) for name, plan in json.loads(arguments.plans.read_text()).items()}
        for _ in measure(plans, concurrencies=CONCURRENCIES, limit_s=arguments.limit, results=arguments.results):
            pass
        return 0
    if arguments.checkouts:
        serve_and_measure(arguments)
    sys.stdout.write(describe(arguments.results))
    return 0


def serve_and_measure(arguments: argparse.Namespace) -> None:
    """Run the windows in a process of their own, while all checkouts are up."""
    workload = arguments.workload or shared_workload(_BACKBONE)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pairs-")))
        plans = {}
        for checkout in arguments.checkouts:
            running = stack.enter_context(started(_system(checkout), workload, folder / checkout.name))
            plans[checkout.name] = running.plan(concurrency=1, seconds=arguments.seconds, warm_up_s=_WARM_UP_S)
        document = folder / "plans.json"
        document.write_text(json.dumps({name: json.loads(plan.to_json()) for name, plan in plans.items()}))
        command = [*shlex.split(arguments.through), sys.executable, "-m", "benchmarks.checkouts"]
        command += ["--plans", str(document), "--results", str(arguments.results), f"--limit={arguments.limit}"]
        subprocess.run(command, check=True)


def describe(results: Path) -> str:
    """Return a table of all blocks in a file: ratios of the other checkout over the first one."""
    blocks = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    lines = [
        "| checkout | concurrency | pairs | requests a second, ratio | p50, ms | gateway's CPU a request, ratio |",
        "|---|---|---|---|---|---|",
    ]
    for other in dict.fromkeys(block["other"] for block in blocks):
        for concurrency in CONCURRENCIES:
            windows = [b["windows"] for b in blocks if (b["other"], b["concurrency"]) == (other, concurrency)]
            pairs = [pair for w in windows for pair in ((w[0], w[1]), (w[3], w[2]))]
            if not pairs:
                continue
            rate = ratio_of_pairs([(a["rate"], b["rate"]) for a, b in pairs])
            p50 = difference_of_pairs([(a["latency_ms"]["p50"], b["latency_ms"]["p50"]) for a, b in pairs])
            cpu = ratio_of_pairs([(_cpu(a), _cpu(b)) for a, b in pairs])
            lines.append(
                f"| {other} | {concurrency} | {len(pairs)} | {rate.value:.3f} ({rate.low:.3f} to {rate.high:.3f}) "
                f"| {p50.value:+.2f} ({p50.low:+.2f} to {p50.high:+.2f}) "
                f"| {cpu.value:.3f} ({cpu.low:.3f} to {cpu.high:.3f}) |"
            )
    return "\n".join(lines) + "\n"


def _cpu(window: dict[str, Any]) -> float:
    return float(max(window["cpu_s"]["gateway"], 0.01) / window["requests"])


def _system(checkout: Path) -> System:
    # What a model server measures at its start would differ from one to the next.
    flags = (f"--precision={precisions()[-1]}", f"--num_streams={_STREAMS}", f"--max_batch_size={_MAX_BATCH}")
    return replace(fovea(checkout.name, checkout.name, *flags), directory=checkout.resolve())


if __name__ == "__main__":
    sys.exit(main())
