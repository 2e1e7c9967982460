"""Processes to measure, their CPU time, and a plain closed loop of HTTP clients."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

START_TIMEOUT_S = 60.0


def free_port() -> int:
    """Return a TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def running(module: str, *arguments: str, ready: Callable[[], bool]) -> Iterator[int]:
    """Run `python -m module` until the block ends; give its process id once it is ready."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not ready():
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError(f"{' '.join(command)} does not answer")
                time.sleep(0.02)
            yield process.pid
        finally:
            process.terminate()


def answers(port: int, path: str = "/readyz") -> bool:
    """Say whether a GET is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, seconds; finer than its clock ticks where the kernel tells."""
    tasks = list(Path(f"/proc/{pid}/task").glob("*/schedstat"))
    if not tasks:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, bytes."""
    return int(psutil.Process(pid).memory_info().rss)


def http_request(body: bytes, path: str = "/v1/predict", headers: Sequence[str] = ()) -> bytes:
    """Return the bytes of a POST."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def post_many(port: int, request: bytes, *, count: int, concurrency: int) -> list[float]:
    """Send one request many times, each client waiting for its answer; return the latencies, seconds.

    Raises:
        RuntimeError: if an answer is not 200.
    """
    shares = [count // concurrency + (i < count % concurrency) for i in range(concurrency)]
    latencies: list[float] = []
    failures: list[str] = []

    def client(share: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(share):
                start = time.perf_counter()
                connection.sendall(request)
                status = read_reply(connection)
                latencies.append(time.perf_counter() - start)
                if status != 200:
                    failures.append(f"status {status}")
                    return

    threads = [threading.Thread(target=client, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures or len(latencies) != count:
        raise RuntimeError(f"expected {count} answers of status 200. Received: {len(latencies)}, {failures[:3]}")
    return latencies


def read_reply(connection: socket.socket) -> int:
    """Read one reply with a Content-Length; return its status.

    Raises:
        ConnectionError: if the connection ends before it is whole.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
    while len(body) < length:
        body += _receive(connection)
    return int(lines[0].split()[1])


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data
