"""Health of the model server: one verdict for `grpc.health.v1` and for `/readyz` of the monitoring port."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.modelserver.serving.repository import ModelRepository
from service.modelserver.serving.versions import State

# The whole server; TensorFlow Serving's two names; the same by gRPC's convention. They have one status.
SERVICES = (
    "",
    "ModelService",
    "PredictionService",
    "tensorflow.serving.ModelService",
    "tensorflow.serving.PredictionService",
)
_STOPPING = "the model server is stopping"
_MAX_NAMED = 10  # versions that one reason names


@dataclass(frozen=True, slots=True)
class Verdict:
    """Health at one moment.

    Attributes:
        reason: why the server is not ready; None if it is.
        loaded: versions that answer, such as "eyes/3".
        loading: versions that are on their way.
        failed: versions whose load failed for good.
    """

    reason: str | None = "the model config has not been read yet"
    loaded: tuple[str, ...] = ()
    loading: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def is_ready(self) -> bool:
        """True if calls can be answered."""
        return self.reason is None


class Health:
    """Follows the versions of a repository.

    The server becomes ready when every listed version has loaded or has failed for good, and one has loaded or none is
    listed. It stays ready while one version is loaded: a version that is listed later does not hold it.

    Attributes:
        verdict: the present one; a new object after each change, so that other threads may read it.
    """

    def __init__(self, repository: ModelRepository) -> None:
        self.verdict = Verdict()
        self._repository = repository
        self._is_stopping = False
        self._changed = asyncio.Event()
        repository.on_change = self.update

    @property
    def is_stopping(self) -> bool:
        """True once `stop` was called: the verdict changes no more."""
        return self._is_stopping

    def update(self) -> None:
        """Judge anew; called on the event loop after each change of the repository."""
        if not self._is_stopping:
            self._become(_judge(self._repository, was_ready=self.verdict.is_ready))

    def stop(self) -> None:
        """Stop being ready, for good."""
        self._is_stopping = True
        before = self.verdict
        self._become(Verdict(_STOPPING, before.loaded, before.loading, before.failed))

    async def wait_for_change(self) -> None:
        """Return after the next change."""
        await self._changed.wait()

    def _become(self, verdict: Verdict) -> None:
        if verdict != self.verdict:
            self.verdict = verdict
            self._changed.set()  # wakes those that wait now; later ones wait for the next change
            self._changed = asyncio.Event()


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """grpc.health.v1.Health on a `Health`.

    Unlike the servicer of grpcio-health-checking it ends the streams of `Watch` when the server stops, which would
    otherwise wait for their clients.
    """

    def __init__(self, health: Health) -> None:
        self._health = health

    async def Check(self, request: Any, context: Any) -> Any:
        """Return the status of a service; NOT_FOUND for one that is not there."""
        if request.service not in SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service[:64]!r}")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(self, request: Any, context: Any) -> None:
        """Send the status of a service now and after each change, until the server stops."""
        sent = None
        while True:
            status, is_last = self._status(request.service), self._health.is_stopping
            if status != sent:
                sent = status
                await context.write(health_pb2.HealthCheckResponse(status=status))
            elif is_last:
                return
            else:
                await self._health.wait_for_change()

    async def List(self, request: Any, context: Any) -> Any:
        """Return the status of every service."""
        statuses = {name: health_pb2.HealthCheckResponse(status=self._status(name)) for name in SERVICES}
        return health_pb2.HealthListResponse(statuses=statuses)

    def _status(self, service: str) -> int:
        statuses = health_pb2.HealthCheckResponse
        if service not in SERVICES:
            return int(statuses.SERVICE_UNKNOWN)
        return int(statuses.SERVING if self._health.verdict.is_ready else statuses.NOT_SERVING)


def _judge(repository: ModelRepository, *, was_ready: bool) -> Verdict:
    if not repository.is_configured:
        return Verdict()
    listed = [version for name in repository.names for version in repository.versions(name) if version.aspired]
    loaded = tuple(str(version) for version in listed if version.state is State.AVAILABLE)
    loading = tuple(str(version) for version in listed if version.state in (State.START, State.LOADING))
    failed = tuple(str(version) for version in listed if version.state is State.END)
    reason = None
    if loading and not (loaded and was_ready):
        reason = f"loading: {_list(loading)}"
    elif failed and not loaded:
        reason = f"every version failed to load, the log says why: {_list(failed)}"
    return Verdict(reason, loaded, loading, failed)


def _list(versions: Iterable[str]) -> str:
    named = list(versions)
    more = len(named) - _MAX_NAMED
    return ", ".join([*named[:_MAX_NAMED], f"and {more} more"] if more > 0 else named)
