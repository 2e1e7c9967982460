"""An HTTP server whose answers, delays and faults are known beforehand."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Behaviour:
    """The behaviour of the server.

    Attributes:
        delays_s: of the answers, in turn.
        statuses: of the answers, in turn.
        body: of every answer.
        chunked: whether bodies are sent in two chunks.
        closes: whether each answer is its connection's last.
        seen: length and path of each request.
        most_at_once: requests under way together, at the most.
    """

    delays_s: list[float] = field(default_factory=lambda: [0.0])
    statuses: list[int] = field(default_factory=lambda: [200])
    body: bytes = b'{"index": 7}'
    chunked: bool = False
    closes: bool = False
    seen: list[tuple[int, str]] = field(default_factory=list)
    most_at_once: int = 0


@contextmanager
def known_server(behaviour: Behaviour) -> Iterator[str]:
    """Yield host:port of a server that behaves as told."""
    lock, under_way = threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                turn = len(behaviour.seen)
                behaviour.seen.append((len(body), self.path))
                under_way[0] += 1
                behaviour.most_at_once = max(behaviour.most_at_once, under_way[0])
            time.sleep(behaviour.delays_s[turn % len(behaviour.delays_s)])
            with lock:
                under_way[0] -= 1
            self.send_response(behaviour.statuses[turn % len(behaviour.statuses)])
            if behaviour.closes:
                self.send_header("Connection", "close")
            if behaviour.chunked:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for part in (behaviour.body[:3], behaviour.body[3:], b""):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            else:
                self.send_header("Content-Length", str(len(behaviour.body)))
                self.end_headers()
                self.wfile.write(behaviour.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing of callers that hang up."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()
