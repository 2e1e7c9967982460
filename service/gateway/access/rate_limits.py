"""Limits the requests of a client: a moving window for each API key or address, kept in this process."""

from __future__ import annotations

import functools
import ipaddress
import math
import time
from collections.abc import Sequence

from service.gateway.context.errors import RateLimitedError

_JUMP_S = 1.0  # usual corrections of the wall clock stay below
_IPV6_SITE_BITS = 64  # a site has at least this network, and may answer from any address in it


class RateLimiter:
    """Refuses clients that have sent too many requests.

    In any span as long as a rate's unit, a client gets at most that rate's number of answers; refused requests do not
    count. Every gateway counts for itself, so with replicas the whole is that many times larger. When the wall clock
    jumps, everything is forgotten: counted by it, requests from "later" would lock their clients out for as long.

    Args:
        rates: such as "10/second"; all of them hold.
    """

    def __init__(self, rates: Sequence[str]) -> None:
        # Imported where it is needed: it takes 0.4 s, a third of the gateway's start.
        from limits import parse
        from limits.storage import MemoryStorage
        from limits.strategies import MovingWindowRateLimiter

        self._items = [parse(rate) for rate in rates]
        self._storage = MemoryStorage()
        self._limiter = MovingWindowRateLimiter(self._storage)
        self._clock_offset_s = time.time() - time.monotonic()

    def check(self, client: str) -> None:
        """Count a request of a client.

        Raises:
            RateLimitedError: if the client has sent too many, with the time after which it may send again.
        """
        self._notice_jump()
        for item in self._items:  # all are asked before any counts
            if not self._limiter.test(item, client):
                reset_at = self._limiter.get_window_stats(item, client).reset_time
                raise RateLimitedError(
                    f"too many requests: the limit is {item.amount} per {item.GRANULARITY.name} (FOVEA_RATE_LIMIT)",
                    retry_after_s=max(1, math.ceil(reset_at - time.time())),
                )
        for item in self._items:
            self._limiter.hit(item, client)

    def _notice_jump(self) -> None:
        offset_s = time.time() - time.monotonic()
        if abs(offset_s - self._clock_offset_s) > _JUMP_S:
            self._storage.reset()
        self._clock_offset_s = offset_s


@functools.lru_cache(maxsize=1024)
def name_address(address: str) -> str:
    """Return the identity of a client without a key: its IPv4 address, or its IPv6 network of 64 bits."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, _IPV6_SITE_BITS), strict=False))
