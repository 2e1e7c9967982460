"""What Fovea should reach on a machine, and by how much it does or does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PYTHON_PEERS = ("litserve", "bentoml", "ray", "mosec")
ENGINE_PEERS = ("litserve-engine", "mosec-engine")  # each with its precision behind it
SHARE_OF_LIMIT = 0.75
OVER_FASTAPI = {"float32": 2.5, "fast": 6.0}
OVER_PEERS = {"float32": 1.5, "fast": 4.0}
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
        unit: such as "requests/s".
        at_least: whether more is better.
    """

    text: str
    measured: float
    wanted: float
    unit: str
    at_least: bool = True

    @property
    def is_met(self) -> bool:
        """Whether it is reached."""
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
        own = serving["systems"].get(f"fovea-{precision}", {}).get("concurrency")
        if own:
            yield precision, list(_targets(own, limit, serving["systems"], precision))


def rate_of(systems: Mapping[str, Any], name: str, concurrency: str = BUSY) -> float | None:
    """Return a system's requests a second; None where it was not measured."""
    windows = systems.get(name, {}).get("concurrency")
    return windows[concurrency]["rate"] if windows else None


def best_of(systems: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, float] | None:
    """Return the fastest of some systems under load, by title, and its rate."""
    rates = {systems[name]["title"]: rate for name in names if (rate := rate_of(systems, name))}
    return max(rates.items(), key=lambda item: item[1]) if rates else None


def _targets(own: Mapping[str, Any], limit: Mapping[str, Any], systems: Any, precision: str) -> Iterator[Target]:
    kind = "float32" if precision == "float32" else "fast"
    rate, unit = own[BUSY]["rate"], "requests/s"
    share = SHARE_OF_LIMIT * limit["images_per_s"]
    yield Target(f"{SHARE_OF_LIMIT} of the limit ({limit['images_per_s']:.1f})", rate, share, unit)
    if plain := rate_of(systems, "fastapi"):
        factor = OVER_FASTAPI[kind]
        yield Target(f"{factor} times FastAPI + model.predict ({plain:.1f})", rate, factor * plain, unit)
    if peer := best_of(systems, PYTHON_PEERS):
        factor = OVER_PEERS[kind]
        yield Target(f"{factor} times the best Python peer ({peer[0]}, {peer[1]:.1f})", rate, factor * peer[1], unit)
    if peer := best_of(systems, tuple(f"{name}-{precision}" for name in ENGINE_PEERS)):
        yield Target(f"not slower than the best peer on our engine ({peer[0]})", rate, peer[1], unit)
    floor = limit["engine_ms"] + limit["decode_ms"]
    text = f"p50 at concurrency 1: engine {limit['engine_ms']:.1f} + decode {limit['decode_ms']:.1f} + {OVERHEAD_MS} ms"
    yield Target(text, own[QUIET]["latency_ms"]["p50"], floor + OVERHEAD_MS, "ms", at_least=False)
    latency = own[BUSY]["latency_ms"]
    text = f"p99 at concurrency 8: at most {TAIL:.0f} times p50 ({latency['p50']:.0f})"
    yield Target(text, latency["p99"], TAIL * latency["p50"], "ms", at_least=False)


def split_cpu(own: Mapping[str, Any], limit: Mapping[str, Any], cores: int) -> dict[str, float]:
    """Return where the core time of one request goes at concurrency 8, milliseconds; the parts add up to the whole.

    Inference and decoding are what they take alone, as in the limit; what a process uses beyond that is its own.
    """
    window = own[BUSY]
    whole = 1e3 * cores / window["rate"]
    gateway, server = window["cpu_ms"]["gateway"], window["cpu_ms"]["modelserver"]
    others = 1e3 * window["others_cores"] / window["rate"]
    parts = {
        "inference, as in the limit": limit["inference_cpu_ms"],
        "decoding, as in the limit": limit["decode_cpu_ms"],
        "model server beyond inference": server - limit["inference_cpu_ms"],
        "gateway beyond decoding": gateway - limit["decode_cpu_ms"],
        "load generator": window["generator_cpu_ms"],
        "other programs on the machine": others,
    }
    return {**parts, "cores idle, or taken by the host": whole - sum(parts.values())}
