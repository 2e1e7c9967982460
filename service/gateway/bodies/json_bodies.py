"""Parses JSON bodies: small ones at once, others in threads, callers in turns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from service.gateway.bodies.json_document import Load
from service.gateway.bodies.json_reader import JsonReader
from service.gateway.bodies.turns import Shift, Turns
from service.gateway.context.request_context import ANONYMOUS

T = TypeVar("T")
INLINE_BYTES = 1 << 14  # of a body that the event loop parses, in less than a millisecond


class JsonBodies:
    """Parses bodies; see `JsonReader` for the cost of a large one.

    Args:
        max_values: numbers, texts, lists and objects of a body; more are refused before it is parsed.
    """

    def __init__(self, *, max_values: int) -> None:
        self._reader = JsonReader(max_values=max_values)
        self._turns = Turns(1, name="json", has_reserve=True)

    async def read(
        self,
        body: bytes,
        parse: Callable[[bytes, Load], T],
        *,
        caller: str = ANONYMOUS,
        json_bytes: int | None = None,
    ) -> T:
        """Return what `parse` makes of a body; it is given a function that parses JSON.

        Args:
            body: JSON, perhaps with binary data after it.
            parse: reads the body.
            caller: whose turn it takes.
            json_bytes: how many bytes are JSON; all of them by default.

        Raises:
            GatewayError: as `parse` and `JsonReader.load`.
        """
        if (len(body) if json_bytes is None else json_bytes) <= INLINE_BYTES:
            return parse(body, self._reader.load)

        def work(shift: Shift) -> T:
            return parse(body, partial(self._reader.load, before_helper=shift.declare_heavy))

        return await self._turns.submit(work, caller=caller)

    def close(self) -> None:
        """End the thread and the helper process."""
        self._turns.close()
        self._reader.close()
