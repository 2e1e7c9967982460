"""The models that are served: their versions, each from START to END, loaded and unloaded in the background.

Everything here runs on the event loop, so nothing is locked; only `load` and `ModelQueue.close` run on threads. One
version loads at a time, because two would take the cores from those that answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ModelLoadError
from service.modelserver.serving.scheduling import ModelQueue
from service.modelserver.serving.versions import ServedVersion, State

logger = logging.getLogger(__name__)


class ModelRepository:
    """Versions by model and number.

    Args:
        load: makes a version ready for calls; runs on a thread.
        num_retries: how often loading is tried again after it failed.
        retry_interval_s: seconds between tries.
        on_end: is told of a version that was served and no longer is.
        labels_allowed: whether versions may have labels at all.
        labels_ahead: whether a new label may name a version that is not available.

    Attributes:
        is_configured: whether it has been said which models are wanted, if any.
        on_change: called after the wanted versions, or the state of a version, have changed.
    """

    def __init__(
        self,
        load: Callable[[ServedVersion], ModelQueue],
        *,
        num_retries: int,
        retry_interval_s: float,
        on_end: Callable[[ServedVersion], None] = lambda _: None,
        labels_allowed: bool = True,
        labels_ahead: bool = False,
    ) -> None:
        self.is_configured = False
        self.on_change: Callable[[], None] = lambda: None
        self._labels: Mapping[str, Mapping[str, int]] | None = None  # by model; None until there is a configuration
        self._labels_allowed = labels_allowed
        self._labels_ahead = labels_ahead
        self._load = load
        self._on_end = on_end
        self._num_retries = num_retries
        self._retry_interval_s = retry_interval_s
        self._models: dict[str, dict[int, ServedVersion]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loading = asyncio.Lock()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")

    @property
    def names(self) -> tuple[str, ...]:
        """The models that are, or were, served."""
        return tuple(self._models)

    def find(self, name: str, number: int | None) -> ServedVersion | None:
        """Return an AVAILABLE version, the newest unless a number is given; None if there is none."""
        available = {v.number: v for v in self.versions(name) if v.state is State.AVAILABLE}
        return available.get(max(available, default=0) if number is None else number)

    def assign_labels(self, labels: Mapping[str, Mapping[str, int]]) -> None:
        """Take these labels instead of the present ones.

        Args:
            labels: versions by model and label.

        Raises:
            EngineError: if a label names a version that is not available, or none is allowed; the present ones stay.
        """
        for name, versions in labels.items():
            for label, number in versions.items():
                is_moved = (self._labels or {}).get(name, {}).get(label, number) != number
                if self.find(name, number) is None and (is_moved or not self._labels_ahead):
                    raise EngineError(
                        f"Request to assign label to version {number} of model {name}, "
                        "which is not currently available for inference",
                        code="FAILED_PRECONDITION",
                    )
        if any(labels.values()) and not self._labels_allowed:
            message = "Model version labels are not currently allowed by the server."
            raise EngineError(message, code="FAILED_PRECONDITION")
        self._labels = labels

    def resolve_label(self, name: str, label: str) -> int:
        """Return the version that a label of a model stands for.

        Raises:
            EngineError: if there is no such label, or none is allowed.
        """
        if not self._labels_allowed:
            message = "ModelSpec has 'version_label' set, but it is not currently allowed by the server."
            raise EngineError(message, code="INVALID_ARGUMENT")
        if self._labels is None:
            raise EngineError(f"Model labels does not init yet.{label}", code="UNAVAILABLE")
        if label not in self._labels.get(name, {}):
            raise EngineError(f"Unrecognized servable version label: {label}", code="INVALID_ARGUMENT")
        return self._labels[name][label]

    def versions(self, name: str) -> list[ServedVersion]:
        """Return every version that a model has had since the server started, newest first."""
        versions = self._models.get(name, {})
        return [versions[number] for number in sorted(versions, reverse=True)]

    async def wait_for(self, names: Iterable[str]) -> None:
        """Wait until each of these models has an available version.

        Raises:
            EngineError: if every wanted version of one of them has failed, or none is wanted.
        """
        failed = []
        for name in sorted(names):
            while self.find(name, None) is None:
                versions = self.versions(name)
                if all(version.state is State.END for version in versions):
                    reasons = [f"{{{{name: {name} version: {v.number}}} due to error: {v.error}}}" for v in versions]
                    failed.append(", ".join(reasons) or f"{{{{name: {name}}} due to error: it has no versions}}")
                    break
                await asyncio.sleep(0.05)
        if failed:
            message = f"{len(failed)} model(s) did not become available: {{{', '.join(failed)}, }}"
            raise EngineError(message, code="UNKNOWN")

    def mark_configured(self) -> None:
        """Note that every model that is wanted now has been named by `aspire`."""
        self.is_configured = True
        self.on_change()

    def aspire(self, name: str, paths: Mapping[int, Path]) -> None:
        """Say which versions of a model are wanted; call again at any time, it changes only what differs.

        New ones load in the background. Others leave when a wanted one is available and none is still loading, or
        when nothing is wanted. A version that failed to load is tried again only after it was unwanted in between.

        Args:
            name: the model.
            paths: folders by version number.
        """
        versions = self._models.setdefault(name, {})
        for number, version in versions.items():
            if paths.get(number) != version.path:
                version.aspired = False
            elif version.state in (State.START, State.LOADING, State.AVAILABLE):
                version.aspired = True
        for number in sorted(paths, reverse=True):
            current = versions.get(number)
            if current is None or (current.state is State.END and not current.aspired):
                versions[number] = ServedVersion(name, number, paths[number])
                self._start(self._bring_up(versions[number]))
        self._retire(name)
        self.on_change()

    async def close(self) -> None:
        """Stop loading, finish the calls that are here, unload everything."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loader.shutdown(wait=True, cancel_futures=True)
        for name in self._models:
            for version in self.versions(name):
                if version.queue is not None:
                    await asyncio.to_thread(version.queue.close)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _retire(self, name: str) -> None:
        """Unload unwanted versions, once that leaves no gap."""
        versions = self._models[name].values()
        wanted = {version.state for version in versions if version.aspired}
        if wanted & {State.START, State.LOADING} or (wanted and State.AVAILABLE not in wanted):
            return
        for version in versions:
            if not version.aspired and version.state is State.AVAILABLE:
                version.state = State.UNLOADING
                self._start(self._take_down(version))

    async def _bring_up(self, version: ServedVersion) -> None:
        try:
            await self._load_patiently(version)
        except EngineError as err:
            logger.error("%s: failed: %s", version, err)
            version.end(err)
        except Exception as err:  # one version's surprise must not end the others
            logger.exception("%s: failed", version)
            version.end(ModelLoadError(f"{type(err).__name__}: {err}"))
        self._retire(version.model)
        self.on_change()

    async def _load_patiently(self, version: ServedVersion) -> None:
        """Try to load until it works, the tries are used up, or the version is no longer wanted."""
        for attempt in range(1, self._num_retries + 2):
            async with self._loading:
                if not version.aspired:
                    break
                try:
                    return await self._load_once(version)
                except EngineError as err:
                    if attempt > self._num_retries:
                        raise
                    logger.warning("%s: try %d of %d failed: %s", version, attempt, self._num_retries + 1, err)
            await asyncio.sleep(self._retry_interval_s)
        logger.info("%s: no longer wanted", version)
        version.end(None)

    async def _load_once(self, version: ServedVersion) -> None:
        version.state = State.LOADING
        logger.info("%s: loading", version)
        started = time.monotonic()
        queue = await asyncio.get_running_loop().run_in_executor(self._loader, self._load, version)
        version.queue, version.state = queue, State.AVAILABLE
        seconds, engine, plan = time.monotonic() - started, queue.engine, queue.plan
        logger.info(
            "%s: available (%s, %s, %d streams, batches up to %d, loaded in %.1f s)",
            *(version, engine.name, engine.precision, plan.num_streams, plan.max_batch, seconds),
        )

    async def _take_down(self, version: ServedVersion) -> None:
        queue, version.queue = version.queue, None
        if queue is not None:
            await asyncio.to_thread(queue.close)  # not on the loader's thread: draining keeps no other version waiting
        version.end(None)
        self._on_end(version)
        self.on_change()
        logger.info("%s: unloaded", version)
