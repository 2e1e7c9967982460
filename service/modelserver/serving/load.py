"""From a SavedModel's folder to a queue that takes calls: loaded, warmed up, and run as suits this machine."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from engine.engine import Engine
from engine.kept import OutputsDifferError, check_kept_outputs
from engine.loading import import_runtime, load_engine
from engine.precision_names import AUTO
from service.modelserver.serving.precisions import PrecisionChooser, check_pinned
from service.modelserver.serving.scheduling import BatchRecord, ModelQueue, Plan, Scheduler
from service.modelserver.serving.tuning import Tuner, warm_up_batches

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Settings with which all models are loaded and run.

    Attributes:
        engine: as `load_engine` takes it.
        precision: as `load_engine` takes it.
        warm_up: whether warm-up records are run and common batches run before the first call.
        num_streams: batches of a model at a time; 0 means as measured.
        max_batch: rows of the largest batch; 0 means as measured.
    """

    engine: str = "auto"
    precision: str = "auto"
    warm_up: bool = True
    num_streams: int = 0
    max_batch: int = 0


class ModelLoader:
    """Loads models, one at a time, on a thread that answers no calls.

    Args:
        scheduler: runs them.
        tuner: measures streams and batch size where they are 0.
        chooser: measures precisions where the precision is "auto".
        settings: for all models.
    """

    def __init__(self, scheduler: Scheduler, tuner: Tuner, chooser: PrecisionChooser, settings: RunSettings) -> None:
        self._scheduler = scheduler
        self._tuner = tuner
        self._chooser = chooser
        self._settings = settings

    def load(self, directory: Path, observe: Callable[[BatchRecord], None] | None = None) -> ModelQueue:
        """Load a SavedModel.

        Raises:
            ModelLoadError: if it cannot be loaded or a warm-up record fails.
        """
        _import_runtime(self._settings.engine)
        may_stream = 1 not in (self._settings.num_streams, self._scheduler.num_cores)
        with contextlib.ExitStack() as loaded:
            precision, first = self._load_first(directory, single_row=may_stream)
            loaded.callback(first.close)
            engine, load = first, functools.partial(self._load_engine, directory, precision)
            may_stream = may_stream and first.has_streams
            load_lone = functools.partial(load, 1, single_row=True, num_threads=1)
            plan = self._plan(directory, first, load if may_stream else None, load_lone if may_stream else None)
            if plan.lone_threads:
                first.close()
                engine = first = load_lone()
                loaded.callback(first.close)
            if may_stream:
                engine = load(plan.num_streams)
                loaded.callback(engine.close)
            if engine.name != first.name:  # a runtime may read `serving_default`, but not all signatures
                plan = self._plan(directory, engine, None)
            if self._settings.warm_up:
                warm_up_batches(engine, plan)
                engine.trim()
            loaded.pop_all()  # until here a failure closes them
        is_alike = engine is not first and (engine.name, engine.precision) == (first.name, first.precision)
        lone_engine = first if is_alike and plan.num_streams > 1 else None
        if engine is not first and lone_engine is None:
            first.close()
        return ModelQueue(self._scheduler, engine, plan, observe, lone_engine=lone_engine)

    def _load_first(self, directory: Path, *, single_row: bool) -> tuple[str, Engine]:
        """Return the precision to serve a model at, and an engine of it whose outputs are those that were verified.

        Raises:
            ModelLoadError: if it cannot be loaded, or not at the precision that the settings pin.
        """
        differing: set[str] = set()
        while True:
            precision = self._choose_precision(directory, differing)
            engine = self._load_engine(directory, precision, 1, single_row=single_row)
            try:
                check_kept_outputs(engine, directory)
                return precision, engine
            except OutputsDifferError as err:
                engine.close()
                if self._settings.precision != AUTO or engine.precision in differing:
                    raise
                logger.warning("%s: %s is not used: %s", directory, engine.precision, err)
                differing.add(engine.precision)
            except BaseException:
                engine.close()
                raise

    def _choose_precision(self, directory: Path, differing: Collection[str]) -> str:
        pinned = self._settings.precision
        if pinned != AUTO:
            check_pinned(directory, self._settings.engine, pinned)
            return pinned
        load = functools.partial(self._load_engine, directory, num_streams=1, single_row=True, warm_up=False)
        return self._chooser.choose(directory, load, without=differing)

    def _load_engine(
        self,
        directory: Path,
        precision: str,
        num_streams: int,
        *,
        single_row: bool = False,
        warm_up: bool = True,
        num_threads: int = 0,
    ) -> Engine:
        """Load a model; no number of threads means one for each core."""
        return load_engine(
            directory,
            engine=self._settings.engine,
            precision=precision,
            warm_up=self._settings.warm_up and warm_up,
            num_threads=num_threads or self._scheduler.num_cores,
            num_streams=num_streams,
            single_row=single_row,
        )

    def _plan(
        self,
        directory: Path,
        engine: Engine,
        load: Callable[..., Engine] | None,
        load_lone: Callable[..., Engine] | None = None,
    ) -> Plan:
        """Return streams, batch size and threads of a lone row.

        Args:
            directory: the SavedModel's folder.
            engine: it, loaded for single rows where there may be streams.
            load: loads it with a number of streams.
            load_lone: loads it for single rows on one core.
        """
        num_streams, max_batch = self._settings.num_streams, self._settings.max_batch
        if num_streams and max_batch:
            return Plan(num_streams, max_batch)
        load_streams = functools.partial(load, warm_up=False) if load is not None else None
        quick_lone = functools.partial(load_lone, warm_up=False) if load_lone is not None else None
        found = self._tuner.plan(directory, engine, load_streams, quick_lone)
        return Plan(num_streams or found.num_streams, max_batch or found.max_batch, found.lone_threads)


@functools.cache
def _import_runtime(engine: str) -> None:
    """Import the runtime and hide its Python objects from the garbage collector, whose runs stop every call."""
    import_runtime(engine)
    gc.collect()
    gc.freeze()
