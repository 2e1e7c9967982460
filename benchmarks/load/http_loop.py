"""The closed loop over HTTP/1.1: one thread, non-blocking sockets, requests prepared beforehand."""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import time
from collections.abc import Iterator, Sequence

from benchmarks.load.http_reply import parse_reply
from benchmarks.load.plan import Plan, read_body
from benchmarks.load.recorder import OK, Recorder

_RECEIVE_BYTES = 1 << 18
_TICK_S = 0.1
_RETRY_S = 0.02  # before a refused connection is tried again
_DRAIN_S = 20.0  # for answers that are under way when the window ends, so that the next one finds an idle server


def run_http(plan: Plan) -> Recorder:
    """Send requests until the window is over, then wait for what is under way."""
    started = time.monotonic()
    recorder = Recorder(plan, started)
    with selectors.DefaultSelector() as selector:
        turns = itertools.cycle(prepare_requests(plan))
        callers = [_Caller(plan, selector, turns=turns) for _ in range(plan.concurrency)]
        while not recorder.is_over:
            _step(selector, callers, recorder, is_sending=True)
        deadline = time.monotonic() + _DRAIN_S
        while any(caller.is_waiting for caller in callers) and time.monotonic() < deadline:
            _step(selector, callers, recorder, is_sending=False)
        for caller in callers:
            caller.drop()
    return recorder


def prepare_requests(plan: Plan) -> Sequence[bytes]:
    """Return each payload as the bytes that go over the wire."""
    requests = []
    for payload in plan.payloads:
        body = read_body(payload)
        headers = {"Host": plan.address, "Content-Length": str(len(body)), **payload.headers}
        lines = [f"POST {payload.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        requests.append("\r\n".join(lines).encode() + body)
    return requests


def _step(
    selector: selectors.BaseSelector, callers: Sequence[_Caller], recorder: Recorder, *, is_sending: bool
) -> None:
    for caller in callers:
        if is_sending and caller.is_idle:
            caller.send_next()
    for key, _ in selector.select(_TICK_S if not any(caller.is_idle for caller in callers) else _RETRY_S):
        caller = key.data
        outcome = caller.advance()
        if outcome is not None:
            now = time.monotonic()
            recorder.record(now, now - caller.began_at, outcome)
            if is_sending and not recorder.is_over and caller.is_idle:
                caller.send_next()
    now = time.monotonic()
    for caller in callers:
        if caller.expire(now):
            recorder.record(now, now - caller.began_at, "timeout")
    recorder.tick(now)


class _Caller:
    """One connection, which is made when it is needed.

    Args:
        plan: whom to call.
        selector: told when the socket matters.
        turns: requests, shared with the other callers.
    """

    def __init__(self, plan: Plan, selector: selectors.BaseSelector, *, turns: Iterator[bytes]) -> None:
        host, _, port = plan.address.rpartition(":")
        self._server = (host, int(port))
        self._expect = plan.expect.encode()
        self._timeout_s = plan.timeout_s
        self._selector = selector
        self._turns = turns
        self._socket: socket.socket | None = None
        self._unsent = memoryview(b"")
        self._received = bytearray()
        self._rests_until = 0.0
        self.began_at = 0.0
        self.is_waiting = False

    @property
    def is_idle(self) -> bool:
        """True if it may send its next request now."""
        return not self.is_waiting and time.monotonic() >= self._rests_until

    def send_next(self) -> None:
        """Begin the next request."""
        self.began_at = time.monotonic()
        self.is_waiting = True
        self._unsent = memoryview(next(self._turns))
        if self._socket is None:
            self._socket = socket.socket()
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.connect_ex(self._server)
            self._selector.register(self._socket, selectors.EVENT_WRITE, self)
        else:
            self._send()

    def advance(self) -> str | None:
        """Go on where the socket is ready; return what became of the request once that is known."""
        try:
            if self._unsent:
                self._send()
            return self._receive() if not self._unsent else None
        except ValueError:
            return self._fail("unreadable")
        except OSError:
            return self._fail("connection")

    def expire(self, now: float) -> bool:
        """Give up a request that takes too long; return whether this one did."""
        if not self.is_waiting or now - self.began_at < self._timeout_s:
            return False
        self._fail("timeout")
        return True

    def drop(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None
        self._received.clear()
        self.is_waiting = False

    def _send(self) -> None:
        connection = self._open_socket()
        with contextlib.suppress(BlockingIOError):
            self._unsent = self._unsent[connection.send(self._unsent) :]
        self._selector.modify(connection, selectors.EVENT_WRITE if self._unsent else selectors.EVENT_READ, self)

    def _receive(self) -> str | None:
        try:
            data = self._open_socket().recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return None
        if not data:
            return self._fail("connection")
        self._received += data
        reply = parse_reply(self._received)
        if reply is None:
            return None
        self.is_waiting = False
        if not reply.keeps_alive:
            self.drop()
        if reply.status != 200:
            return str(reply.status)
        return OK if self._expect in reply.body.replace(b" ", b"") else "unexpected"

    def _fail(self, outcome: str) -> str:
        self.drop()
        self._rests_until = time.monotonic() + _RETRY_S
        return outcome

    def _open_socket(self) -> socket.socket:
        if self._socket is None:
            raise OSError("the connection is closed")
        return self._socket
