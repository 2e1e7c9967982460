"""Puts the parts together: options in, a gRPC server that follows its models until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import grpc

from contract.tensors import model_service_pb2_grpc, prediction_service_pb2_grpc
from engine.scheduling import Scheduler
from service.modelserver.config import ModelConfig
from service.modelserver.errors import BindError
from service.modelserver.loader import ModelLoader
from service.modelserver.model_service import ModelService
from service.modelserver.monitoring import Metrics
from service.modelserver.options import Options
from service.modelserver.prediction_service import PredictionService
from service.modelserver.repository import ModelRepository
from service.modelserver.watcher import ModelWatcher

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 256 << 20  # 32 images, or their saliency maps, pass gRPC's own 4 MiB
DRAIN_S = 30.0
MAX_SOCKET_PATH_BYTES = 107  # the kernel's limit

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # otherwise a second server takes a port silently, and half of the calls
)


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
async def running_server(options: Options) -> AsyncIterator[Sequence[str]]:
    """Run a model server; leaving the context drains and stops it.

    Args:
        options: as the command line gives them.

    Yields:
        The addresses it listens on, as gRPC clients take them.

    Raises:
        BindError: if an address cannot be listened on.
    """
    async with contextlib.AsyncExitStack() as stack:
        scheduler = Scheduler(options.num_threads, max_waiting=options.max_waiting_calls)
        stack.callback(scheduler.close)
        metrics = Metrics()
        if options.monitoring_port is not None:
            address, close = metrics.listen(options.host, options.monitoring_port)
            stack.callback(close)
            logger.info("metrics on %s", address)
        repository = ModelRepository(
            ModelLoader(options, scheduler, metrics).load,
            num_retries=options.max_num_load_retries,
            retry_interval_s=options.load_retry_interval_micros / 1e6,
            on_end=lambda version: metrics.forget(version.model, str(version.number)),
        )
        stack.push_async_callback(repository.close)
        watcher = ModelWatcher(
            repository,
            dict(options.path_map),
            file_poll_s=options.file_system_poll_wait_seconds,
            labels_ahead=options.allow_version_labels_for_unavailable_models,
        )
        addresses = await stack.enter_async_context(_listening(options, repository, watcher, metrics))
        await stack.enter_async_context(_following(options, watcher))
        yield addresses


@contextlib.asynccontextmanager
async def _listening(
    options: Options, repository: ModelRepository, watcher: ModelWatcher, metrics: Metrics
) -> AsyncIterator[Sequence[str]]:
    server = grpc.aio.server(options=_CHANNEL_OPTIONS)
    predictions, models = PredictionService(repository, metrics), ModelService(repository, watcher)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(predictions, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
    addresses = _listen(server, options)
    await server.start()
    for address in addresses:
        logger.info("listening on %s", address)
    try:
        yield addresses
    finally:
        await server.stop(DRAIN_S)


@contextlib.asynccontextmanager
async def _following(options: Options, watcher: ModelWatcher) -> AsyncIterator[None]:
    work = [watcher.follow_versions()]
    if options.model_config_file is not None:
        work.append(
            watcher.follow_config(options.model_config_file, poll_s=options.model_config_file_poll_wait_seconds)
        )
    elif options.model_base_path is not None:
        await watcher.apply([ModelConfig(options.model_name, options.model_base_path)])
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _listen(server: grpc.aio.Server, options: Options) -> list[str]:
    addresses = []
    if options.grpc_socket_path is not None:
        addresses.append(_listen_on_socket(server, options.grpc_socket_path))
    if options.port is not None:
        host = f"[{options.host}]" if ":" in options.host else options.host
        port = _bind(server.add_insecure_port, f"{host}:{options.port}")
        addresses.append(f"{host}:{port}")
    return addresses


def _listen_on_socket(server: grpc.aio.Server, path: Path) -> str:
    if len(str(path).encode()) > MAX_SOCKET_PATH_BYTES:
        raise BindError(
            f"--grpc_socket_path: expected at most {MAX_SOCKET_PATH_BYTES} bytes. Received: {len(str(path).encode())}"
        )
    _bind(server.add_insecure_port, f"unix:{path}")
    return f"unix:{path}"


def _bind(add_port: Callable[[str], int], address: str) -> int:
    try:
        return add_port(address)
    except RuntimeError as err:
        raise BindError(f"cannot listen on {address}: it is taken or not allowed") from err
