"""Pairs each peer with the Fovea that it is compared with, by their names in results."""

from __future__ import annotations

from collections.abc import Iterable

PLAIN_PEER = "fastapi"
PYTHON_PEERS = ("litserve", "bentoml", "ray", "mosec")
_ENGINE_PEERS = ("litserve", "mosec")  # those that are also run on Fovea's engine


def fovea_at(precision: str) -> str:
    """Return the name of Fovea at a precision."""
    return f"fovea-{precision}"


def apart_at(precision: str) -> str:
    """Return the name of Fovea at a precision, its gateway and model server in processes of their own."""
    return f"fovea-apart-{precision}"


def precision_of(fovea: str) -> str:
    """Return the precision of what `fovea_at` named."""
    return fovea.removeprefix(fovea_at(""))


def engine_peer(name: str, precision: str) -> str:
    """Return the name of a peer on Fovea's engine."""
    return f"{name}-engine-{precision}"


def engine_peers(precision: str) -> tuple[str, ...]:
    """Return the names of the peers on Fovea's engine at a precision."""
    return tuple(engine_peer(name, precision) for name in _ENGINE_PEERS)


def rivals_of(name: str, precisions: Iterable[str]) -> list[str]:
    """Return the Foveas that a system is measured in turns with: none unless it is a peer.

    A peer on Keras is held against all of them, one on Fovea's engine against the one of its own precision.
    """
    of_keras = (PLAIN_PEER, *PYTHON_PEERS)
    return [fovea_at(precision) for precision in precisions if name in (*of_keras, *engine_peers(precision))]
