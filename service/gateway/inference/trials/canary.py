"""Lets a candidate answer requests, and stops it by its errors or latency."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from contract.errors import StoreError
from contract.store import ModelStore
from contract.trials.trial import CANARY, Trial
from service.gateway.context.errors import (
    DeadlineError,
    GatewayError,
    NotLoadedError,
    UnreachableError,
)
from service.gateway.context.request_context import RequestContext
from service.gateway.inference.image_results import Answer, count_images
from service.gateway.inference.trials.recorder import TrialRecorder
from service.gateway.inference.trials.stop_rule import StopLimits, StopRule
from service.gateway.inference.versioned_call import ImageTask, VersionedCall
from service.gateway.telemetry.trial_metrics import TrialMetrics

T = TypeVar("T")

logger = logging.getLogger("fovea.trials")

_LEAST_GIVEN_S = 1.0

# Figures that count failed calls, and the outcomes that metrics call them.
OUTCOMES: Mapping[str, str] = {"errors": "error", "not_loaded": "not_loaded", "unreachable": "unreachable"}


@dataclass(slots=True)
class _Watch:
    """What this gateway knows of one canary."""

    started: str
    rule: StopRule
    stopped: str | None = None


class Canary:
    """Answers by candidates, while their canaries last.

    Args:
        call: answers by one version.
        store: where a stop is written; None without one.
        limits: by which canaries stop.
        recorder: keeps the figures.
        metrics: of trials.
    """

    def __init__(
        self,
        call: VersionedCall,
        store: ModelStore | None,
        *,
        limits: StopLimits,
        recorder: TrialRecorder,
        metrics: TrialMetrics,
    ) -> None:
        self._call = call
        self._store = store
        self._limits = limits
        self._recorder = recorder
        self._metrics = metrics
        self._watches: dict[str, _Watch] = {}
        self._writes: set[asyncio.Task[None]] = set()  # the event loop itself does not keep them

    def apply_stop(self, name: str, trial: Trial) -> Trial:
        """Return a trial as it is for this gateway, which may have stopped a canary that the index does not."""
        if trial.canary == 0:
            self._watches.pop(name, None)  # started again, it is judged anew
            return trial
        watch = self._watches.get(name)
        if watch is None or watch.stopped is None or watch.started != trial.started:
            return trial
        return trial.with_stop(watch.stopped)

    async def answer(self, name: str, trial: Trial, task: ImageTask[T]) -> Answer[T] | None:
        """Answer by the candidate; None if the live version is to answer instead."""
        start = time.perf_counter()
        given_s = time_given(task.context)
        try:
            answer = await self._call.run_by(name, trial.version, task)
        except GatewayError as err:
            if err.status_code < 500:  # the request does not fit the candidate; the live version says why, or answers
                return None
            if is_impatient(err, given_s):
                return None
            outcome = outcome_of(err)
            self._recorder.figures(name, trial, CANARY).count(outcome)
            self._metrics.count(name, trial.version, CANARY, OUTCOMES[outcome])
            if outcome == "errors":
                self._record(name, trial, None, by_candidate=True)
            return None
        seconds = time.perf_counter() - start
        images, warned = count_images(answer)
        figures = self._recorder.figures(name, trial, CANARY)
        figures.answers += 1
        figures.images += images
        figures.warned += warned
        figures.seconds.add(seconds)
        self._metrics.count(name, trial.version, CANARY, "ok", seconds=seconds, warned=warned)
        self._record(name, trial, seconds, by_candidate=True)
        return replace(answer, is_canary=True)

    def record_live(self, name: str, trial: Trial, answer: Answer[T] | None, seconds: float) -> None:
        """Record a call that the live version answered beside the canary; None for an error."""
        figures = self._recorder.figures(name, trial, CANARY)
        if answer is None:
            figures.live_errors += 1
            self._record(name, trial, None, by_candidate=False)
            return
        images, warned = count_images(answer)
        figures.live_answers += 1
        figures.live_images += images
        figures.live_warned += warned
        figures.live_seconds.add(seconds)
        self._record(name, trial, seconds, by_candidate=False)

    async def close(self) -> None:
        """Wait until stops are written."""
        await asyncio.gather(*self._writes, return_exceptions=True)

    def _record(self, name: str, trial: Trial, seconds: float | None, *, by_candidate: bool) -> None:
        watch = self._watches.get(name)
        if watch is None or watch.started != trial.started:
            watch = self._watches[name] = _Watch(trial.started, StopRule(self._limits))
        watch.rule.record(seconds, by_candidate=by_candidate)
        if by_candidate and watch.stopped is None and (reason := watch.rule.reason()) is not None:
            watch.stopped = reason
            logger.error("the canary of %s/%s is stopped: %s", name, trial.version, reason)
            write = asyncio.create_task(self._write_stop(name, trial, reason), context=contextvars.Context())
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)

    async def _write_stop(self, name: str, trial: Trial, reason: str) -> None:
        if self._store is None:
            return
        try:
            await asyncio.to_thread(self._store.stop_canary, name, trial, reason)
        except StoreError as err:
            logger.error("the stop of %s/%s holds for this gateway alone: %s", name, trial.version, err)


def time_given(context: RequestContext) -> float:
    """Return how long a client waits from now on, seconds."""
    return math.inf if context.deadline is None else context.deadline - time.monotonic()


def is_impatient(error: GatewayError, given_s: float) -> bool:
    """Say whether a call failed because its client gave less time than a version must be able to answer in."""
    return isinstance(error, DeadlineError) and given_s < _LEAST_GIVEN_S


def outcome_of(error: GatewayError) -> str:
    """Return the figure that counts a failed call: not loaded yet, or a model server that is away, is no error."""
    if isinstance(error, NotLoadedError):
        return "not_loaded"
    return "unreachable" if isinstance(error, UnreachableError) else "errors"
