"""Splits the time of a call into stages, from the metrics of Fovea's own programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.parser import text_string_to_metric_families

Totals = Mapping[str, tuple[float, float]]  # seconds and calls, by what they were spent on

_ROUTE = "/v1/predict"
_NAMES = {
    "fovea_request_seconds": "gateway",
    "fovea_stage_seconds": "",  # its label says which
    "fovea_modelserver_request_seconds": "model server",
    "fovea_modelserver_queue_seconds": "wait",
    "fovea_modelserver_run_seconds": "run",
}
_STAGES = ("read", "queue", "decode", "model", "encode")


def read_totals(expositions: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Return what has been counted since the programs started.

    Args:
        expositions: of their metrics, in Prometheus's text format.
    """
    totals: dict[str, tuple[float, float]] = {}
    for text in expositions:
        for name, seconds, calls in _read_sums(text):
            earlier = totals.get(name, (0.0, 0.0))
            totals[name] = earlier[0] + seconds, earlier[1] + calls
    return totals


def _read_sums(text: str) -> Iterator[tuple[str, float, float]]:
    for family in text_string_to_metric_families(text):
        if family.name in _NAMES:
            for sample in family.samples:
                name = sample.labels.get("stage") or _NAMES[family.name]
                if sample.labels.get("route", _ROUTE) != _ROUTE:
                    continue
                if sample.name.endswith("_sum"):
                    yield name, sample.value, 0.0
                elif sample.name.endswith("_count"):
                    yield name, 0.0, sample.value


def split_call(before: Totals, after: Totals, *, client_ms: float) -> dict[str, float]:
    """Return the parts of a mean call between two readings, milliseconds; they add up to `client_ms`.

    Args:
        before: the first reading.
        after: the second one.
        client_ms: mean of the same calls as their client saw it.
    """

    def mean(name: str) -> float:
        seconds, calls = after[name][0] - before[name][0], after[name][1] - before[name][1]
        return 1e3 * seconds / calls

    stages = {name: mean(name) for name in _STAGES}
    server, wait, run = mean("model server"), mean("wait"), mean("run")
    gateway = mean("gateway")
    return {
        "client, kernel and HTTP": client_ms - gateway,
        "gateway: reading the body": stages["read"],
        "gateway: decoding": stages["decode"],
        "gateway: writing the reply": stages["encode"],
        "gateway: all else": gateway - sum(stages.values()) + stages["queue"],
        "gRPC, both ways": stages["model"] - server,
        "model server: waking the thread that runs": wait,
        "model server: inference": run,
        "model server: all else": server - wait - run,
    }
