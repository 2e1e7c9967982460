"""Answers requests that name no version, while the model's candidate is tried on live traffic."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar, cast

from contract.trials.findings import Figures
from contract.trials.trial import Trial
from service.gateway.context.errors import GatewayError
from service.gateway.context.request_context import RequestContext
from service.gateway.images.uploads import Upload
from service.gateway.inference.image_results import Answer
from service.gateway.inference.signature import PREDICT, Signature
from service.gateway.inference.trials.canary import Canary, is_impatient, time_given
from service.gateway.inference.trials.chosen import is_chosen, subject_of
from service.gateway.inference.trials.recorder import TrialRecorder
from service.gateway.inference.trials.shadow import Shadow
from service.gateway.inference.version_resolution import Catalog, Choice
from service.gateway.inference.versioned_call import ImageTask, VersionedCall

T = TypeVar("T")


class TrialCall:
    """Lets a candidate answer its share of a model's requests, and asks it its share of the others.

    Args:
        call: answers by one version.
        catalog: the served models and their trials.
        canary: answers by candidates.
        shadow: asks candidates.
        recorder: keeps the figures.
        header: of requests, by which a canary chooses where there are no API keys.
    """

    def __init__(
        self,
        call: VersionedCall,
        catalog: Catalog,
        *,
        canary: Canary,
        shadow: Shadow,
        recorder: TrialRecorder,
        header: str,
    ) -> None:
        self._call = call
        self._catalog = catalog
        self._canary = canary
        self._shadow = shadow
        self._recorder = recorder
        self._header = header.lower().encode()

    def answer(
        self, context: RequestContext, choice: Choice, uploads: Sequence[Upload], signature: Signature[T]
    ) -> Awaitable[Answer[T]]:
        """Answer a request as `VersionedCall.answer` does, by the candidate if it is chosen for the canary."""
        task = self._call.task(context, uploads, signature)
        names = self._catalog.names()  # reads the index when it is due
        trials = self._catalog.trials()
        if not trials or not choice.is_open:
            return self._call.run(task, choice)
        name = choice.model if choice.model is not None else names[0] if len(names) == 1 else ""
        trial = trials.get(name)
        if trial is None or not trial.is_on:
            return self._call.run(task, choice)
        return self._answer(name, self._canary.apply_stop(name, trial), task, choice)

    def current(self) -> Mapping[str, Trial]:
        """Return the trials by model, as they are for this gateway; from any thread."""
        return {name: self._canary.apply_stop(name, trial) for name, trial in self._catalog.trials().items()}

    def figures(self, name: str, trial: Trial) -> Mapping[str, Figures]:
        """Return what this gateway found in a trial, by kind."""
        return self._recorder.known(name, trial)

    async def watch(self) -> None:
        """Write the figures of trials, without end."""
        await self._recorder.watch()

    async def close(self) -> None:
        """Cancel shadow calls, and write what has not been written."""
        await self._shadow.close()
        await self._canary.close()
        await self._recorder.flush()

    async def _answer(self, name: str, trial: Trial, task: ImageTask[T], choice: Choice) -> Answer[T]:
        if trial.canary > 0 and is_chosen(name, trial, subject_of(task.context, self._header)):
            by_candidate = await self._canary.answer(name, trial, task)
            return await self._call.run(task, choice) if by_candidate is None else by_candidate
        start, given_s = time.perf_counter(), time_given(task.context)
        try:
            answer = await self._call.run(task, choice)
        except GatewayError as err:
            if trial.canary > 0 and err.status_code >= 500 and not is_impatient(err, given_s):
                self._canary.record_live(name, trial, None, time.perf_counter() - start)
            raise
        seconds = time.perf_counter() - start
        if trial.canary > 0:
            self._canary.record_live(name, trial, answer, seconds)
        is_asked = task.signature.name == PREDICT and random.random() < trial.shadow
        if is_asked and answer.version != trial.version:
            self._shadow.start(name, trial, task, live=cast(Answer[Any], answer), seconds=seconds)
        return answer
