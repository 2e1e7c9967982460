"""Follows one model server of a pool: its connection, health, versions, and how its calls end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, TypeVar

import grpc

from service.gateway.backend.backend import AVAILABLE, Backend, Metadata, VersionStatus
from service.gateway.context.errors import DeadlineError, GatewayError, NotLoadedError, UnreachableError
from service.gateway.telemetry.server_info import ServerFigures

T = TypeVar("T")

logger = logging.getLogger("fovea.backend")

POLL_S: Final = 1.0  # between two questions for the versions
_POLL_TIMEOUT_S: Final = 5.0
_MAX_SILENT_POLLS: Final = 2
_FIRST_PAUSE_S: Final = 0.5  # that a failing server is left out; doubled each time
_LONGEST_PAUSE_S: Final = 15.0
_EXPECTED_S: Final = 10.0  # a new server that has not told its versions yet counts for a quorum this long,
_EXPECTED_AFTER_FAILURE_S: Final = 3.0  # or this long if it could not be connected
_HEALTH_PAUSE_S: Final = 1.0
_NO_HEALTH_PAUSE_S: Final = 15.0
# A new connection to the same address is a new one, not the one that hangs.
_OPTIONS: Final = (("grpc.use_local_subchannel_pool", 1),)


class PooledServer:
    """One model server.

    Args:
        address: host:port.
        timeout_s: longest wait for one reply, seconds.
        metadata: returns gRPC metadata for the call that is made now; None for none.
        names: returns the models whose versions are followed.
        on_change: called when it was connected, lost, or has answered for its versions.

    Attributes:
        address: as given.
        load: images that it works on.
        last_used: when the last call was sent there, on the clock of `time.monotonic`.
        has_failed: whether connecting to it has failed before.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float,
        metadata: Metadata | None,
        names: Callable[[], Iterable[str]],
        on_change: Callable[[], None],
    ) -> None:
        self.address = address
        self.load = 0
        self.last_used = 0.0
        self.has_failed = False
        self._timeout_s = timeout_s
        self._metadata = metadata
        self._names = names
        self._on_change = on_change
        self._num_resets = 0
        self._backend = self._build_backend()
        self._generation = 0
        self._versions: dict[str, dict[int, VersionStatus]] = {}
        self._is_serving = True
        self._added_at = time.monotonic()
        self._has_told = False
        self._silent_polls = 0
        self._pause_s = _FIRST_PAUSE_S
        self._left_out_until = 0.0
        self._calls: Counter[str] = Counter()
        self._seconds = 0.0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def precisions(self) -> Mapping[tuple[str, int], str]:
        """At which versions predict here."""
        return dict(self._backend.precisions)

    async def open(self) -> None:
        """Start connecting, and follow health and versions."""
        await self._backend.open()
        self._tasks = [asyncio.create_task(self._follow_versions()), asyncio.create_task(self._follow_health())]

    async def close(self) -> None:
        """Close the connection; calls under way are given up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._backend.close()

    async def retire(self) -> None:
        """Close the connection once the calls under way have ended."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while self.load:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            logger.warning("model server %s: %d images are given up", self.address, self.load)
        finally:
            await self.close()

    async def reset(self) -> None:
        """Replace a connection that hangs by a new one; its calls end as unreachable."""
        logger.warning("model server %s does not answer: connecting anew", self.address)
        old, self._backend = self._backend, self._build_backend()
        self._num_resets += 1
        self._silent_polls = 0
        self._forget()
        await old.close()
        await self._backend.open()

    @property
    def connection(self) -> tuple[str, int, int]:
        """Identifies the present connection."""
        return self.address, self._num_resets, self._backend.generation

    @property
    def is_connected(self) -> bool:
        """True while there is a connection."""
        return self._backend.state is grpc.ChannelConnectivity.READY

    @property
    def is_usable(self) -> bool:
        """True while calls may go there: connected, healthy, and not left out after a failure."""
        return self.is_connected and self._is_serving and time.monotonic() >= self._left_out_until

    @property
    def is_silent(self) -> bool:
        """True if it is connected, and has not answered for its versions for a while."""
        return self._silent_polls >= _MAX_SILENT_POLLS

    @property
    def is_expected(self) -> bool:
        """True for a new server that has not told its versions yet and may do so soon."""
        wait_s = _EXPECTED_AFTER_FAILURE_S if self.has_failed else _EXPECTED_S
        return not self._has_told and time.monotonic() - self._added_at < wait_s

    def knows(self, name: str) -> bool:
        """Say whether it has answered for a model's versions since it was connected."""
        return name in self._versions

    def versions(self, name: str) -> Mapping[int, VersionStatus]:
        """Return the versions of a model, as last told."""
        return self._versions.get(name, {})

    def has(self, name: str, version: int) -> bool:
        """Say whether it is connected and has a version loaded."""
        status = self.versions(name).get(version)
        return status is not None and status.state == AVAILABLE and self.is_connected

    def has_any(self, name: str) -> bool:
        """Say whether calls may go there and any version of a model is loaded."""
        return self.is_usable and any(status.state == AVAILABLE for status in self.versions(name).values())

    def drop(self, name: str, version: int) -> None:
        """Forget a version that turned out not to be loaded."""
        self._versions.get(name, {}).pop(version, None)

    def leave_out(self) -> None:
        """Send no calls there for a while; longer each time, until one succeeds."""
        if time.monotonic() < self._left_out_until:
            return
        logger.warning("model server %s fails: left out for %.1f s", self.address, self._pause_s)
        self._left_out_until = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    async def call(self, operation: Callable[[Backend], Awaitable[T]], *, num_images: int) -> T:
        """Run an operation on its connection.

        Raises:
            GatewayError: as the operation; UnreachableError if the connection was replaced meanwhile.
        """
        started = time.monotonic()
        self.last_used = started
        self.load += num_images
        outcome = "cancelled"
        try:
            result = await operation(self._backend)
            outcome = "ok"
            self._pause_s = _FIRST_PAUSE_S
            return result
        except GatewayError as err:
            outcome = err.code
            raise
        except asyncio.CancelledError:
            if not _is_dropped():
                raise
            outcome = UnreachableError.code
            raise UnreachableError("the model server dropped the request") from None
        finally:
            self.load -= num_images
            if not self.load:
                self._idle.set()
            self._calls[outcome] += 1
            self._seconds += time.monotonic() - started

    async def ask_versions(self, name: str) -> None:
        """Ask for the versions of a model; a failure is noted, not raised."""
        connection = self.connection
        try:
            found = await self._backend.status(name, deadline=time.monotonic() + _POLL_TIMEOUT_S)
        except NotLoadedError:
            found = ()
        except GatewayError as err:
            self._silent_polls += isinstance(err, DeadlineError)
            return
        except asyncio.CancelledError:
            if not _is_dropped():
                raise
            return
        if connection == self.connection:
            self._silent_polls = 0
            self._has_told = True
            self._versions[name] = {status.version: status for status in found}

    def figures(self) -> ServerFigures:
        """Return its metrics; from any thread."""
        loaded = [
            (name, number)
            for name, versions in list(self._versions.items())
            for number, status in list(versions.items())
            if status.state == AVAILABLE
        ]
        calls = dict(list(self._calls.items()))
        return ServerFigures(self.address, self.is_usable, self.load, calls, self._seconds, tuple(loaded))

    def _build_backend(self) -> Backend:
        return Backend(
            self.address,
            timeout_s=self._timeout_s,
            metadata=self._metadata,
            tries=1,
            options=_OPTIONS,
            on_change=self._connection_changed,
        )

    def _connection_changed(self) -> None:
        if self._backend.state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            self.has_failed = True
        if self._backend.generation != self._generation:
            self._forget()
        self._wake.set()
        self._on_change()

    def _forget(self) -> None:
        self._generation = self._backend.generation
        self._versions.clear()

    async def _follow_versions(self) -> None:
        while True:
            self._wake.clear()
            if self.is_connected:
                for name in list(self._names()):
                    await self.ask_versions(name)
                for name in self._versions.keys() - set(self._names()):
                    del self._versions[name]
                self._on_change()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()

    async def _follow_health(self) -> None:
        """Follow grpc.health.v1; a server without it counts as healthy."""
        while True:
            pause_s = _HEALTH_PAUSE_S
            try:
                async for is_serving in self._backend.watch_health():
                    if is_serving != self._is_serving:
                        logger.info("model server %s is %s", self.address, "healthy" if is_serving else "not healthy")
                    self._is_serving = is_serving
                    self._on_change()
            except grpc.aio.AioRpcError as err:
                if err.code() is grpc.StatusCode.UNIMPLEMENTED:
                    self._is_serving, pause_s = True, _NO_HEALTH_PAUSE_S
            except asyncio.CancelledError:
                if not _is_dropped():
                    raise
            await asyncio.sleep(pause_s)


def _is_dropped() -> bool:
    """True if a CancelledError is gRPC's own, of a connection that was closed, and not a request to stop."""
    task = asyncio.current_task()
    return task is not None and not task.cancelling()
