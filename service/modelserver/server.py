"""Puts the parts together: options in, a gRPC server that follows its models until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import grpc
from grpc_health.v1 import health_pb2_grpc

from contract.tensors import MAX_MESSAGE_BYTES, model_service_pb2_grpc, prediction_service_pb2_grpc
from service.modelserver.config import ModelConfig
from service.modelserver.errors import BindError
from service.modelserver.grpc_errors import Refusal
from service.modelserver.health import Health, HealthService
from service.modelserver.model_service import ModelService
from service.modelserver.monitoring import Metrics
from service.modelserver.monitoring_port import listen
from service.modelserver.options import Options
from service.modelserver.prediction_service import PredictionService
from service.modelserver.serving.load import ModelLoader, RunSettings
from service.modelserver.serving.precisions import PrecisionChooser
from service.modelserver.serving.repository import ModelRepository
from service.modelserver.serving.scheduling import ModelQueue, Scheduler
from service.modelserver.serving.tuning import Tuner, is_machine_busy
from service.modelserver.serving.versions import ServedVersion
from service.modelserver.watcher import ModelWatcher

logger = logging.getLogger(__name__)

DRAIN_S = 30.0
MAX_SOCKET_PATH_BYTES = 107  # the kernel's limit

_CHANNEL_OPTIONS: dict[str, int | str] = {
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
    "grpc.so_reuseport": 0,  # otherwise a second server takes a port silently, and half of the calls
    # By default a client that pings more often than each five minutes loses its connection: "too_many_pings".
    "grpc.http2.min_ping_interval_without_data_ms": 100,
    "grpc.keepalive_permit_without_calls": 1,
}


class RpcServer(Protocol):
    """The part of `grpc.aio.Server` that is used here."""

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Add services."""

    def add_insecure_port(self, address: str) -> int:
        """Listen on an address; return its port."""

    async def start(self) -> None:
        """Answer calls."""

    async def stop(self, grace: float | None) -> None:
        """Finish the calls under way within some seconds."""


async def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT, then finish the calls in flight.

    Raises:
        BindError: if an address cannot be listened on.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with running_server(options):
        await stopping.wait()
        logger.info("stopping: no new calls, up to %.0f s for those in flight", DRAIN_S)
    logger.info("stopped")


@contextlib.asynccontextmanager
async def running_server(options: Options, server: RpcServer | None = None) -> AsyncIterator[Sequence[str]]:
    """Run a model server; leaving the context drains and stops it.

    Args:
        options: as the command line gives them.
        server: that its services are added to; None for one of gRPC.

    Yields:
        The addresses it listens on, as gRPC clients take them.

    Raises:
        BindError: if an address cannot be listened on.
    """
    async with contextlib.AsyncExitStack() as stack:
        scheduler = Scheduler(options.num_threads, max_waiting=options.max_waiting_calls)
        stack.callback(scheduler.close)
        metrics = Metrics()
        repository = ModelRepository(
            functools.partial(_load, _build_loader(options, scheduler), metrics),
            num_retries=options.max_num_load_retries,
            retry_interval_s=options.load_retry_interval_micros / 1e6,
            on_end=metrics.forget,
            labels_allowed=options.allow_version_labels,
            labels_ahead=options.allow_version_labels_for_unavailable_models,
        )
        health = Health(repository)
        if options.monitoring_port is not None:
            _monitor(options, metrics, health, stack=stack)
        stack.push_async_callback(repository.close)
        watcher = ModelWatcher(repository, dict(options.path_map), file_poll_s=options.file_system_poll_wait_seconds)
        if server is None:
            server = grpc.aio.server(options=[*(_CHANNEL_OPTIONS | dict(options.grpc_channel_arguments)).items()])
        as_content = options.enable_serialization_as_tensor_content
        predictions = PredictionService(repository, metrics, as_content=as_content)
        models = ModelService(repository, watcher)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(predictions, server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
        if options.enable_grpc_healthcheck_service:
            health_pb2_grpc.add_HealthServicer_to_server(HealthService(health), server)
        server.add_generic_rpc_handlers((Refusal(),))
        addresses = [_listen(server, address) for address in options.addresses]
        await server.start()
        stack.push_async_callback(server.stop, DRAIN_S)
        await stack.enter_async_context(_following(options, watcher))
        stack.callback(health.stop)
        yield addresses


def _monitor(options: Options, metrics: Metrics, health: Health, *, stack: contextlib.AsyncExitStack) -> None:
    listener = listen(options.host, options.monitoring_port or 0, registry=metrics.registry, health=health)
    stack.callback(listener.server_close)
    stack.callback(listener.shutdown)
    logger.info("metrics on http://%s:%d/metrics", options.host, listener.server_port)


def _build_loader(options: Options, scheduler: Scheduler) -> ModelLoader:
    def is_busy() -> bool:
        return scheduler.is_busy or is_machine_busy()

    settings = RunSettings(
        engine=options.engine,
        precision=options.precision,
        warm_up=options.enable_model_warmup,
        num_streams=options.num_streams,
        max_batch=options.max_batch_size,
    )
    tuner = Tuner(scheduler.num_cores, options.tuning_cache, is_busy=is_busy)
    return ModelLoader(scheduler, tuner, PrecisionChooser(options.engine, is_busy=is_busy), settings)


def _load(loader: ModelLoader, metrics: Metrics, version: ServedVersion) -> ModelQueue:
    """Load a version, on a thread apart from the serving ones, and show it."""
    queue = loader.load(version.path, functools.partial(metrics.count_batch, version))
    metrics.show(version, queue)
    return queue


@contextlib.asynccontextmanager
async def _following(options: Options, watcher: ModelWatcher) -> AsyncIterator[None]:
    work = [watcher.follow_versions()]
    if options.model_config_file is not None:
        poll_s = options.model_config_file_poll_wait_seconds
        work.append(watcher.follow_config(options.model_config_file, poll_s=poll_s))
    elif options.model_base_path is not None:
        await watcher.apply([ModelConfig(options.model_name, options.model_base_path)])
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _listen(server: RpcServer, address: str) -> str:
    """Listen, and return the address with the port that was taken.

    Raises:
        BindError: if that cannot be.
    """
    length = len(address.removeprefix("unix:").encode())
    if address.startswith("unix:") and length > MAX_SOCKET_PATH_BYTES:
        raise BindError(f"--grpc_socket_path: expected at most {MAX_SOCKET_PATH_BYTES} bytes. Received: {length}")
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as err:
        raise BindError(
            f"cannot listen on {address}: it is taken or not allowed; choose another with --port or --grpc_socket_path"
        ) from err
    bound = address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
    logger.info("listening on %s", bound)
    return bound
