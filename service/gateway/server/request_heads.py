"""Checks a request's head beyond llhttp's own rules, and rewrites one that asks for another protocol."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.gateway.context.request_context import new_request_id
from service.gateway.http.error_formats import format_message

MAX_HEAD_BYTES = 1 << 16

_VERSIONS = frozenset({"1.1", "1.0"})
# RFC 9112, 3.2: a host name or address as in a URI, and perhaps a port; empty for targets without an authority.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\])(?::[0-9]*)?")

Headers = Iterable[tuple[bytes, bytes]]


class RefusedRequest(Exception):
    """A request that the connection refuses itself, without the app.

    Args:
        status: of the reply.
        code: of the error.
        message: for the client.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def build_reply(self, url: bytes, extra: Headers = (), *, root_path: str = "") -> bytes:
        """Return the reply; it ends the connection.

        Args:
            url: of the request as far as it is known, which decides the form of the error.
            extra: further headers.
            root_path: the prefix of a proxy, which precedes the path or has been removed from it.
        """
        path = _read_path(url)
        if root_path and path.startswith(f"{root_path}/"):
            path = path[len(root_path) :]
        body = format_message(path, self.code, str(self), request_id=new_request_id()).encode()
        headers = [b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close"]
        if self.status == 503:
            headers.append(b"retry-after: 1")
        headers += [b"%s: %s" % header for header in extra]
        return STATUS_LINE[self.status] + b"\r\n".join([*headers, b"", body])


def _read_path(url: bytes) -> str:
    """Returns the decoded path of a request target in origin or absolute form; empty if it has none."""
    if not url.startswith(b"/"):
        url = b"/" + url.partition(b"://")[2].partition(b"/")[2]
    return unquote(url.partition(b"?")[0].decode("latin-1"))


def malformed(message: str) -> RefusedRequest:
    """Return the refusal of a request that breaks HTTP's rules."""
    return RefusedRequest(400, "malformed_request", message)


def oversized_head(num_bytes: int) -> RefusedRequest:
    """Return the refusal of a request line and headers that are too long."""
    return RefusedRequest(
        431, "headers_too_large", f"request line and headers are {num_bytes:,} bytes; the limit is {MAX_HEAD_BYTES:,}"
    )


def oversized_framing(num_bytes: int) -> RefusedRequest:
    """Return the refusal of a chunked body with too much between two bytes of content."""
    return RefusedRequest(
        431,
        "headers_too_large",
        f"chunk extensions or trailer fields are {num_bytes:,} bytes; the limit is {MAX_HEAD_BYTES:,}",
    )


def check_head_size(url: bytes, headers: Headers) -> None:
    """Raises if a whole head is too long, optional white space not counted.

    Raises:
        RefusedRequest: with status 431.
    """
    num_bytes = len(url) + sum(len(name) + len(value) + 4 for name, value in headers)
    if num_bytes > MAX_HEAD_BYTES:
        raise oversized_head(num_bytes)


def check_version(version: str, hosts: Sequence[bytes]) -> None:
    """Raises for a version other than HTTP/1.1 and HTTP/1.0, and unless HTTP/1.1 names exactly one host.

    Args:
        version: of the request line.
        hosts: the values of the Host headers.

    Raises:
        RefusedRequest: with status 400.
    """
    if version not in _VERSIONS:
        raise malformed(f"expected HTTP/1.1 or HTTP/1.0. Received: HTTP/{version}")
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise malformed(f"expected one Host header. Received: {len(hosts)}")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise malformed(f"Host: expected a name or an address. Received: {hosts[0][:64].decode('latin-1')!r}")


def check_transfer_encoding(value: bytes) -> None:
    """Raises if a body has a transfer coding that the gateway does not decode.

    Raises:
        RefusedRequest: for anything but chunked.
    """
    if value.strip().lower() != b"chunked":
        raise malformed(f"Transfer-Encoding: expected chunked. Received: {value[:64].decode('latin-1')!r}")


def head_without_upgrade(method: bytes, url: bytes, version: str, headers: Headers) -> bytes:
    """Return a request's head without its Upgrade headers, which RFC 9110 section 7.8 lets a server ignore."""
    lines = [b"%s %s HTTP/%s" % (method, url, version.encode())]
    lines += [b"%s: %s" % header for header in headers if header[0] != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])
