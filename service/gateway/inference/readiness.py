"""Checks that live models can answer: by their state on the model server, and by a warm prediction of each version."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from contract.errors import ContractError
from contract.predictions import decode_predictions
from service.gateway.backend.backend import AVAILABLE, VersionStatus
from service.gateway.backend.model_server import ModelServer
from service.gateway.context.errors import (
    BrokenContractError,
    DrainingError,
    GatewayError,
    ModelNotFoundError,
    NoModelError,
    NotLoadedError,
    UnavailableError,
)
from service.gateway.inference.contract_cache import ContractCache
from service.gateway.inference.signature import PREDICT, PROBABILITIES
from service.gateway.inference.version_resolution import Catalog, Choice
from service.gateway.telemetry.metrics import Metrics

logger = logging.getLogger("fovea.readiness")

_READY_INTERVAL_S = 1.0
_WAITING_INTERVAL_S = 0.2
_ENDED = "END"  # the state of a version that will not load
_MAX_NAMED = 10  # models that one message names


class _LoadFailedError(NotLoadedError):
    """Every version that may answer for a model has ended; none is on its way."""


@dataclass(slots=True)
class _Survey:
    """Each model of the catalogue: the version that answers, or the error that keeps it from answering.

    `only_candidates`: no model has a live version, and one has a candidate; `unreachable` is the model server's error
    then.
    """

    models: dict[str, int] = field(default_factory=dict)
    pending: dict[str, GatewayError] = field(default_factory=dict)
    failed: dict[str, GatewayError] = field(default_factory=dict)
    only_candidates: bool = False
    unreachable: GatewayError | None = None


class Readiness:
    """Watches the models that are live and decides whether the gateway is ready.

    The gateway becomes ready when every live model has answered a warm prediction or has failed, and at least one has
    answered. It stays ready while one model answers: a model that is published later does not hold it. Models without
    a live version are not waited for; where there are no others, the model server has to answer. After the
    connection to the model server was lost, the models that answered before must answer again.

    Attributes:
        models: the models that can answer, with the version that would.
        pending: why other live models do not answer yet, by name.
        failed: why live models cannot answer, by name: their versions failed to load or break their contract.
        waiting_for: the error of `/readyz`; None when ready.
    """

    def __init__(self, backend: ModelServer, catalog: Catalog, *, contracts: ContractCache, metrics: Metrics) -> None:
        self.models: dict[str, int] = {}
        self.pending: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.waiting_for: GatewayError | None = UnavailableError("the gateway is starting")
        self._backend = backend
        self._catalog = catalog
        self._contracts = contracts
        self._metrics = metrics
        self._warmed: set[tuple[str, int]] = set()
        self._answered: set[str] | None = None  # models that have answered; None until the gateway was ready once
        self._is_settled = False  # whether nothing was missing since the connection was made
        self._generation = backend.generation
        self._draining = False

    def drain(self) -> None:
        """Stop being ready, for good: the process is about to stop."""
        self._draining = True
        self._become(_Survey(), DrainingError("the gateway is stopping"))

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
            self._is_settled = False
        survey = await self._survey()
        if not self._draining:
            self._become(survey, self._judge(survey))

    async def _survey(self) -> _Survey:
        survey = _Survey()
        for name in self._catalog.names():
            await asyncio.sleep(0)  # a model server of this process answers without a pause: requests go in between
            try:
                survey.models[name] = await self._check_model(name)
            except ModelNotFoundError:
                continue  # it left the index since
            except (_LoadFailedError, BrokenContractError) as err:
                survey.failed[name] = err
            except GatewayError as err:
                survey.pending[name] = err
        candidates = self._catalog.unpromoted()
        if candidates and not (survey.models or survey.pending or survey.failed):
            survey.only_candidates = True
            try:
                await self._states(next(iter(candidates)))
            except GatewayError as err:
                survey.unreachable = err
        return survey

    def _judge(self, survey: _Survey) -> GatewayError | None:
        """Return the reason for which the gateway is not ready; None if it is ready."""
        if not survey.models:
            self._is_settled = False
        must_answer = survey.pending.keys() if self._answered is None else survey.pending.keys() & self._answered
        if survey.models and (self._is_settled or not must_answer):
            self._is_settled = True
            answered = survey.models.keys() | (self._answered or set())
            self._answered = answered & (survey.models.keys() | survey.pending.keys() | survey.failed.keys())
            return None
        holding = {name: err for name, err in survey.pending.items() if name in must_answer}
        missing = holding or survey.pending or survey.failed
        if survey.only_candidates:
            return survey.unreachable
        if not missing:
            return NoModelError(self._catalog.describe_nothing())
        if len({str(err) for err in missing.values()}) == 1 and not (survey.models or survey.failed):
            return next(iter(missing.values()))  # one model, or one reason for all
        return _join_errors(missing, {} if missing is survey.failed else survey.failed)

    async def _check_model(self, name: str) -> int:
        """Return the version that would answer now, warm."""
        states = await self._states(name)
        available = {number for number, status in states.items() if status.state == AVAILABLE}
        self._contracts.keep_only(name, available)
        self._warmed -= {key for key in self._warmed if key[0] == name and key[1] not in available}
        versions = await self._candidates(name, states)
        for version in versions:
            if version in available:
                await self._warm(name, version)
                self._catalog.record_answering(name, version)
                return version
        raise _describe(name, versions, states=states)

    async def _candidates(self, name: str, states: Mapping[int, VersionStatus]) -> Sequence[int]:
        """Return the versions that may answer for a model, the preferred one first."""
        try:
            return (await self._catalog.resolve(Choice(name))).versions
        except NotLoadedError:  # the model server chooses, and has none that is AVAILABLE
            if not states:
                raise
            return sorted(states, reverse=True)

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
        reply = await self._backend.infer(name, PREDICT, {"images": black}, outputs=[PROBABILITIES], version=version)
        try:
            decode_predictions(reply.outputs[PROBABILITIES], contract.labels, 1)
        except ContractError as err:
            raise BrokenContractError(f"{name}/{version} does not answer as its contract says: {err}") from err
        self._warmed.add((name, version))

    def _become(self, survey: _Survey, waiting_for: GatewayError | None) -> None:
        models = survey.models
        failed = {name: str(err) for name, err in survey.failed.items()}
        if not waiting_for and (models != self.models or self.waiting_for):
            answering = ", ".join(f"{name} version {number}" for name, number in models.items())
            logger.info("ready: %s", answering or "no model has a live version")
        if failed != self.failed and failed:
            logger.warning("cannot answer: %s", "; ".join(f"{name}: {reason}" for name, reason in failed.items()))
        if waiting_for and str(waiting_for) != str(self.waiting_for):
            logger.info("not ready: %s", waiting_for)
        self.pending = {name: str(err) for name, err in survey.pending.items()}
        self.models, self.failed, self.waiting_for = models, failed, waiting_for
        self._metrics.set_ready(waiting_for is None)


def _join_errors(missing: Mapping[str, GatewayError], failed: Mapping[str, GatewayError]) -> GatewayError:
    """Return one error that names every model that is missing, then those that failed; its code is the first one's."""
    text = _list_reasons(missing)
    first = next(iter(missing.values()))
    return type(first)(f"{text}; failed: {_list_reasons(failed)}" if failed else text)


def _list_reasons(errors: Mapping[str, GatewayError]) -> str:
    reasons = [f"{name}: {err}" for name, err in errors.items()]
    more = len(reasons) - _MAX_NAMED
    return "; ".join([*reasons[:_MAX_NAMED], f"and {more} more models"] if more > 0 else reasons)


def _describe(name: str, versions: Sequence[int], *, states: Mapping[int, VersionStatus]) -> NotLoadedError:
    """Return why a model does not answer: about the version that is on its way, else about the preferred one."""
    if versions[0] not in states:
        return NotLoadedError(f"version {versions[0]} of {name} is not known to the model server yet")
    known = [states[version] for version in versions if version in states]
    on_its_way = next((status for status in known if status.state != _ENDED), None)
    if on_its_way is not None:
        return NotLoadedError(f"version {on_its_way.version} of {name} is loading (state {on_its_way.state})")
    preferred = known[0]
    if preferred.error_code == "OK":
        return _LoadFailedError(f"version {preferred.version} of {name} was unloaded by the model server")
    reason = f"failed to load ({preferred.error_code}); the model server's log says why"
    return _LoadFailedError(f"version {preferred.version} of {name} {reason}")
