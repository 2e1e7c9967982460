"""Listening sockets and the URLs that reach them."""

from __future__ import annotations

import errno
import socket

BACKLOG = 2048
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def bind_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address; port 0 takes a free one.

    Raises:
        OSError: if the address is not ours to listen on, or taken.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """Return a URL that reaches a listening socket from this machine, such as "http://127.0.0.1:8000"."""
    host, port = listener.getsockname()[:2]
    host = _WILDCARDS.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def explain_bind_error(host: str, port: int, err: OSError, option: str = "--port") -> str:
    """Return why an address cannot be listened on, and what to do if its port is taken."""
    words = f"cannot listen on {host}:{port}: {err.strerror or err}"
    if err.errno != errno.EADDRINUSE:
        return words
    return f"{words}; stop the program that has the port, or choose another with {option} (0 takes a free one)"
