"""Requests as bytes: a body is never read as a request, however it is framed, split or followed."""

from __future__ import annotations

import contextlib
import itertools
import random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from service.gateway.server.request_heads import MAX_HEAD_BYTES
from tests.helpers.wire_server import Answer, Asked, read_with_h11, requests_of, run, wire_server

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: y\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "tls": b"Connection: upgrade\r\nUpgrade: TLS/1.2\r\n",
    "any": b"upgrade: foo/2, h2c\r\nconnection: keep-alive, Upgrade\r\n",
    "several": b"Connection: keep-alive\r\nUpgrade: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    "nginx": b"Upgrade: h2c\r\nConnection: upgrade\r\nX-Forwarded-For: 10.0.0.1\r\n",
    "connection-only": b"Connection: upgrade\r\n",
    "upgrade-only": b"Upgrade: h2c\r\n",
}
upgrades = pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES.keys())


def post(headers: bytes, body: bytes, *, chunked: bool = False, version: bytes = b"1.1") -> bytes:
    start = b"POST /first HTTP/" + version + b"\r\nHost: x\r\n" + headers
    if chunked:
        pieces = [body[:5], body[5:]] if len(body) > 5 else [body]
        framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece)
        return start + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"
    return start + b"Content-Length: %d\r\n\r\n" % len(body) + body


def served(*pieces: bytes) -> list[tuple[int, Asked | None]]:
    """Return the replies to packets: status and, of those that reached the app, the request."""

    async def ask() -> list[tuple[int, Asked | None]]:
        async with wire_server() as server:
            answers = await server.exchange(*pieces)
            return [(answer.status, answer.asked if answer.status == 200 else None) for answer in answers]

    return run(ask())


@upgrades
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("body", [b"", b"image", HIDDEN, HIDDEN * 3, bytes(300_000)], ids=len)
def test_upgrade_that_is_not_taken_is_ignored(upgrade: bytes, chunked: bool, body: bytes) -> None:
    """RFC 9110, 7.8: the body belongs to the request, and the next request is the next one's."""
    request = post(upgrade, body, chunked=chunked)
    expected = [(200, Asked("POST", "/first", body)), (200, Asked("GET", "/next", b""))]

    assert expected == served(request + NEXT)
    assert expected == served(request, NEXT)


@upgrades
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_request_may_be_split_anywhere(upgrade: bytes, chunked: bool) -> None:
    """Two packets, cut at every byte of the head and the body: the same two replies."""
    data = post(upgrade, HIDDEN, chunked=chunked) + NEXT
    expected = [Asked("POST", "/first", HIDDEN), Asked("GET", "/next", b"")]

    async def ask() -> None:
        async with wire_server() as server:
            for cut in range(1, len(data)):
                answers = await server.exchange(data[:cut], data[cut:])
                assert expected == requests_of(answers), data[:cut]
                assert 2 == len(answers)

    run(ask())


def test_request_may_come_byte_by_byte() -> None:
    """Upgrades in a row, one byte a packet."""
    data = post(UPGRADES["h2c"], HIDDEN) + post(UPGRADES["several"], HIDDEN, chunked=True) + NEXT
    expected = [Asked("POST", "/first", HIDDEN)] * 2 + [Asked("GET", "/next", b"")]

    assert expected == [asked for _, asked in served(*(data[n : n + 1] for n in range(len(data))))]


def test_many_upgrades_in_one_packet() -> None:
    """Each is answered, in order."""
    data = b"".join(post(UPGRADES["h2c"], b"%d" % number) for number in range(200))

    assert [b"%d" % number for number in range(200)] == [asked.body for _, asked in served(data) if asked]


def test_upgrade_of_http_1_0_ends_the_connection() -> None:
    """One reply."""
    data = post(UPGRADES["h2c"], HIDDEN, version=b"1.0") + NEXT

    assert [(200, Asked("POST", "/first", HIDDEN))] == served(data)


@pytest.mark.parametrize("target", [b"example.com:443", b"/first"])
def test_connect_is_refused_and_closed(target: bytes) -> None:
    """The bytes behind it would be of another protocol."""
    data = b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN

    assert [(400, None)] == served(data + NEXT)


START = b"POST /first HTTP/1.1\r\nHost: x\r\n"
CHUNKS = b"5\r\nimage\r\n0\r\n\r\n"
# Framing that parsers disagree on: refused after no reply but the refusal, whatever follows.
REFUSED = {
    "length-and-chunked": START + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "chunked-and-length": START + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + CHUNKS,
    "two-lengths": START + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nimage",
    "equal-lengths": START + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nimage",
    "list-of-lengths": START + b"Content-Length: 5, 5\r\n\r\nimage",
    "signed-length": START + b"Content-Length: +5\r\n\r\nimage",
    "negative-length": START + b"Content-Length: -5\r\n\r\nimage",
    "hexadecimal-length": START + b"Content-Length: 0x5\r\n\r\nimage",
    "huge-length": START + b"Content-Length: 18446744073709551621\r\n\r\nimage",
    "empty-length": START + b"Content-Length: \r\n\r\nimage",
    "space-before-colon": START + b"Content-Length : 5\r\n\r\nimage",
    "folded": START + b"X-A: b\r\n c\r\nContent-Length: 5\r\n\r\nimage",
    "folded-coding": START + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKS,
    "folded-first": b"POST /first HTTP/1.1\r\n Host: x\r\nContent-Length: 5\r\n\r\nimage",
    "bare-lf": b"POST /first HTTP/1.1\nHost: x\nContent-Length: 5\n\nimage",
    "bare-lf-header": START + b"X-A: b\nContent-Length: 5\r\n\r\nimage",
    "bare-cr": START + b"X-A: b\rContent-Length: 5\r\n\r\nimage",
    "nul": START + b"X-A: b\0\r\nContent-Length: 5\r\n\r\nimage",
    "chunked-not-last": START + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + CHUNKS,
    "gzip-chunked": START + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "two-codings": START + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "identity-and-chunked": START + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "identity": START + b"Transfer-Encoding: identity\r\n\r\n",
    "unknown-coding": START + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS,
    "vertical-tab-coding": START + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKS,
    "quoted-coding": START + b'Transfer-Encoding: "chunked"\r\n\r\n' + CHUNKS,
    "empty-coding": START + b"Transfer-Encoding:\r\n\r\n" + CHUNKS,
    "chunk-extension-lf": START + b"Transfer-Encoding: chunked\r\n\r\n5;a\nimage\r\n0\r\n\r\n",
    "chunk-extension-crlf": START + b'Transfer-Encoding: chunked\r\n\r\n5;a="\r\n"\r\nimage\r\n0\r\n\r\n',
    "chunk-size-prefix": START + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nimage\r\n0\r\n\r\n",
    "chunk-size-space": START + b"Transfer-Encoding: chunked\r\n\r\n5 \r\nimage\r\n0\r\n\r\n",
    "chunk-size-sign": START + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nimage\r\n0\r\n\r\n",
    "chunk-size-huge": START + b"Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nimage\r\n0\r\n\r\n",
    "chunk-lf": START + b"Transfer-Encoding: chunked\r\n\r\n5\nimage\n0\n\n",
    "chunk-too-long": START + b"Transfer-Encoding: chunked\r\n\r\n4\r\nimage\r\n0\r\n\r\n",
    "trailer-length": START + b"Transfer-Encoding: chunked\r\n\r\n5\r\nimage\r\n0\r\nContent-Length: 9\r\n\r\n",
    "no-host": b"POST /first HTTP/1.1\r\nContent-Length: 5\r\n\r\nimage",
    "host-with-path": b"POST /first HTTP/1.1\r\nHost: x/y\r\nContent-Length: 5\r\n\r\nimage",
    "host-with-user": b"POST /first HTTP/1.1\r\nHost: u@x\r\nContent-Length: 5\r\n\r\nimage",
    "host-with-space": b"POST /first HTTP/1.1\r\nHost: x y\r\nContent-Length: 5\r\n\r\nimage",
    "host-with-word-as-port": b"POST /first HTTP/1.1\r\nHost: x:y\r\nContent-Length: 5\r\n\r\nimage",
    "two-hosts": START + b"Host: y\r\nContent-Length: 5\r\n\r\nimage",
    "http-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http-2-without-preface": b"POST /first HTTP/2.0\r\nHost: x\r\nContent-Length: 5\r\n\r\nimage",
    "http-0.9-with-headers": b"POST /first HTTP/0.9\r\nHost: x\r\nContent-Length: 5\r\n\r\nimage",
    "http-0.9": b"GET /first\r\n",
    "no-colon": START + b"X-A\r\nContent-Length: 5\r\n\r\nimage",
}


@pytest.mark.parametrize("upgrade", [b"", UPGRADES["h2c"]], ids=["plain", "h2c"])
@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_doubtful_framing_is_refused_once(data: bytes, upgrade: bytes) -> None:
    """One reply, 400, and the connection ends; what follows is never read as a request."""
    line, _, rest = data.partition(b"\r\n")
    if upgrade and b"\n" not in line:
        data = line + b"\r\n" + upgrade + rest if not rest.startswith(b" ") else data

    assert [(400, None)] == served(data + HIDDEN)
    assert [(200, Asked("GET", "/next", b"")), (400, None)] == served(NEXT + data + HIDDEN)


# Framing that is right, however odd: the body is the body, and the next request is served.
SERVED = {
    "chunk-extension": START + b'Transfer-Encoding: chunked\r\n\r\n5;a=b;c="d"\r\nimage\r\n0\r\n\r\n',
    "upper-case-coding": START + b"Transfer-Encoding: CHUNKED\r\n\r\n" + CHUNKS,
    "spaces-around-length": START + b"Content-Length:  5  \r\n\r\nimage",
    "blank-lines-first": b"\r\n\r\n" + START + b"Content-Length: 5\r\n\r\nimage",
    "trailer": START + b"Transfer-Encoding: chunked\r\n\r\n5\r\nimage\r\n0\r\nX-API-Key: key\r\n\r\n",
    "expect": START + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nimage",
    "expect-upgrade": START + b"Expect: 100-continue\r\n" + UPGRADES["h2c"] + b"Content-Length: 5\r\n\r\nimage",
}


@pytest.mark.parametrize("data", SERVED.values(), ids=SERVED.keys())
def test_odd_but_right_framing_is_served(data: bytes) -> None:
    """Whole, and in two packets."""
    expected = [(200, Asked("POST", "/first", b"image")), (200, Asked("GET", "/next", b""))]

    assert expected == served(data + NEXT)
    assert expected == served(data[:-3], data[-3:] + NEXT)


@pytest.mark.parametrize(
    "host", [b"", b"x:", b"x:80", b"[::1]:8000", b"[fe80::1%25eth0]", b"a_b.example", b"127.0.0.1"]
)
def test_host_may_be_any_name_or_address(host: bytes) -> None:
    """With a port or without, or empty."""
    data = b"POST /first HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: 5\r\n\r\nimage"

    assert [(200, Asked("POST", "/first", b"image"))] == served(data)


def test_trailer_fields_are_no_headers() -> None:
    """A proxy checks headers only: a key or an address in the trailer counts for nothing."""
    trailer = b"0\r\nX-API-Key: key\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n"
    data = START + b"Transfer-Encoding: chunked\r\n\r\n5\r\nimage\r\n" + trailer

    async def ask() -> list[str]:
        async with wire_server() as server:
            (answer,) = await server.exchange(data)
            return answer.header_names

    assert ["host", "transfer-encoding"] == run(ask())


@pytest.mark.parametrize(
    "headers", [b"Transfer-Encoding: chunked\r\n", b"Connection: keep-alive\r\nContent-Length: 5\r\n"]
)
def test_http_1_0_gets_one_reply(headers: bytes) -> None:
    """Its connection ends: RFC 9112, 6.1 says so of chunked bodies."""
    body = CHUNKS if b"chunked" in headers else b"image"
    data = b"POST /first HTTP/1.0\r\n" + headers + b"\r\n" + body + HIDDEN

    assert [(200, Asked("POST", "/first", b"image"))] == served(data)


def test_early_reply_that_ends_the_connection_is_not_lost() -> None:
    """A socket that is closed over unread bytes resets the connection, and the client loses the reply."""

    async def ask() -> tuple[Answer, bytes]:
        async with wire_server() as server:
            server.answers_early = True
            client = await server.connect()
            with contextlib.closing(client):
                await client.send(START + b"Connection: close\r\nContent-Length: 4000000\r\n\r\n" + bytes(1000))
                for _ in range(8):
                    await client.send(bytes(1 << 15))
                reply = await client.read_reply()
                return reply, await client.read()

    reply, rest = run(ask())

    assert 200 == reply.status
    assert b"" == rest


def test_nothing_follows_connection_close() -> None:
    """Bytes after the last request are no request."""
    assert [(200, Asked("POST", "/first", b"image"))] == served(post(b"Connection: close\r\n", b"image") + HIDDEN)


@pytest.mark.parametrize("surplus", [-40, 0, 1, 4464, 150_000])
@pytest.mark.parametrize("body", [b"", bytes(1000), bytes(250_000)], ids=len)
@pytest.mark.parametrize("before", [b"", NEXT], ids=["alone", "pipelined"])
def test_head_has_a_limit_whatever_comes_with_it(surplus: int, body: bytes, before: bytes) -> None:
    """In the packet of its body, of another request or alone: 431 from one byte above 64 KiB on."""
    start = b"POST /first HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nX-Long: " % len(body)
    counted = len(b"/first") + sum(len(line) + 2 for line in start.split(b"\r\n")[1:])  # target and header lines
    data = start + b"a" * (MAX_HEAD_BYTES - counted + surplus) + b"\r\n\r\n" + body
    statuses = [status for status, _ in served(before + data)]

    assert ([200] if before else []) + [200 if surplus <= 0 else 431] == statuses


@pytest.mark.parametrize("size", [70_000, 300_000])
def test_unfinished_head_has_the_same_limit(size: int) -> None:
    """It is refused while the client still waits."""

    async def ask() -> int:
        async with wire_server() as server:
            client = await server.connect()
            await client.send(START + b"X-Long: " + b"a" * size)
            status = (await client.read_reply()).status
            client.close()
            return status

    assert 431 == run(ask())


@pytest.mark.parametrize("start", [b"5;a=", b"5\r\nimage\r\n0\r\nX-A: "], ids=["chunk-extension", "trailer"])
def test_endless_chunk_extension_or_trailer_is_refused(start: bytes) -> None:
    """Neither is content that another limit would count."""
    pieces = [START + b"Transfer-Encoding: chunked\r\n\r\n" + start, *[b"a" * 20_000] * 4, b"\r\n\r\n"]

    assert [(431, None)] == served(*pieces)


def test_many_small_chunks_are_a_body() -> None:
    """However little each of them holds, and however large the framing is in sum."""
    body = bytes(30_000)
    chunks = b"".join(b"1;a=bcd\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    data = START + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
    pieces = [data[start : start + 1000] for start in range(0, len(data), 1000)]

    assert [(200, Asked("POST", "/first", body))] == served(*pieces)


HEADERS = st.sampled_from(
    [
        b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 33", b"Content-Length: 34", b"content-length:5",
        b"Content-Length: 5 ", b"Content-Length: 05", b"Content-Length: 5,5", b"Content-Length : 5",
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"transfer-encoding:chunked",
        b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked ", b" Transfer-Encoding: chunked",
        b"Transfer-Encoding : chunked", b"Transfer_Encoding: chunked", b"Connection: Upgrade", b"Upgrade: h2c",
        b"Connection: keep-alive, upgrade", b"Upgrade: websocket", b"Connection: close", b"Connection: keep-alive",
        b"Expect: 100-continue", b"X-A: b", b"X-A: b\n c", b"X-A: b\r", b"Trailer: X-B",
    ]
)  # fmt: skip
BODIES = st.sampled_from(
    [b"", b"image", HIDDEN, b"0\r\n\r\n", CHUNKS, b"5;a=b\r\nimage\r\n0\r\nX-B: c\r\n\r\n", b"5\r\n"]
)
REQUESTS = st.builds(
    lambda method, version, headers, body: (
        method + b" /first HTTP/" + version + b"\r\n" + b"\r\n".join([b"Host: x", *headers, b"", b""]) + body
    ),
    st.sampled_from([b"POST", b"GET", b"PUT", b"DELETE"]),
    st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]),
    st.lists(HEADERS, max_size=5),
    BODIES,
)


@settings(max_examples=400, phases=[Phase.generate])
@given(requests=st.lists(REQUESTS, min_size=1, max_size=3), seed=st.integers(0, 1000))
def test_no_request_is_served_that_h11_does_not_see(requests: list[bytes], seed: int) -> None:
    """An independent parser reads the same bytes: what the app is asked is a prefix of what h11 finds there."""
    data = b"".join(requests)
    cuts = sorted(random.Random(seed).sample(range(len(data) + 1), k=min(3, len(data))))
    pieces = [data[start:end] for start, end in itertools.pairwise([0, *cuts, len(data)]) if start < end]
    replies = served(*pieces)
    found = read_with_h11(data)
    asked = [request for _, request in replies if request is not None]

    assert found[: len(asked)] == asked
    assert all(status in (200, 400) for status, _ in replies)
    assert [] == [status for status, _ in replies[len(asked) + 1 :]]  # one refusal at most, and it is the last reply
