"""HTTP/1.1 replies as they come in, as much of the protocol as the measured servers use."""

from __future__ import annotations

from dataclasses import dataclass

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A complete reply.

    Attributes:
        status: such as 200.
        body: without chunking.
        keeps_alive: whether the connection takes another request.
    """

    status: int
    body: bytes
    keeps_alive: bool


def parse_reply(data: bytearray) -> HttpReply | None:
    """Take one reply from the front of `data`; None while it is not complete.

    Raises:
        ValueError: if this is not HTTP/1.1, or the reply's length is not told.
    """
    end = data.find(_HEAD_END)
    if end < 0:
        return None
    if not data.startswith(b"HTTP/1."):
        raise ValueError(f"expected HTTP/1.1. Received: {bytes(data[:40])!r}")
    status, headers = int(data[9:12]), _parse_headers(bytes(data[:end]))
    start = end + len(_HEAD_END)
    if status == 100:
        del data[:start]
        return parse_reply(data)
    if b"chunked" in headers.get(b"transfer-encoding", b""):
        found = _read_chunks(data, start)
    elif b"content-length" in headers:
        stop = start + int(headers[b"content-length"])
        found = (bytes(data[start:stop]), stop) if len(data) >= stop else None
    else:
        raise ValueError("expected Content-Length or chunks. Received: a reply that ends with its connection")
    if found is None:
        return None
    body, consumed = found
    del data[:consumed]
    return HttpReply(status, body, headers.get(b"connection", b"").lower() != b"close")


def _parse_headers(head: bytes) -> dict[bytes, bytes]:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _read_chunks(data: bytearray, position: int) -> tuple[bytes, int] | None:
    """Return the joined chunks and where they end; None while the last one is missing."""
    parts: list[bytes] = []
    while True:
        line_end = data.find(b"\r\n", position)
        if line_end < 0:
            return None
        size = int(bytes(data[position:line_end]).split(b";")[0], 16)
        start = line_end + 2
        if len(data) < start + size + 2:
            return None
        if size == 0:  # no measured server sends trailers
            return b"".join(parts), start + 2
        parts.append(bytes(data[start : start + size]))
        position = start + size + 2
