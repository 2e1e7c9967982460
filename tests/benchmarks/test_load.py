"""The load generator against servers that are known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks.load.cpu import process_seconds, take_snapshot
from benchmarks.load.http_reply import parse_reply
from benchmarks.load.plan import Payload, Plan
from benchmarks.load.recorder import percentile, summarize_latencies
from tests.benchmarks.known_server import Behaviour, known_server
from tests.repository.project import ROOT

BODY = bytes(range(256)) * 2000  # half a megabyte: more than a socket takes at once


def run(address: str, folder: Path, *paths: str, **settings: Any) -> dict[str, Any]:
    """Run the generator as the benchmarks do, in a process of its own."""
    body = folder / "body"
    body.write_bytes(BODY)
    payloads = tuple(Payload(path, str(body), {"X-Test": "1"}) for path in paths or ("/",))
    plan = Plan(address, payloads, **{"concurrency": 1, "seconds": 0.4, "warm_up_s": 0.1, "timeout_s": 5.0, **settings})
    command = [sys.executable, "-m", "benchmarks.load"]
    done = subprocess.run(command, input=plan.to_json(), cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert 0 == done.returncode, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_whole_bodies_are_sent_and_answers_counted(tmp_path: Path) -> None:
    """Each request arrives complete; what is counted is what the server answered, but for warm-up and drain."""
    behaviour = Behaviour(delays_s=[0.005])
    with known_server(behaviour) as address:
        measured = run(address, tmp_path, "/a", "/b", concurrency=3)
    assert {len(BODY)} == {length for length, _ in behaviour.seen}
    assert {"/a", "/b"} == {path for _, path in behaviour.seen}
    assert 3 == behaviour.most_at_once
    assert {} == measured["errors"]
    assert 0 < measured["requests"] < len(behaviour.seen)
    assert measured["rate"] == pytest.approx(measured["requests"] / measured["seconds"], rel=0.01)
    assert measured["generator_cpu_s"] > 0


def test_latencies_are_the_servers(tmp_path: Path) -> None:
    """Nine answers in ten take 20 ms, one 200 ms: the percentiles say so."""
    behaviour = Behaviour(delays_s=[0.02] * 9 + [0.2])
    with known_server(behaviour) as address:
        measured = run(address, tmp_path, seconds=2.0)
    latency, slow = measured["latency_ms"], measured["requests"] // 10  # at least
    assert latency["p50"] >= 20
    assert latency["p99"] >= 200
    assert latency["p50"] < latency["p99"] <= latency["max"]
    assert latency["mean"] >= 20 + 180 * slow / measured["requests"]  # 38 where the turns are whole


@pytest.mark.parametrize("behaviour", [Behaviour(chunked=True), Behaviour(closes=True)], ids=["chunks", "closes"])
def test_replies_of_every_kind_are_read(behaviour: Behaviour, tmp_path: Path) -> None:
    """Chunked bodies, and servers that close each connection."""
    with known_server(behaviour) as address:
        measured = run(address, tmp_path, expect='"index":7', concurrency=2)
    assert {} == measured["errors"]
    assert measured["requests"] > 0


def test_errors_are_counted_apart(tmp_path: Path) -> None:
    """One answer in four is a 503: no part of the rate."""
    with known_server(Behaviour(statuses=[200, 200, 200, 503], delays_s=[0.005])) as address:
        measured = run(address, tmp_path, seconds=1.0)
    assert measured["errors"].keys() == {"503"}
    assert measured["requests"] / measured["errors"]["503"] == pytest.approx(3, abs=1.0)


def test_a_wrong_answer_is_no_success(tmp_path: Path) -> None:
    """Answers that name another class do not count."""
    with known_server(Behaviour(body=b'{"index": 8}')) as address:
        measured = run(address, tmp_path, expect='"index":7')
    assert 0 == measured["requests"]
    assert measured["errors"]["unexpected"] > 0


def test_a_server_that_hangs_ends_the_run(tmp_path: Path) -> None:
    """Timeouts are errors, and the run is over in bounded time."""
    with known_server(Behaviour(delays_s=[3.0])) as address:
        measured = run(address, tmp_path, timeout_s=0.3)
    assert 0 == measured["requests"]
    assert measured["errors"]["timeout"] > 0


def test_nobody_listening_ends_the_run(tmp_path: Path) -> None:
    """Refused connections are errors."""
    with known_server(Behaviour()) as address:
        pass
    measured = run(address, tmp_path, timeout_s=0.5)
    assert 0 == measured["requests"]
    assert measured["errors"]["connection"] > 0


def test_grpc_calls_are_counted(tmp_path: Path) -> None:
    """The same loop over gRPC, against a server that echoes."""

    class Echo(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: request[-4:])

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        settings = {"protocol": "grpc", "concurrency": 2}
        measured = run(f"127.0.0.1:{port}", tmp_path, "/any/Method", **settings)
        refused = run(f"127.0.0.1:{port}", tmp_path, "/any/Method", expect="other", **settings)
    finally:
        server.stop(0).wait(10)
    assert {} == measured["errors"]
    assert measured["requests"] > 0
    assert refused["errors"]["unexpected"] > 0


def test_a_reply_is_known_only_when_complete() -> None:
    """Every prefix of a reply is incomplete, and what follows it stays."""
    reply = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    for length in range(len(reply)):
        assert parse_reply(bytearray(reply[:length])) is None
    data = bytearray(reply + b"HTTP/1.1 5")
    found = parse_reply(data)
    assert found is not None
    assert (200, b"hi", True) == (found.status, found.body, found.keeps_alive)
    assert data == b"HTTP/1.1 5"


def test_percentiles_are_nearest_rank() -> None:
    """Of 1 to 100 the p-th percentile is p; of one value, that value."""
    values = [float(value) for value in range(1, 101)]
    assert [1.0, 50.0, 99.0, 100.0] == [percentile(values, share) for share in (1, 50, 99, 100)]
    assert 3.0 == percentile([3.0], 99)
    assert {"p50": 2000.0, "p90": 3000.0, "p99": 3000.0, "max": 3000.0, "mean": 2000.0} == summarize_latencies(
        [3.0, 1.0, 2.0]
    )


def test_cpu_seconds_are_the_process_own() -> None:
    """A process that computes for half a CPU second is seen to; one that is gone counts nothing."""
    code = "import time\nwhile time.process_time() < 0.5: pass\nprint('x', flush=True)\nimport sys; sys.stdin.read()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        snapshot = take_snapshot({"it": [process.pid], "me": [os.getpid()]})
        process.communicate()
    assert 0.45 <= snapshot.groups_s["it"] < 2.0
    assert snapshot.groups_s["me"] > 0
    assert snapshot.machine_s > snapshot.groups_s["it"]
    assert 0.0 == process_seconds(process.pid)
