"""The models that are served: their versions, each from START to END, loaded and unloaded in the background.

Everything here runs on the event loop, so nothing is locked; only `load` and `Engine.close` run on a thread, one at a
time, because two models loading at once would take the cores from those that answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ModelLoadError
from engine.model import Engine
from service.modelserver.served import ServedVersion, State

logger = logging.getLogger(__name__)


class ModelRepository:
    """Versions by model and number.

    Args:
        load: makes a version's engine from its folder; runs on a thread.
        num_retries: how often loading is tried again after it failed.
        retry_interval_s: seconds between tries.
    """

    def __init__(self, load: Callable[[Path], Engine], *, num_retries: int, retry_interval_s: float) -> None:
        self._load = load
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

    def versions(self, name: str) -> list[ServedVersion]:
        """Return every version that a model has had since the server started, newest first."""
        versions = self._models.get(name, {})
        return [versions[number] for number in sorted(versions, reverse=True)]

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

    async def close(self) -> None:
        """Stop loading and unload everything; nothing may be running any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loader.shutdown(wait=True, cancel_futures=True)
        for name in self._models:
            for version in self.versions(name):
                if version.engine is not None:
                    version.engine.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _retire(self, name: str) -> None:
        """Unload what is not wanted, once that leaves no gap."""
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
        engine = await asyncio.get_running_loop().run_in_executor(self._loader, self._load, version.path)
        version.engine, version.state = engine, State.AVAILABLE
        seconds = time.monotonic() - started
        logger.info("%s: available (%s, %s, loaded in %.1f s)", version, engine.name, engine.precision, seconds)

    async def _take_down(self, version: ServedVersion) -> None:
        await version.drained()
        engine, version.engine = version.engine, None
        if engine is not None:
            await asyncio.get_running_loop().run_in_executor(self._loader, engine.close)
        version.end(None)
        logger.info("%s: unloaded", version)
