"""From a version's folder to a queue that takes its calls: loaded, warmed up, and run as suits this machine."""

from __future__ import annotations

import functools
import gc

from engine.loading import import_runtime, load_engine
from engine.model import Engine
from engine.openvino import OpenVINOEngine
from engine.scheduling import ModelQueue, Plan, Scheduler
from engine.tuning import Tuner, is_machine_busy, warm_up_batches
from service.modelserver.monitoring import Metrics
from service.modelserver.options import Options
from service.modelserver.served import ServedVersion


class ModelLoader:
    """Loads versions; nothing of it is for the event loop's thread.

    Args:
        options: as the command line gives them.
        scheduler: runs what is loaded.
        metrics: is told what is loaded and what runs.
    """

    def __init__(self, options: Options, scheduler: Scheduler, metrics: Metrics) -> None:
        self._options = options
        self._scheduler = scheduler
        self._metrics = metrics
        self._tuner = Tuner(
            options.num_threads, options.tuning_cache, is_busy=lambda: scheduler.is_busy or is_machine_busy()
        )

    def load(self, version: ServedVersion) -> ModelQueue:
        """Load a version.

        Raises:
            ModelLoadError: if it cannot be loaded or a warm-up record fails.
        """
        _import_runtime(self._options.engine)
        engine, lone_engine = self._load(version, 1), None
        can_stream = engine.name == OpenVINOEngine.name
        plan = self._plan(version, engine, can_stream)
        if plan.num_streams > 1 and can_stream:
            engine, lone_engine = self._load(version, plan.num_streams), engine
        if self._options.enable_model_warmup:
            warm_up_batches(engine, plan)
        labels = (version.model, str(version.number))
        observe = functools.partial(self._metrics.count_batch, *labels)
        queue = ModelQueue(self._scheduler, engine, plan, observe, lone_engine=lone_engine)
        self._metrics.show(*labels, queue)
        return queue

    def _load(self, version: ServedVersion, num_streams: int) -> Engine:
        return load_engine(
            version.path,
            engine=self._options.engine,
            precision=self._options.precision,
            warm_up=self._options.enable_model_warmup,
            num_threads=self._options.num_threads,
            num_streams=num_streams,
        )

    def _plan(self, version: ServedVersion, engine: Engine, can_stream: bool) -> Plan:
        num_streams, max_batch = self._options.num_streams, self._options.max_batch_size
        if num_streams and max_batch:
            return Plan(num_streams, max_batch)
        found = self._tuner.plan(version.path, engine, functools.partial(self._load, version) if can_stream else None)
        return Plan(num_streams or found.num_streams, max_batch or found.max_batch)


@functools.cache
def _import_runtime(engine: str) -> None:
    """Import the runtime and hide its 300,000 Python objects from the garbage collector.

    A full collection, which unloading a model needs, stops every call: for 200 ms with those objects, for 1 ms without.
    """
    import_runtime(engine)
    gc.collect()
    gc.freeze()
