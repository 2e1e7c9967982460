"""The life of versions in one process, with real engines: wanted, loaded, retried, replaced, unloaded."""

from __future__ import annotations

import asyncio
import functools
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine.errors import EngineError, ModelLoadError
from engine.loading import load_engine
from service.modelserver.config import ModelConfig
from service.modelserver.serving.repository import ModelRepository
from service.modelserver.serving.scheduling import ModelQueue, Plan, Scheduler
from service.modelserver.serving.versions import ServedVersion, State
from service.modelserver.watcher import ModelWatcher
from tests.helpers.version_states import until


def load_when_ready(scheduler: Scheduler, version: ServedVersion) -> ModelQueue:
    """Load a version, unless it holds a file that says how to fail."""
    if (version.path / "unready").exists():
        raise ModelLoadError("not ready")
    if (version.path / "surprise").exists():
        raise KeyError("surprise")
    return ModelQueue(scheduler, load_engine(version.path), Plan())


def with_repository(steps: Callable[[ModelRepository], Awaitable[None]]) -> None:
    """Run steps on a repository that retries twice, 0.1 s apart; close it."""

    async def run() -> None:
        scheduler = Scheduler(2)
        load = functools.partial(load_when_ready, scheduler)
        repository = ModelRepository(load, num_retries=2, retry_interval_s=0.1)
        try:
            await asyncio.wait_for(steps(repository), timeout=120)
        finally:
            await repository.close()
            scheduler.close()

    asyncio.run(run())


@pytest.fixture
def folders(tmp_path: Path, tiny_models: dict[str, Path]) -> dict[int, Path]:
    """Two version folders of a model."""
    paths = {number: tmp_path / "m" / str(number) for number in (1, 2)}
    for path in paths.values():
        shutil.copytree(tiny_models["plain"], path)
    return paths


def test_a_version_that_becomes_ready_is_loaded_by_a_retry(folders: dict[int, Path]) -> None:
    """A failed load is tried again, and a version that has become whole by then is served."""
    (folders[1] / "unready").touch()

    async def steps(repository: ModelRepository) -> None:
        repository.aspire("m", {1: folders[1]})
        await until(repository, "m", {1: State.LOADING})
        (folders[1] / "unready").unlink()
        await until(repository, "m", {1: State.AVAILABLE})

    with_repository(steps)


def test_a_failed_version_is_tried_anew_after_it_was_unwanted(folders: dict[int, Path]) -> None:
    """A version that ended with an error stays so while it is wanted, and loads when it is wanted again."""
    (folders[1] / "unready").touch()

    async def steps(repository: ModelRepository) -> None:
        repository.aspire("m", {1: folders[1]})
        await until(repository, "m", {1: State.END})
        (folders[1] / "unready").unlink()
        repository.aspire("m", {1: folders[1]})
        await asyncio.sleep(0.3)
        (failed,) = repository.versions("m")
        assert (failed.state, str(failed.error)) == (State.END, "not ready")
        repository.aspire("m", {})
        repository.aspire("m", {1: folders[1]})
        await until(repository, "m", {1: State.AVAILABLE})

    with_repository(steps)


def test_a_version_that_nobody_wants_any_more_is_not_loaded(folders: dict[int, Path]) -> None:
    """A version that is unwanted while its load is retried ends without an error."""
    (folders[1] / "unready").touch()

    async def steps(repository: ModelRepository) -> None:
        repository.aspire("m", {1: folders[1]})
        await until(repository, "m", {1: State.LOADING})
        repository.aspire("m", {})
        await until(repository, "m", {1: State.END})
        assert repository.versions("m")[0].error is None

    with_repository(steps)


def test_an_unforeseen_failure_ends_only_its_version(folders: dict[int, Path]) -> None:
    """An error of no known kind becomes that version's status, and the other version is served."""
    (folders[2] / "surprise").touch()

    async def steps(repository: ModelRepository) -> None:
        repository.aspire("m", folders)
        await until(repository, "m", {2: State.END, 1: State.AVAILABLE})
        error = repository.versions("m")[0].error
        assert isinstance(error, EngineError)
        assert (error.code, str(error)) == ("INTERNAL", "KeyError: 'surprise'")

    with_repository(steps)


def test_the_old_version_stays_until_a_new_one_is_there(folders: dict[int, Path]) -> None:
    """An unwanted version is served on while its successor loads or fails, and leaves when a successor is available."""

    async def steps(repository: ModelRepository) -> None:
        repository.aspire("m", {1: folders[1]})
        await until(repository, "m", {1: State.AVAILABLE})
        (folders[2] / "unready").touch()
        repository.aspire("m", {2: folders[2]})
        await until(repository, "m", {2: State.END, 1: State.AVAILABLE})
        found = repository.find("m", None)
        assert found is not None and found.number == 1
        repository.aspire("m", {1: folders[1]})
        (folders[2] / "unready").unlink()
        repository.aspire("m", {2: folders[2]})
        await until(repository, "m", {2: State.AVAILABLE, 1: State.END})

    with_repository(steps)


def test_a_version_that_moves_is_loaded_from_its_new_place(folders: dict[int, Path], tmp_path: Path) -> None:
    """The same number under another path is another version: the old one leaves and the new one loads."""

    async def steps(repository: ModelRepository) -> None:
        watcher = ModelWatcher(repository, {}, file_poll_s=0.05)
        await watcher.apply([ModelConfig("m", tmp_path / "m")])
        following = asyncio.create_task(watcher.follow_versions())
        await until(repository, "m", {2: State.AVAILABLE})
        moved = {2: shutil.copytree(folders[2], tmp_path / "moved" / "2")}
        following.cancel()
        repository.aspire("m", moved)
        await until(repository, "m", {2: State.END})
        repository.aspire("m", moved)
        await until(repository, "m", {2: State.AVAILABLE})
        assert repository.versions("m")[0].path == moved[2]

    with_repository(steps)
