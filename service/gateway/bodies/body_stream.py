"""Request bodies as bytes, compressed or not: bounded while they are read, as sent and as inflated."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from starlette.requests import ClientDisconnect, Request

from service.gateway.context.errors import BodyTooLargeError, MalformedRequestError, UnsupportedEncodingError
from service.gateway.context.request_context import Hold, RequestContext

_PIECE = 1 << 18  # bytes that are inflated at a time, between which other requests have their turn
_MAX_MEMBERS = 64  # a gzip file may be several, one after the other; each costs time however small it is
# zlib's numbers for the largest window: with gzip's header, with zlib's, with none.
_GZIP, _ZLIB, _RAW = 31, 15, -15
_PLAIN = ("", "identity")


async def join_chunks(request: Request, context: RequestContext, max_bytes: int) -> bytes:
    """Return a request's body.

    Args:
        request: its body is read here.
        context: counts the bytes that the request holds.
        max_bytes: of the body, as sent and as inflated.

    Raises:
        MalformedRequestError: if it is not what its headers say.
        BodyTooLargeError: as soon as it is known to exceed the limit, before or after inflation.
        UnsupportedEncodingError: if it is compressed otherwise than by gzip or deflate.
        ClientDisconnect: if the client leaves before the end.
    """
    if _read_encoding(request, max_bytes) in _PLAIN:
        return await _join_plain(request, context.hold, max_bytes)
    async with aclosing(read_chunks(request, context, max_bytes)) as chunks:
        return b"".join([chunk async for chunk in chunks])


def read_chunks(request: Request, context: RequestContext, max_bytes: int) -> AsyncGenerator[bytes]:
    """Give a request's body piece by piece, as `join_chunks` reads it; headers are checked before the first piece."""
    encoding = _read_encoding(request, max_bytes)
    if encoding in _PLAIN:
        return _hold(context.hold, _bound(_receive(request), max_bytes))
    if encoding in ("gzip", "x-gzip"):
        return _hold(context.hold, _bound(_inflate_gzip(_bound(_receive(request), max_bytes)), max_bytes))
    if encoding == "deflate":
        return _hold(context.hold, _bound(_inflate_deflate(_bound(_receive(request), max_bytes)), max_bytes))
    raise UnsupportedEncodingError(f"content-encoding: expected gzip, deflate or none. Received: {encoding[:32]!r}")


async def _join_plain(request: Request, hold: Hold | None, max_bytes: int) -> bytes:
    """Return a body that is not compressed: the usual case, without generators."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if hold is not None:
            hold.add(len(parts[-1]))
        if size > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return b"".join(parts)


def _read_encoding(request: Request, max_bytes: int) -> str:
    """Return Content-Encoding in lower case; refuse a Content-Length beyond the limit."""
    declared, encoding = b"0", b""
    for name, value in request.scope["headers"]:
        if name == b"content-length":
            declared = value
        elif name == b"content-encoding":
            encoding = value
    if not declared.isdigit():
        raise MalformedRequestError(f"content-length: expected a number. Received: {declared[:32].decode('latin-1')!r}")
    if int(declared) > max_bytes:
        raise BodyTooLargeError(f"request body is {int(declared):,} bytes; {_limit(max_bytes)}")
    return encoding.decode("latin-1").strip().lower()


async def _receive(request: Request) -> AsyncGenerator[bytes]:
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        if body := message.get("body"):
            yield body


async def _hold(hold: Hold | None, chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(chunks):
        async for chunk in chunks:
            if hold is not None:
                hold.add(len(chunk))
            yield chunk


async def _bound(chunks: AsyncGenerator[bytes], max_bytes: int) -> AsyncGenerator[bytes]:
    left = max_bytes
    async with aclosing(chunks):
        async for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise _too_large(max_bytes)
            yield chunk


async def _inflate_gzip(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    members = 1
    inflater = zlib.decompressobj(_GZIP)
    async with aclosing(chunks):
        async for chunk in chunks:
            data = chunk
            while data:
                if inflater.eof:
                    members += 1
                    inflater = zlib.decompressobj(_GZIP)
                if members > _MAX_MEMBERS:
                    raise MalformedRequestError(f"gzip: the body has more than {_MAX_MEMBERS} members, the limit")
                async for piece in _pieces(inflater, data, "gzip"):
                    yield piece
                data = inflater.unused_data
    if not inflater.eof:
        raise MalformedRequestError("gzip: the body ends before its last member does")


async def _inflate_deflate(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Inflates zlib's format, which HTTP calls deflate, and the bare format, which some clients send."""
    inflater: zlib._Decompress | None = None
    start = b""
    async with aclosing(chunks):
        async for chunk in chunks:
            start += chunk
            if inflater is None:
                if len(start) < 2:
                    continue
                inflater = zlib.decompressobj(_ZLIB if _has_zlib_header(start) else _RAW)
            data, start = start, b""
            if not inflater.eof:
                async for piece in _pieces(inflater, data, "deflate"):
                    yield piece
                data = inflater.unused_data
            if inflater.eof and data:
                raise MalformedRequestError("deflate: there are bytes after the compressed data")
    if inflater is None or not inflater.eof:
        raise MalformedRequestError("deflate: the body ends before its compressed data does")


def _has_zlib_header(start: bytes) -> bool:
    """Return True if bytes begin as RFC 1950 says: method 8, window of at most 32 KiB, check of the two bytes."""
    return start[0] & 0x0F == 8 and start[0] >> 4 <= 7 and int.from_bytes(start[:2], "big") % 31 == 0


async def _pieces(inflater: zlib._Decompress, data: bytes, name: str) -> AsyncIterator[bytes]:
    """Inflate one chunk, or the part of it that belongs to the inflater's member."""
    while True:
        try:
            piece = inflater.decompress(data, _PIECE)
        except zlib.error as err:
            raise MalformedRequestError(f"{name}: the body is corrupt") from err
        if piece:
            yield piece
        data = inflater.unconsumed_tail
        if inflater.eof or (not data and len(piece) < _PIECE):  # a full piece may leave output behind, not input
            return
        await asyncio.sleep(0)


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"request body is over {max_bytes:,} bytes as read and inflated; {_limit(max_bytes)}")


def _limit(max_bytes: int) -> str:
    return f"the limit is {max_bytes:,} (FOVEA_MAX_BODY_BYTES)"
