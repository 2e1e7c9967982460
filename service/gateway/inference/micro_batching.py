"""Batches the single images of concurrent requests into one call of the model server.

A request goes at once, alone, while no other is being prepared. Where others are still decoding theirs, it waits for
them, some milliseconds at most: one call of four images costs both programs less than four calls, and a batch that is
full costs less than four that are not.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from contract.model import InputSpec
from service.gateway.backend.backend import ModelReply
from service.gateway.backend.model_server import ModelServer
from service.gateway.inference.signature import IMAGES, Signature

MAX_WAIT_S: Final = 0.01  # about the time of decoding a photograph; slower ones are not waited for
MAX_BATCHED: Final = 8  # beyond that a call saves next to nothing, and its first image waits for the last

_Inputs = Mapping[str, NDArray[Any]]
_Key = tuple[str, int | None, str, InputSpec]
_Waiting = tuple[_Inputs, "asyncio.Future[ModelReply]"]


class _Infer(Protocol):
    """Calls the model server for one signature of one version."""

    def __call__(self, inputs: _Inputs, *, deadline: float | None = None) -> Coroutine[Any, Any, ModelReply]: ...


class MicroBatcher:
    """Batches calls by model, version, signature and input.

    Args:
        backend: the model server.
        max_batch: most images in one call.
        is_enabled: False sends every request by itself.
        max_wait_s: longest wait for others, seconds.
    """

    def __init__(
        self, backend: ModelServer, *, max_batch: int, is_enabled: bool = True, max_wait_s: float = MAX_WAIT_S
    ) -> None:
        self._backend = backend
        self._max_requests = min(MAX_BATCHED, max_batch) if is_enabled else 1
        self._max_wait_s = max_wait_s
        self._batchers: dict[_Key, Batcher] = {}

    def request(self, name: str, version: int | None, spec: InputSpec, signature: Signature[object]) -> BatchedRequest:
        """Return a request of the batcher for its version, a context manager: enter it before decoding.

        Args:
            name: the model.
            version: which version must answer; None leaves it to the model server.
            spec: how its images are prepared.
            signature: to run.
        """
        key = (name, version, signature.name, spec)
        batcher = self._batchers.get(key)
        if batcher is None:
            infer = functools.partial(
                self._backend.infer, name, signature.name, outputs=signature.outputs, version=version
            )
            batcher = self._batchers[key] = Batcher(
                infer,
                max_requests=self._max_requests if signature.is_batched else 1,
                max_wait_s=self._max_wait_s,
                on_empty=lambda: self._batchers.pop(key, None),
            )
        return BatchedRequest(batcher)


class Batcher:
    """Batches the requests for one signature of a version that are decoding, waiting or being answered.

    Args:
        infer: calls the model server for that signature and version.
        max_requests: most requests in one call.
        max_wait_s: longest wait for others, seconds.
        on_empty: called when the last one has left.
    """

    def __init__(self, infer: _Infer, *, max_requests: int, max_wait_s: float, on_empty: Callable[[], object]) -> None:
        self._infer = infer
        self._max_requests = max_requests
        self._max_wait_s = max_wait_s
        self._on_empty = on_empty
        self._num_here = 0
        self._num_preparing = 0
        self._waiting: list[_Waiting] = []
        self._last_wait: asyncio.TimerHandle | None = None
        self._calls: set[asyncio.Task[None]] = set()  # the event loop itself does not keep them

    def enter(self) -> None:
        """Count a request that prepares its images."""
        self._num_here += 1
        self._num_preparing += 1

    def finish_preparing(self) -> None:
        """Count a request that does so no longer; those who waited for it need not."""
        self._num_preparing -= 1
        self._send_if_due()

    def leave(self) -> None:
        """Count a request that has ended."""
        self._num_here -= 1
        self._send_if_due()
        if not self._num_here:
            self._on_empty()

    async def infer(self, inputs: _Inputs, deadline: float | None) -> ModelReply:
        """Call the model server for a request that has prepared its images, with others if that is better."""
        if self._goes_alone(inputs, deadline):
            self.finish_preparing()
            return await self._infer(inputs, deadline=deadline)
        future: asyncio.Future[ModelReply] = asyncio.get_running_loop().create_future()
        self._waiting.append((inputs, future))
        if self._last_wait is None:
            self._last_wait = future.get_loop().call_later(self._max_wait_s, self._send)
        self.finish_preparing()
        return await future

    @property
    def _room(self) -> int:
        """Requests that a call may have: while the model server works on one half, the other half can be decoded."""
        return min(self._max_requests, (self._num_here + 1) // 2)

    def _goes_alone(self, inputs: _Inputs, deadline: float | None) -> bool:
        """Say whether a request is a batch already, ends at another time than others, or is the only one."""
        is_only = not self._waiting and self._num_preparing == 1
        return is_only or self._room == 1 or len(inputs[IMAGES]) != 1 or deadline is not None

    def _send_if_due(self) -> None:
        if self._waiting and (not self._num_preparing or len(self._waiting) >= self._room):
            self._send()

    def _send(self) -> None:
        """Start a call for all who wait."""
        if self._last_wait is not None:
            self._last_wait.cancel()
            self._last_wait = None
        waiting, self._waiting = self._waiting, []
        # Requests share this call: it carries no request's log fields or span, and is cancelled once all have left.
        call = asyncio.create_task(self._call(waiting), context=contextvars.Context())
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        for _, future in waiting:
            future.add_done_callback(lambda _: call.cancel() if all(one.done() for _, one in waiting) else None)

    async def _call(self, waiting: list[_Waiting]) -> None:
        """Make one call and give each its row, or all the error."""
        waiting = [(inputs, future) for inputs, future in waiting if not future.done()]
        if not waiting:
            return
        names = waiting[0][0]
        batch = {name: np.concatenate([inputs[name] for inputs, _ in waiting]) for name in names}
        try:
            reply = await self._infer(batch)
        except Exception as err:  # noqa: BLE001 - whatever it is, those who wait get it
            for _, future in waiting:
                if not future.done():
                    future.set_exception(err)
            return
        for row, (_, future) in enumerate(waiting):
            if not future.done():
                rows = {alias: array[row : row + 1] for alias, array in reply.outputs.items()}
                future.set_result(ModelReply(reply.version, rows, reply.precision))


class BatchedRequest:
    """One request in its batcher, from before decoding until it is answered."""

    __slots__ = ("_batcher", "_is_preparing")

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._is_preparing = True

    def __enter__(self) -> BatchedRequest:
        self._batcher.enter()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_preparing:
            self._batcher.finish_preparing()
        self._batcher.leave()

    async def infer(self, inputs: _Inputs, deadline: float | None = None) -> ModelReply:
        """Run the signature as `Backend.infer` does, once for each request.

        Args:
            inputs: arrays by name, with the batch as first axis.
            deadline: when the client stops waiting; a request that has one goes alone.
        """
        self._is_preparing = False
        return await self._batcher.infer(inputs, deadline)
