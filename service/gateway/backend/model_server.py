"""The calls that the gateway makes, whether one model server answers them or a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from contract.model import ModelContract
from service.gateway.backend.backend import ModelReply, TensorOutputs, VersionStatus


class ModelServer(Protocol):
    """One model server (`Backend`) or several (`ServerPool`); `Backend` describes the methods."""

    @property
    def generation(self) -> int:
        """Grows when what is known of versions is stale."""

    @property
    def precisions(self) -> Mapping[tuple[str, int], str]:
        """At which versions predict, by name and version, as last answers said; of several servers joined by "+"."""

    async def open(self) -> None:
        """Start connecting."""

    async def close(self) -> None:
        """Close the connections."""

    async def infer(
        self,
        name: str,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        *,
        outputs: Sequence[str],
        version: int | None = None,
        deadline: float | None = None,
    ) -> ModelReply:
        """Run a signature on images."""

    async def describe(self, name: str, version: int) -> ModelContract:
        """Return a version's contract."""

    async def run(
        self,
        name: str,
        signature: str,
        *,
        version: int,
        inputs: Mapping[str, NDArray[Any]],
        deadline: float | None = None,
    ) -> TensorOutputs:
        """Run any signature on a client's own numbers."""

    async def signatures(self, name: str, version: int, *, deadline: float | None = None) -> dict[str, Any]:
        """Return a version's SignatureDef messages by signature name."""

    async def status(self, name: str) -> tuple[VersionStatus, ...]:
        """Return the state of every version, newest first."""
