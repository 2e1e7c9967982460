"""Looks up the addresses that the setting `backend` stands for."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Sequence

from service.gateway.context.backend_targets import Endpoint

logger = logging.getLogger("fovea.backend")


class AddressBook:
    """The addresses of model servers, as host:port with an IP address.

    A host that cannot be looked up keeps the addresses that it had: a name server that is away, or a Service of
    Kubernetes without a ready pod, takes no server away.

    Args:
        endpoints: hosts and ports; a host that is a name has any number of addresses.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        self._known: dict[Endpoint, frozenset[str]] = {}
        self._failed: set[Endpoint] = set()

    async def look_up(self) -> frozenset[str]:
        """Return all addresses as they are now."""
        found = await asyncio.gather(*map(self._look_up_one, self._endpoints))
        return frozenset().union(*found)

    async def _look_up_one(self, endpoint: Endpoint) -> frozenset[str]:
        host, port = endpoint
        if _is_ip(host):
            return frozenset({_join(host, port)})
        try:
            infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as err:  # UnicodeError: what is no name at all, such as a..b
            if endpoint not in self._failed:
                self._failed.add(endpoint)
                logger.warning("%s cannot be looked up (%s); it is tried again", host, err)
        else:
            self._failed.discard(endpoint)
            self._known[endpoint] = frozenset(_join(str(info[4][0]), port) for info in infos)
        return self._known.get(endpoint, frozenset())


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
