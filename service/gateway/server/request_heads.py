"""Checks a request's head beyond llhttp's own rules, and rewrites one that asks for another protocol."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from urllib.parse import unquote

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.gateway.http.error_formats import format_message

MAX_HEAD_BYTES = 1 << 16

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

    def build_reply(self, url: bytes) -> bytes:
        """Return the reply; it ends the connection.

        Args:
            url: of the request as far as it is known, which decides the form of the error.
        """
        path = unquote(url.partition(b"?")[0].decode("latin-1"))
        body = format_message(path, self.code, str(self), request_id=uuid.uuid4().hex).encode()
        headers = [b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close"]
        if self.status == 503:
            headers.append(b"retry-after: 1")
        return STATUS_LINE[self.status] + b"\r\n".join([*headers, b"", body])


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
