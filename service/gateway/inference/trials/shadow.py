"""Asks candidates what live versions have answered, and compares; the answers are dropped."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable
from typing import Any

from contract.trials.trial import SHADOW, Trial
from service.gateway.context.errors import GatewayError
from service.gateway.context.request_context import RequestContext
from service.gateway.inference.image_results import Answer, Classified, count_images
from service.gateway.inference.prediction import PredictSignature
from service.gateway.inference.trials.canary import OUTCOMES, outcome_of
from service.gateway.inference.trials.recorder import TrialRecorder
from service.gateway.inference.versioned_call import ImageTask, VersionedCall
from service.gateway.telemetry.trial_metrics import TrialMetrics

logger = logging.getLogger("fovea.trials")

_CALLER = "shadow"  # one caller of the decoder, for all requests


class Shadow:
    """Makes a bounded number of shadow calls at a time; what is beyond it, or comes while requests wait, is dropped.

    Args:
        call: answers by one version.
        recorder: keeps the figures.
        metrics: of trials.
        max_in_flight: most calls at a time.
        is_busy: says whether requests need the room.
    """

    def __init__(
        self,
        call: VersionedCall,
        *,
        recorder: TrialRecorder,
        metrics: TrialMetrics,
        max_in_flight: int,
        is_busy: Callable[[], bool],
    ) -> None:
        self._call = call
        self._recorder = recorder
        self._metrics = metrics
        self._max_in_flight = max_in_flight
        self._is_busy = is_busy
        self._calls: set[asyncio.Task[None]] = set()

    def start(self, name: str, trial: Trial, task: ImageTask[Any], *, live: Answer[Classified], seconds: float) -> None:
        """Ask the candidate after the live version has answered, without waiting for it.

        Args:
            name: the model.
            trial: of its candidate.
            task: of the request.
            live: what the live version answered.
            seconds: how long that took.
        """
        if len(self._calls) >= self._max_in_flight or self._is_busy():
            self._recorder.figures(name, trial, SHADOW).count("dropped")
            self._metrics.count(name, trial.version, SHADOW, "dropped")
            return
        shadow = ImageTask(
            PredictSignature(top=1), task.images.by_caller(_CALLER), RequestContext(task.context.id), is_shadow=True
        )
        # Nothing of the request: its deadline, its log fields and its span end with it.
        call = asyncio.create_task(self._compare(name, trial, shadow, live, seconds), context=contextvars.Context())
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def close(self) -> None:
        """Cancel the calls that are made."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _compare(
        self, name: str, trial: Trial, task: ImageTask[Classified], live: Answer[Classified], live_seconds: float
    ) -> None:
        start = time.perf_counter()
        try:
            found = await self._call.run_by(name, trial.version, task)
        except GatewayError as err:
            self._count_failure(name, trial, outcome_of(err))
            return
        except Exception:
            logger.exception("a shadow call of %s/%s failed", name, trial.version)
            self._count_failure(name, trial, "errors")
            return
        seconds = time.perf_counter() - start
        agreed = _count_agreed(live, found)
        images, warned = count_images(found)
        live_images, live_warned = count_images(live)
        figures = self._recorder.figures(name, trial, SHADOW)
        figures.answers += 1
        figures.images += images
        figures.agreed += agreed
        figures.warned += warned
        figures.live_answers += 1
        figures.live_images += live_images
        figures.live_warned += live_warned
        figures.seconds.add(seconds)
        figures.live_seconds.add(live_seconds)
        self._metrics.count(name, trial.version, SHADOW, "ok", seconds=seconds, warned=warned)
        self._metrics.count_agreement(name, trial.version, same=agreed, other=images - agreed)

    def _count_failure(self, name: str, trial: Trial, outcome: str) -> None:
        self._recorder.figures(name, trial, SHADOW).count(outcome)
        self._metrics.count(name, trial.version, SHADOW, OUTCOMES[outcome])


def _count_agreed(one: Answer[Classified], other: Answer[Classified]) -> int:
    """Return the number of images in which both found the same class most probable."""
    return sum(
        isinstance(a, Classified) and isinstance(b, Classified) and a.top[0].id == b.top[0].id
        for a, b in zip(one.entries, other.entries, strict=True)
    )
