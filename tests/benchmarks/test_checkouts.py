"""Checkouts in alternating windows: intervals, and blocks that are written as they are measured."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.checkouts.__main__ import describe
from benchmarks.checkouts.ratios import difference_of_pairs, ratio_of_pairs
from benchmarks.checkouts.windows import measure, read_plan
from benchmarks.load.plan import Payload, Plan


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    """A server that answers every POST."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_interval_holds_the_ratio_and_narrows_with_pairs() -> None:
    """Rates with 5 % of noise each, the second 10 % higher."""
    draw = random.Random(1)
    pairs = [(100 * draw.gauss(1, 0.05), 110 * draw.gauss(1, 0.05)) for _ in range(200)]
    few, many = ratio_of_pairs(pairs[:10]), ratio_of_pairs(pairs)

    assert many.low < 1.1 < many.high and 1 < many.low
    assert many.high - many.low < few.high - few.low
    assert pytest.approx(1.1, abs=0.02) == many.value


def test_difference_is_the_median_of_pairs() -> None:
    """One disturbed pair does not move it."""
    found = difference_of_pairs([(10.0, 10.5)] * 9 + [(10.0, 90.0)])

    assert (0.5, 0.5) == (found.value, found.low)


def test_windows_alternate_and_blocks_are_kept(address: str, tmp_path: Path) -> None:
    """The reference, the other twice, the reference; what was measured is in the file when a block is told."""
    body = tmp_path / "body"
    body.write_bytes(b"picture")
    plan = Plan(address, (Payload("/v1/predict", str(body)),), 1, seconds=0.05, warm_up_s=0.01, groups={"gateway": []})
    plans = {name: read_plan(json.loads(plan.to_json())) for name in ("base", "other")}
    results = tmp_path / "results.jsonl"
    blocks = measure(plans, concurrencies=(1, 8), limit_s=60, results=results, settle_s=0.05)
    first, second = next(blocks), next(blocks)

    assert plan == plans["base"]
    assert [first, second] == [json.loads(line) for line in results.read_text().splitlines()]
    assert [("other", 1), ("other", 8)] == [(block["other"], block["concurrency"]) for block in (first, second)]
    assert all(window["requests"] and not window["errors"] for window in first["windows"])
    assert 4 == len(describe(results).splitlines())
