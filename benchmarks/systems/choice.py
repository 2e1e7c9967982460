"""Chooses the systems that a run measures on this machine, and gives the reason for each that is left out."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from benchmarks.systems.fovea import fovea, fovea_apart, gateway_alone, model_server_alone
from benchmarks.systems.pairs import apart_at, fovea_at, rivals_of
from benchmarks.systems.peers import PEERS, build_environment, default_cache, peers
from benchmarks.systems.system import System
from benchmarks.systems.tfserving import find_image, tensorflow_serving
from engine.loading import list_precisions


def precisions() -> tuple[str, ...]:
    """Return what this machine can run a model at: float32, then the fastest one that it has, if it has one."""
    return list_precisions("openvino")[:2]


def foveas() -> list[System]:
    """Return Fovea at each of these precisions."""
    return [fovea(fovea_at(name), f"Fovea, {name}", f"--precision={name}") for name in precisions()]


def choose_rivals(systems: Sequence[System]) -> list[System]:
    """Return the Foveas that some of these systems are measured in turns with."""
    names = {rival for system in systems for rival in rivals_of(system.name, precisions())}
    return [system for system in foveas() if system.name in names]


def choose_systems(wanted: str) -> tuple[list[System], dict[str, str]]:
    """Return what is measured, and for what is not the reason.

    Args:
        wanted: names separated by commas; empty for all.
    """
    skipped: dict[str, str] = {}
    systems = [
        *foveas(),
        *(fovea_apart(apart_at(name), f"Fovea apart, {name}", f"--precision={name}") for name in precisions()),
        fovea("fovea-tensorflow", "Fovea on its TensorFlow engine", "--engine=tensorflow"),
        model_server_alone(precisions()[-1]),
        gateway_alone(),
    ]
    names = [name for name in wanted.split(",") if name]
    try:
        systems += tensorflow_serving(find_image())
    except LookupError as err:
        skipped["tfserving-rest"] = skipped["tfserving-grpc"] = str(err)
    systems += peers(default_cache(), precisions())
    chosen = [system for system in systems if not names or system.name in names]
    unbuilt = _build_environments({name for name in map(environment_of, chosen) if name})
    skipped |= {system.name: unbuilt[environment_of(system)] for system in chosen if environment_of(system) in unbuilt}
    return [system for system in chosen if system.name not in skipped], skipped


def _build_environments(names: set[str]) -> dict[str, str]:
    """Build the peers' environments; return why those cannot be that cannot."""
    unbuilt = {}
    for name in sorted(names):
        try:
            build_environment(default_cache(), name)
        except subprocess.SubprocessError as err:
            unbuilt[name] = f"its environment cannot be built: {err}"
    return unbuilt


def environment_of(system: System) -> str:
    """Return the peer whose environment a system runs in; empty for Fovea's own."""
    name = system.name.partition("-engine")[0]
    return name if name in PEERS else ""
