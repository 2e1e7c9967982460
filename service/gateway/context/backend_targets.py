"""Reads the setting `backend`: the address of one model server, or what stands for several."""

from __future__ import annotations

import os
import re

MAX_SOCKET_PATH_BYTES = 107  # sun_path of sockaddr_un on Linux, less its closing zero
MAX_SERVERS = 256

FORMS = "host:port, unix:/path, dns:///host:port or ipv4:host:port,host:port"

_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
_SCHEME = re.compile(r"(dns:///|dns:|ipv4:|ipv6:)(?!\d{1,5}$)(.*)")  # a host may be called dns

Endpoint = tuple[str, int]


def check_target(text: str) -> str:
    """Return a value of the setting as it is.

    Raises:
        ValueError: if it is none of `FORMS`.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
            raise ValueError(f"expected unix: and a path of 1 to {MAX_SOCKET_PATH_BYTES} bytes")
    elif endpoints_of(text) is None:
        _read_endpoint(text)
    return text


def endpoints_of(text: str) -> tuple[Endpoint, ...] | None:
    """Return the hosts and ports of several model servers; None for the address of one.

    A host that is a name stands for all of its addresses.

    Raises:
        ValueError: if the text begins with a scheme of several servers and goes on otherwise.
    """
    found = _SCHEME.fullmatch(text)
    if found is None:
        return None
    scheme, rest = found.groups()
    if scheme == "dns:" and rest.startswith("/"):
        raise ValueError("expected dns:///host:port; a name server of its own cannot be given")
    parts = rest.split(",")
    if scheme.startswith("dns:") and len(parts) > 1:
        raise ValueError("expected one name after dns:///; addresses separated by commas follow ipv4:")
    if len(parts) > MAX_SERVERS:
        raise ValueError(f"expected at most {MAX_SERVERS} addresses")
    return tuple(dict.fromkeys(_read_endpoint(part.strip()) for part in parts))


def _read_endpoint(text: str) -> Endpoint:
    match = _HOST_PORT.fullmatch(text)
    if not match or not 1 <= int(match[2]) <= 65535:
        raise ValueError(f"expected {FORMS}")
    return match[1].strip("[]"), int(match[2])
