"""Whether requests can be answered now, found out by asking the model server, one warm prediction included."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import numpy as np

from contract.errors import ContractError
from contract.predictions import decode_predictions
from service.gateway.backend import AVAILABLE, Backend, VersionStatus
from service.gateway.catalog import Catalog, Choice
from service.gateway.contracts import ContractCache
from service.gateway.errors import (
    BrokenContractError,
    DrainingError,
    GatewayError,
    ModelNotFoundError,
    NoModelError,
    NotLoadedError,
    UnavailableError,
)
from service.gateway.metrics import Metrics

logger = logging.getLogger("fovea.readiness")

_READY_INTERVAL_S = 1.0
_WAITING_INTERVAL_S = 0.2


class Readiness:
    """Watches what is served and says whether it can answer.

    Attributes:
        models: the models that can answer, with the version that would.
        waiting_for: what is missing, as the error that a client would get; None when ready.
    """

    def __init__(self, backend: Backend, catalog: Catalog, *, contracts: ContractCache, metrics: Metrics) -> None:
        self.models: dict[str, int] = {}
        self.waiting_for: GatewayError | None = UnavailableError("the gateway is starting")
        self._backend = backend
        self._catalog = catalog
        self._contracts = contracts
        self._metrics = metrics
        self._warmed: set[tuple[str, int]] = set()
        self._generation = backend.generation
        self._draining = False

    def drain(self) -> None:
        """Stop being ready, for good: the process is about to stop."""
        self._draining = True
        self._become({}, DrainingError("the gateway is stopping"))

    async def watch(self) -> None:
        """Check for ever; to be cancelled."""
        while not self._draining:
            try:
                await self.check()
            except Exception:
                logger.exception("the check of readiness failed")
            await asyncio.sleep(_WAITING_INTERVAL_S if self.waiting_for else _READY_INTERVAL_S)

    async def check(self) -> None:
        """Ask about every model, and make one prediction with each version that has not made one yet."""
        if self._generation != self._backend.generation:
            self._generation = self._backend.generation
            self._warmed.clear()
        models: dict[str, int] = {}
        waiting_for: GatewayError = NoModelError(self._catalog.describe_nothing())
        for name in self._catalog.names():
            try:
                models[name] = await self._check_model(name)
            except ModelNotFoundError:
                continue  # it left the index since
            except GatewayError as err:
                waiting_for = err
        if not self._draining:
            self._become(models, None if models else waiting_for)

    async def _check_model(self, name: str) -> int:
        """Return the version that would answer now, warm."""
        states = await self._states(name)
        available = {number for number, status in states.items() if status.state == AVAILABLE}
        self._contracts.keep_only(name, available)
        self._warmed -= {key for key in self._warmed if key[0] == name and key[1] not in available}
        target = await self._catalog.resolve(Choice(name))
        for version in target.versions:
            if version in available:
                await self._warm(name, version)
                self._catalog.remember(name, version)
                return version
        raise NotLoadedError(_describe(name, target.versions[0], states=states))

    async def _states(self, name: str) -> dict[int, VersionStatus]:
        try:
            return {status.version: status for status in await self._backend.status(name)}
        except NotLoadedError:
            return {}

    async def _warm(self, name: str, version: int) -> None:
        """Predict a black image once; a model that answers nonsense is not ready."""
        if (name, version) in self._warmed:
            return
        contract = await self._contracts.fetch(name, version)
        black = np.zeros((1, *contract.input.shape), dtype=np.uint8)
        reply = await self._backend.predict(name, black, version=version)
        try:
            decode_predictions(reply.probabilities, contract.labels, 1)
        except ContractError as err:
            raise BrokenContractError(f"{name}/{version} does not answer as its contract says: {err}") from err
        self._warmed.add((name, version))

    def _become(self, models: dict[str, int], waiting_for: GatewayError | None) -> None:
        if models != self.models and models:
            logger.info("ready: %s", ", ".join(f"{name} version {number}" for name, number in models.items()))
        if waiting_for and str(waiting_for) != str(self.waiting_for):
            logger.info("not ready: %s", waiting_for)
        self.models, self.waiting_for = models, waiting_for
        self._metrics.set_ready(waiting_for is None)


def _describe(name: str, version: int, *, states: Mapping[int, VersionStatus]) -> str:
    if version not in states:
        return f"version {version} of {name} is not known to the model server yet"
    status = states[version]
    if status.error_code != "OK":
        return f"version {version} of {name} failed to load ({status.error_code}); the model server's log says why"
    return f"version {version} of {name} is loading (state {status.state})"
