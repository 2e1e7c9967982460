"""Turns the CPU time of one image into cores, pods, bandwidth and status calls of a fleet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.systems.pairs import apart_at, fovea_at

CONCURRENCY: Final = "8"  # at which costs are taken: enough for both cores of the measuring machine
SIDE: Final = 224  # pixels of the measured network's input
POLLS_A_SECOND: Final = 1.0  # of each gateway at each server, for each model
MAX_SERVERS: Final = 50  # that one gateway should poll


@dataclass(frozen=True, slots=True)
class Costs:
    """The measured costs of one image.

    Attributes:
        gateway_ms: CPU time in the gateway.
        server_ms: CPU time in the model server.
        picture_bytes: of the uploaded file.
        tensor_bytes: between gateway and model server.
        precision: of the model server.
        machine: where it was measured.
    """

    gateway_ms: float
    server_ms: float
    picture_bytes: int
    tensor_bytes: int
    precision: str
    machine: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """The machines for a rate.

    Attributes:
        rate: images a second.
        gateway_cores: busy cores of all gateways.
        server_cores: busy cores of all model servers.
        gateways: pods.
        servers: pods.
        cores: of all pods.
        tensor_gbit: between gateways and model servers, Gbit/s.
        picture_gbit: from clients, Gbit/s.
        polls: status calls a second, all together, with one model.
    """

    rate: float
    gateway_cores: float
    server_cores: float
    gateways: int
    servers: int
    cores: int
    tensor_gbit: float
    picture_gbit: float
    polls: float


def read_costs(serving: Mapping[str, Any], precision: str) -> Costs | None:
    """Return the costs of an image at a precision; None if Fovea was not measured at it in two processes.

    Args:
        serving: the results of `python -m benchmarks serving`.
        precision: such as "float32".
    """
    systems = [serving["systems"].get(name, {}) for name in (apart_at(precision), fovea_at(precision))]
    costs = [system["concurrency"][CONCURRENCY]["cpu_ms"] for system in systems if "concurrency" in system]
    cpu_ms = next((one for one in costs if {"gateway", "modelserver"} <= one.keys()), None)
    if cpu_ms is None:
        return None
    machine = serving["machine"]
    return Costs(
        gateway_ms=cpu_ms["gateway"],
        server_ms=cpu_ms["modelserver"],
        picture_bytes=serving["picture_bytes"],
        tensor_bytes=SIDE * SIDE * 3,
        precision=precision,
        machine=f"{machine['cpu']}, {machine['cores']} cores, {serving['measured'][:10]}",
    )


def size_fleet(costs: Costs, rate: float, *, use: float, gateway_cores: int, server_cores: int) -> Fleet:
    """Return the fleet for a rate.

    Args:
        costs: of one image.
        rate: images a second.
        use: share of its cores that a pod may have busy, above 0 and at most 1.
        gateway_cores: of a gateway's pod.
        server_cores: of a model server's pod.
    """
    busy_gateways, busy_servers = rate * costs.gateway_ms / 1000, rate * costs.server_ms / 1000
    gateways = math.ceil(busy_gateways / use / gateway_cores)
    servers = math.ceil(busy_servers / use / server_cores)
    return Fleet(
        rate=rate,
        gateway_cores=busy_gateways,
        server_cores=busy_servers,
        gateways=gateways,
        servers=servers,
        cores=gateways * gateway_cores + servers * server_cores,
        tensor_gbit=rate * costs.tensor_bytes * 8 / 1e9,
        picture_gbit=rate * costs.picture_bytes * 8 / 1e9,
        polls=gateways * servers * POLLS_A_SECOND,
    )


def find_bottleneck(fleet: Fleet) -> str:
    """Return what limits a fleet next, in words."""
    if fleet.servers > MAX_SERVERS:
        return (
            f"status calls, {fleet.servers} model servers polled by each gateway every second; beyond {MAX_SERVERS} "
            "split the fleet into cells with gateways of their own"
        )
    if fleet.gateway_cores > fleet.server_cores:
        return "the gateways' CPU: decoding costs more than the model; smaller pictures, or gateways beside the servers"
    return "the model servers' CPU: a faster precision, a smaller network or an accelerator"
