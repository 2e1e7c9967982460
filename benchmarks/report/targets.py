"""Compares measured results with the targets for a machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.systems.pairs import PLAIN_PEER, PYTHON_PEERS, engine_peers, fovea_at

SHARE_OF_LIMIT = 0.85
# "amx" is the fastest precision on a machine with that unit, "fast" on others.
OVER_FASTAPI = {"float32": 2.5, "fast": 6.5, "amx": 12.0}
OVER_PEERS = {"float32": 1.5, "fast": 3.5, "amx": 6.0}
OVERHEAD_MS = 3.0
TAIL = 3.0
BUSY, QUIET = "8", "1"  # concurrencies that the targets are about


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes:
        text: what is asked.
        measured: in `unit`.
        wanted: in `unit`.
        unit: such as "requests/s"; "times" is Fovea's rate over a peer's.
        at_least: whether more is better.
    """

    text: str
    measured: float
    wanted: float
    unit: str
    at_least: bool = True

    @property
    def digits(self) -> int:
        """Digits after the point that tell `measured` from `wanted`."""
        return 2 if self.unit == "times" else 1

    @property
    def is_met(self) -> bool:
        """True if it is reached."""
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted

    @property
    def verdict(self) -> str:
        """In words, with how far it is missed."""
        if self.is_met:
            return "met"
        return f"missed by {abs(self.measured - self.wanted) / self.wanted:.0%}"


def find_targets(serving: Mapping[str, Any]) -> Iterator[tuple[str, list[Target]]]:
    """Yield each precision with its targets.

    Args:
        serving: the results of `python -m benchmarks serving`.
    """
    for precision, limit in serving["limit"].items():
        own = serving["systems"].get(fovea_at(precision), {}).get("concurrency")
        if own:
            yield precision, list(_targets(serving, own, limit, precision))


def closest_of(systems: Mapping[str, Any], names: Iterable[str], fovea: str) -> tuple[str, float] | None:
    """Return which of some peers a Fovea is least ahead of in their turns, and its rate over that peer's."""
    compared = {name: systems.get(name, {}).get("against", {}).get(fovea, {}).get("ratio") for name in names}
    ratios = {name: ratio for name, ratio in compared.items() if ratio is not None}
    return min(ratios.items(), key=lambda item: item[1]) if ratios else None


def _targets(
    serving: Mapping[str, Any], own: Mapping[str, Any], limit: Mapping[str, Any], precision: str
) -> Iterator[Target]:
    share = SHARE_OF_LIMIT * limit["images_per_s"]
    text = f"{SHARE_OF_LIMIT} of the limit ({limit['images_per_s']:.1f})"
    yield Target(text, own[BUSY]["rate"], share, "requests/s")
    yield from _peer_targets(serving, precision)
    floor = limit["engine_ms"] + limit["decode_ms"]
    text = f"p50 at concurrency 1: engine {limit['engine_ms']:.1f} + decode {limit['decode_ms']:.1f} + {OVERHEAD_MS} ms"
    yield Target(text, own[QUIET]["latency_ms"]["p50"], floor + OVERHEAD_MS, "ms", at_least=False)
    latency = own[BUSY]["latency_ms"]
    text = f"p99 at concurrency 8: at most {TAIL:.0f} times p50 ({latency['p50']:.0f})"
    yield Target(text, latency["p99"], TAIL * latency["p50"], "ms", at_least=False)


def _peer_targets(serving: Mapping[str, Any], precision: str) -> Iterator[Target]:
    """Yield those that are told by turns of peers and Fovea; none where there were no such turns."""
    systems, kind = serving["systems"], "float32"
    if precision != "float32":
        kind = "amx" if "amx_bf16" in serving["machine"]["vector_units"] else "fast"
    asked = [
        ((PLAIN_PEER,), OVER_FASTAPI[kind], f"{OVER_FASTAPI[kind]} times"),
        (PYTHON_PEERS, OVER_PEERS[kind], f"{OVER_PEERS[kind]} times the best Python peer:"),
        (engine_peers(precision), 1.0, "not slower than the best peer on our engine:"),
    ]
    for names, factor, text in asked:
        if closest := closest_of(systems, names, fovea_at(precision)):
            peer, ratio = closest
            title, rate = systems[peer]["title"], systems[peer]["concurrency"][BUSY]["rate"]
            yield Target(f"{text} {title} ({rate:.1f})", ratio, factor, "times")


def split_cpu(own: Mapping[str, Any], limit: Mapping[str, Any], cores: int) -> dict[str, float]:
    """Return where the core time of one request goes at concurrency 8, milliseconds; the parts add up to the whole.

    Inference and decoding are what they take alone, as in the limit; what Fovea uses beyond that is its own.
    """
    window = own[BUSY]
    whole = 1e3 * cores / window["rate"]
    own_ms = sum(window["cpu_ms"].values())
    others = 1e3 * window["others_cores"] / window["rate"]
    parts = {
        "inference, as in the limit": limit["inference_cpu_ms"],
        "decoding, as in the limit": limit["decode_cpu_ms"],
        "Fovea beyond both": own_ms - limit["inference_cpu_ms"] - limit["decode_cpu_ms"],
        "load generator": window["generator_cpu_ms"],
        "other programs on the machine": others,
    }
    return {**parts, "cores idle, or taken by the host": whole - sum(parts.values())}
