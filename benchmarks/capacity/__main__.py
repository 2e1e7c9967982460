"""`python -m benchmarks capacity --rate 10000`: the pods that a rate takes, computed from benchmarks/results."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.capacity.arithmetic import CONCURRENCY, Costs, Fleet, find_bottleneck, read_costs, size_fleet
from benchmarks.systems.pairs import apart_at

RESULTS = Path(__file__).resolve().parents[1] / "results"
PRECISIONS = ("float32", "bfloat16")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of each precision that was measured."""
    arguments = _parse(argv)
    try:
        serving = json.loads((arguments.results / "serving.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise SystemExit(
            f"--results: {arguments.results / 'serving.json'} cannot be read: {err}. "
            "It is measured by `python -m benchmarks serving`"
        ) from err
    costs = [cost for name in PRECISIONS if (cost := read_costs(serving, name)) is not None]
    if not costs:
        raise SystemExit(
            f"--results: {arguments.results / 'serving.json'} has no costs of a gateway and a model server: expected "
            f"one of {', '.join(map(apart_at, PRECISIONS))}. Received: {', '.join(serving['systems'])}"
        )
    sys.stdout.write(describe([(cost, _size(cost, arguments)) for cost in costs], arguments))
    return 0


def describe(fleets: Sequence[tuple[Costs, Fleet]], arguments: argparse.Namespace) -> str:
    """Return a table with a column for each precision, and what limits it next."""
    rows = [
        ("images a second", [f"{fleet.rate:,.0f}" for _, fleet in fleets]),
        ("gateway, CPU ms an image", [f"{costs.gateway_ms:.1f}" for costs, _ in fleets]),
        ("model server, CPU ms an image", [f"{costs.server_ms:.1f}" for costs, _ in fleets]),
        ("busy cores, gateways + model servers",
         [f"{fleet.gateway_cores:,.0f} + {fleet.server_cores:,.0f}" for _, fleet in fleets]),
        (f"gateway pods of {arguments.gateway_cores} cores", [f"{fleet.gateways:,}" for _, fleet in fleets]),
        (f"model server pods of {arguments.server_cores} cores", [f"{fleet.servers:,}" for _, fleet in fleets]),
        (f"cores in all, {arguments.use:.0%} busy", [f"{fleet.cores:,}" for _, fleet in fleets]),
        ("pictures in, Gbit/s", [f"{fleet.picture_gbit:.1f}" for _, fleet in fleets]),
        ("tensors between pods, Gbit/s", [f"{fleet.tensor_gbit:.1f}" for _, fleet in fleets]),
        ("status calls a second", [f"{fleet.polls:,.0f}" for _, fleet in fleets]),
    ]  # fmt: skip
    lines = [f"| ResNet50 | {' | '.join(costs.precision for costs, _ in fleets)} |", "|---|" + "---:|" * len(fleets)]
    lines += [f"| {name} | {' | '.join(values)} |" for name, values in rows]
    lines += ["", *(f"Next at {costs.precision}: {find_bottleneck(fleet)}." for costs, fleet in fleets)]
    sources = "; ".join(dict.fromkeys(costs.machine for costs, _ in fleets))
    lines.append(f"Costs at {CONCURRENCY} requests at a time, from benchmarks/results/serving.json: {sources}.")
    return "\n".join(lines) + "\n"


def _size(costs: Costs, arguments: argparse.Namespace) -> Fleet:
    return size_fleet(
        costs,
        arguments.rate,
        use=arguments.use,
        gateway_cores=arguments.gateway_cores,
        server_cores=arguments.server_cores,
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks capacity", description=__doc__)
    parser.add_argument("--rate", type=_above_zero, required=True, help="images a second")
    parser.add_argument("--use", type=_share, default=0.6, help="share of its cores that a pod may have busy")
    parser.add_argument("--gateway-cores", type=_count, default=2, help="of a gateway's pod")
    parser.add_argument("--server-cores", type=_count, default=8, help="of a model server's pod")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the measured results")
    return parser.parse_args(argv)


def _above_zero(text: str) -> float:
    return _number(text, 1e9, "a number above 0 and at most 1,000,000,000")


def _share(text: str) -> float:
    return _number(text, 1.0, "a share above 0 and at most 1")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 1024. Received: {text!r}")
    return int(text)


def _number(text: str, most: float, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"expected {expected}. Received: {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
