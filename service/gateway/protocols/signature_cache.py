"""Fetches a version's signatures from the model server and keeps them while it is connected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contract.tensors import read_shape
from service.gateway.backend.model_server import ModelServer
from service.gateway.protocols.tensor_json import TensorSpec

_MAX_REMEMBERED = 64  # versions


class SignatureCache:
    """The SignatureDef messages of versions, by name and version."""

    def __init__(self, backend: ModelServer) -> None:
        self._backend = backend
        self._generation = backend.generation
        self._known: dict[tuple[str, int], Mapping[str, Any]] = {}

    async def fetch(self, name: str, version: int, *, deadline: float | None = None) -> Mapping[str, Any]:
        """Return a version's SignatureDef messages by signature name.

        Raises:
            NotLoadedError: if that version is not loaded.
            GatewayError: if the model server fails.
        """
        if self._generation != self._backend.generation or len(self._known) > _MAX_REMEMBERED:
            self._generation = self._backend.generation
            self._known.clear()
        key = (name, version)
        if key not in self._known:
            self._known[key] = await self._backend.signatures(name, version, deadline=deadline)
        return self._known[key]

    def drop(self, name: str, version: int) -> None:
        """Forget a version that is no longer loaded."""
        self._known.pop((name, version), None)


def read_inputs(signature: Any) -> dict[str, TensorSpec]:
    """Return the inputs of a SignatureDef message by name."""
    return {alias: _read_spec(info) for alias, info in sorted(signature.inputs.items())}


def read_outputs(signature: Any) -> dict[str, TensorSpec]:
    """Return the outputs of a SignatureDef message by name."""
    return {alias: _read_spec(info) for alias, info in sorted(signature.outputs.items())}


def _read_spec(info: Any) -> TensorSpec:
    return TensorSpec(int(info.dtype), read_shape(info))
