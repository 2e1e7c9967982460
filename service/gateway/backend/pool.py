"""Spreads calls over several model servers, each call to one that has the version loaded."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import grpc
from numpy.typing import NDArray

from contract.model import ModelContract
from service.gateway.backend.addresses import AddressBook
from service.gateway.backend.backend import AVAILABLE, Backend, Metadata, ModelReply, TensorOutputs, VersionStatus
from service.gateway.backend.pooled_server import PooledServer
from service.gateway.backend.retries import FIRST_PAUSE_S, MAX_TRIES, RetryBudget
from service.gateway.backend.rollout import Rollout
from service.gateway.context.backend_targets import Endpoint
from service.gateway.context.errors import (
    BrokenContractError,
    GatewayError,
    NotLoadedError,
    OverloadedError,
    UnreachableError,
)
from service.gateway.telemetry.server_info import ServerFigures

T = TypeVar("T")

logger = logging.getLogger("fovea.backend")

LOOK_UP_S: Final = 2.0
_FIRST_LOOK_S: Final = 2.0  # a server that cannot be reached or does not answer by then is not waited for
_MAX_SERVERS: Final = 5  # that one call is sent to
_LOOK_AGAIN_S: Final = 0.1  # how soon after an answer about versions a missing one causes another question
_FORGET_NAME_S: Final = 60.0  # a model that was not asked for this long is no longer followed
# The model itself failed: perhaps there only. Other codes mean the same on every server.
_PERHAPS_THERE_ONLY: Final = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS)
# From the worst to the best, where servers differ.
_STATES: Final = ("UNKNOWN", "END", "UNLOADING", "START", "LOADING", AVAILABLE)


class ServerPool:
    """Several model servers that serve one store, called as if they were one.

    A call goes to the less loaded of two random servers that have its version loaded. Where a server is away, full, or
    has unloaded the version, the next one is asked. See `Backend` for the calls.

    Args:
        endpoints: where the servers are; names are looked up again every `LOOK_UP_S`.
        timeout_s: longest wait for one reply, seconds.
        metadata: returns gRPC metadata for the call that is made now; None for none.
        quorum_wait_s: see `Rollout`.

    Attributes:
        generation: grows when none of the connections is left that were there when it last grew.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        timeout_s: float,
        metadata: Metadata | None = None,
        quorum_wait_s: float = 120.0,
    ) -> None:
        self.generation = 0
        self._book = AddressBook(endpoints)
        self._timeout_s = timeout_s
        self._metadata = metadata
        self._rollout = Rollout(wait_s=quorum_wait_s)
        self._retries = RetryBudget()
        self._servers: dict[str, PooledServer] = {}
        self._connections: set[tuple[str, int, int]] = set()  # of the time when `generation` last grew
        self._asked: dict[str, float] = {}  # models, and when they were last asked for
        self._looks: dict[str, asyncio.Task[float]] = {}
        self._mixed: dict[tuple[str, int], frozenset[str]] = {}  # the precisions of versions that were warned of
        self._first_look = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def precisions(self) -> dict[tuple[str, int], str]:
        """At which versions predict, as the last answer of each server said; where they differ, joined by "+"."""
        found: dict[tuple[str, int], set[str]] = {}
        for server in list(self._servers.values()):
            for key, precision in server.precisions.items():
                found.setdefault(key, set()).add(precision)
        return {key: "+".join(sorted(precisions)) for key, precisions in found.items()}

    async def open(self) -> None:
        """Start looking up and connecting; call it in the event loop that will use the pool."""
        self._start(self._follow_addresses())
        self._start(self._end_first_look())

    async def close(self) -> None:
        """Close all connections; calls under way are given up."""
        tasks = [*self._tasks, *self._looks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(server.close() for server in self._servers.values()), return_exceptions=True)

    async def infer(
        self,
        name: str,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        *,
        outputs: Sequence[str],
        version: int | None = None,
        deadline: float | None = None,
    ) -> ModelReply:
        """Run a signature on images; without a version, the newest one that has taken over answers."""
        if version is None:
            version = await self._newest(name)
        end = self._limit(deadline)

        def infer(server: Backend) -> Awaitable[ModelReply]:
            return server.infer(name, signature, inputs, outputs=outputs, version=version, deadline=end)

        return await self._call(name, version, infer, num_images=len(inputs["images"]))

    async def describe(self, name: str, version: int) -> ModelContract:
        """Return a version's contract, as the model itself tells it."""
        return await self._call(name, version, lambda server: server.describe(name, version))

    async def run(
        self,
        name: str,
        signature: str,
        *,
        version: int,
        inputs: Mapping[str, NDArray[Any]],
        deadline: float | None = None,
    ) -> TensorOutputs:
        """Run any signature on a client's own numbers and return all its outputs by name."""
        end = self._limit(deadline)

        def run(server: Backend) -> Awaitable[TensorOutputs]:
            return server.run(name, signature, version=version, inputs=inputs, deadline=end)

        return await self._call(name, version, run)

    async def signatures(self, name: str, version: int, *, deadline: float | None = None) -> dict[str, Any]:
        """Return a version's SignatureDef messages by signature name."""
        end = self._limit(deadline)
        return await self._call(name, version, lambda server: server.signatures(name, version, deadline=end))

    async def status(self, name: str) -> tuple[VersionStatus, ...]:
        """Return the best state that any server has each version in, newest first.

        Raises:
            NotLoadedError: if no server knows a version.
            UnreachableError: if no server answers.
        """
        await self._know(name)
        answering = self._answering(name)
        if not answering:
            raise UnreachableError("no model server can be reached")
        found: dict[int, VersionStatus] = {}
        for server in answering:
            for version, status in server.versions(name).items():
                found[version] = max(found.get(version, status), status, key=_rank)
        if not found:
            raise NotLoadedError(f"no model server has a version of {name}")
        return tuple(found[version] for version in sorted(found, reverse=True))

    async def has_taken_over(self, name: str, version: int) -> bool:
        """Say whether requests that name no version may be answered by this one; see `Rollout`."""
        if self._rollout.is_settled(name, version):
            return True
        await self._know(name)
        ready = [server for server in self._servers.values() if server.has_any(name)]
        num_with = sum(server.has(name, version) for server in ready)
        num_expected = sum(server.is_expected for server in self._servers.values())
        return self._rollout.judge(name, version, num_with=num_with, num_ready=len(ready) + num_expected)

    def figures(self) -> Iterable[ServerFigures]:
        """Return the metrics of each server; from any thread."""
        return [server.figures() for server in list(self._servers.values())]

    def _limit(self, deadline: float | None) -> float:
        """Return when a call ends at the latest, however many servers are asked."""
        end = time.monotonic() + self._timeout_s
        return end if deadline is None else min(end, deadline)

    async def _newest(self, name: str) -> int:
        """Return the newest version that has taken over, else the newest that is loaded.

        Raises:
            NotLoadedError: if none is loaded.
        """
        loaded = [status.version for status in await self.status(name) if status.state == AVAILABLE]
        for version in loaded:
            if await self.has_taken_over(name, version):
                return version
        if not loaded:
            raise NotLoadedError(f"no model server has loaded a version of {name}")
        return loaded[0]

    async def _call(
        self, name: str, version: int, operation: Callable[[Backend], Awaitable[T]], *, num_images: int = 1
    ) -> T:
        """Run an operation on a server that has the version, on the next one if that fails.

        Raises:
            NotLoadedError: if no server has the version.
            GatewayError: as the last server's, or UnreachableError if there is none.
        """
        self._retries.count_call()
        tried: list[PooledServer] = []
        error: GatewayError | None = None
        while len(tried) < _MAX_SERVERS:
            server = self._choose(name, version, tried)
            if server is None and (error is None or isinstance(error, UnreachableError)):
                server = await self._wait_for(name, version, tried)
            if server is None:
                break
            tried.append(server)
            try:
                result = await server.call(operation, num_images=num_images)
            except GatewayError as err:
                error = err
                if not self._may_go_on(server, err, name, version):
                    raise
            else:
                if isinstance(error, BrokenContractError):
                    tried[-2].leave_out()  # the same call succeeds here
                return result
        if error is None or isinstance(error, UnreachableError):
            raise NotLoadedError("the version is not loaded on any model server that can be reached") from error
        raise error

    def _choose(self, name: str, version: int, tried: Sequence[PooledServer]) -> PooledServer | None:
        """Return the less loaded of two random servers; among equals the one that has rested longer."""
        fit = [server for server in self._servers.values() if server not in tried and server.has(name, version)]
        fit = [server for server in fit if server.is_usable] or fit
        if len(fit) > 2:
            fit = random.sample(fit, 2)
        return min(fit, key=lambda server: (server.load, server.last_used), default=None)

    async def _wait_for(self, name: str, version: int, tried: Sequence[PooledServer]) -> PooledServer | None:
        """Return a server that has a version, after asking all; wait a moment while none can be reached.

        Raises:
            UnreachableError: if none can be reached.
        """
        pause_s = FIRST_PAUSE_S
        for number in range(MAX_TRIES):
            await self._know(name)
            if any(server not in tried for server in self._answering(name)):
                await self._look(name)
                return self._choose(name, version, tried)
            if server := self._choose(name, version, ()):
                return server
            if number + 1 == MAX_TRIES or not self._retries.spend():
                break
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s *= 2
        raise UnreachableError("no model server can be reached")

    def _answering(self, name: str) -> list[PooledServer]:
        return [server for server in self._servers.values() if server.is_connected and server.knows(name)]

    def _may_go_on(self, server: PooledServer, err: GatewayError, name: str, version: int) -> bool:
        """Note what a failed call says of its server, and say whether another one may be asked."""
        if isinstance(err, NotLoadedError):
            server.drop(name, version)
            return True
        if isinstance(err, UnreachableError):
            server.leave_out()  # which is why this needs no budget: the next calls do not go there
            return True
        if isinstance(err, BrokenContractError):
            cause = err.__cause__
            is_there_only = isinstance(cause, grpc.aio.AioRpcError) and cause.code() in _PERHAPS_THERE_ONLY
            return is_there_only and self._retries.spend()
        return isinstance(err, OverloadedError) and self._retries.spend()

    async def _know(self, name: str) -> None:
        """Follow a model from now on, and wait until the servers that can be reached have told its versions."""
        self._asked[name] = time.monotonic()
        if not self._first_look.is_set():
            await self._first_look.wait()
        if any(server.is_connected and not server.knows(name) for server in self._servers.values()):
            await self._look(name)

    async def _look(self, name: str) -> None:
        """Ask all servers for a model's versions, unless they have just answered; one question serves all callers."""
        look = self._looks.get(name)
        if look is None or (look.done() and time.monotonic() - _ended_at(look) >= _LOOK_AGAIN_S):
            # Requests share this question: it carries no request's log fields or span.
            look = self._looks[name] = asyncio.create_task(self._ask_all(name), context=contextvars.Context())
        await asyncio.wait({look}, timeout=_FIRST_LOOK_S)

    async def _ask_all(self, name: str) -> float:
        await asyncio.gather(*(s.ask_versions(name) for s in self._servers.values() if s.is_connected))
        return time.monotonic()

    def _names(self) -> list[str]:
        now = time.monotonic()
        for name in [name for name, asked in self._asked.items() if now - asked > _FORGET_NAME_S]:
            del self._asked[name]
            self._looks.pop(name, None)
        return list(self._asked)

    def _changed(self) -> None:
        """Notice that all connections have been replaced: what is known of versions is stale then."""
        current = {server.connection for server in self._servers.values() if server.is_connected}
        if not current & self._connections:
            self.generation += bool(self._connections)
            self._connections = current
        if self._servers and all(server.is_connected or server.has_failed for server in self._servers.values()):
            self._first_look.set()

    async def _end_first_look(self) -> None:
        await asyncio.sleep(_FIRST_LOOK_S)
        self._first_look.set()

    async def _follow_addresses(self) -> None:
        while True:
            try:
                await self._apply(await self._book.look_up())
                self._warn_of_precisions()
                await asyncio.gather(*(s.reset() for s in self._silent_servers()))
            except Exception:  # to stop following would be worse than whatever this is
                logger.exception("following the model servers failed; it is tried again")
            await asyncio.sleep(LOOK_UP_S)

    def _warn_of_precisions(self) -> None:
        """Log each version that servers answer in different precisions, once for each such mixture."""
        found: dict[tuple[str, int], dict[str, list[str]]] = {}
        for server in self._servers.values():
            for (name, version), precision in server.precisions.items():
                if server.has(name, version):
                    found.setdefault((name, version), {}).setdefault(precision, []).append(server.address)
        mixed = {key: servers for key, servers in found.items() if len(servers) > 1}
        for (name, version), servers in mixed.items():
            if self._mixed.get((name, version)) != servers.keys():
                text = "; ".join(f"{precision} by {', '.join(servers[precision])}" for precision in sorted(servers))
                logger.warning(
                    "%s version %d is answered in different precisions: %s; give all model servers one --precision",
                    name,
                    version,
                    text,
                )
        self._mixed = {key: frozenset(servers) for key, servers in mixed.items()}

    def _silent_servers(self) -> list[PooledServer]:
        """Return the servers that hang, unless all do: then the machine is slow, and calls may still be answered."""
        silent = [server for server in self._servers.values() if server.is_silent]
        return silent if any(s.is_usable and not s.is_silent for s in self._servers.values()) else []

    async def _apply(self, addresses: frozenset[str]) -> None:
        """Add servers that are new, and retire those that are gone."""
        for address in sorted(addresses - self._servers.keys()):
            logger.info("model server %s joins", address)
            server = self._servers[address] = PooledServer(
                address,
                timeout_s=self._timeout_s,
                metadata=self._metadata,
                names=self._names,
                on_change=self._changed,
            )
            await server.open()
        for address in sorted(self._servers.keys() - addresses):
            logger.info("model server %s leaves", address)
            self._start(self._servers.pop(address).retire())
        self._changed()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _rank(status: VersionStatus) -> int:
    return _STATES.index(status.state)


def _ended_at(look: asyncio.Task[float]) -> float:
    with contextlib.suppress(asyncio.CancelledError, Exception):
        return look.result()
    return float("-inf")
