"""Measured systems are started, called, stopped and taken in turns."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.load.plan import Plan
from benchmarks.load.process import run_load
from benchmarks.serving import SIZES, measure
from benchmarks.systems import rivals as rivals_module
from benchmarks.systems.bodies import base64_json, form, pixels_json, pixels_proto, raw
from benchmarks.systems.pairs import precision_of, rivals_of
from benchmarks.systems.peers import FOLDER, PEERS, environment_path, peers
from benchmarks.systems.program import Program, wait_until
from benchmarks.systems.rivals import standing_by
from benchmarks.systems.running import MAX_FAILURES, BrokenSystemError, started
from benchmarks.systems.system import Place, System
from contract.tensors import decode_tensor, predict_pb2
from tests.helpers.pictures import encode

TIMEOUT_S = 60.0
RIGHT = '{"index": 7, "probability": 0.9}'
PRECISIONS = ("float32", "bfloat16")
SIZE = replace(SIZES["quick"], turns=4, seconds=0.2, warm_up_s=0.05, settle_s=0.1)
SETTLE = {"concurrency": 2, "seconds": 0.1, "warm_up_s": 0.0}

# A server that answers every POST alike, in a process of its own.
SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = sys.argv[2].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def system(reply: str, code: str = SERVER, *, name: str = "test") -> System:
    """Return a system that answers `reply`."""

    def commands(place: Place) -> dict[str, list[str]]:
        return {"server": [sys.executable, "-c", code, str(place.port), reply]}

    return System(name, "A test", commands, names_index='"index":{}')


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    """A picture, and what should be said of it."""
    folder = tmp_path / "workload"
    folder.mkdir()
    (folder / "picture.jpg").write_bytes(encode("red", "JPEG", size=64))
    (folder / "expected.json").write_text(json.dumps({"index": 7, "probability": 0.9}))
    return folder


def test_a_system_with_the_right_answer_is_measured_and_stopped(workload: Path, tmp_path: Path) -> None:
    """Its processes are known while it runs, and gone afterwards."""
    with started(system('{"index": 7, "probability": 0.91}'), workload, tmp_path / "run") as running:
        (pid,) = running.groups()["server"]
        assert psutil.Process(pid).is_running()
        assert running.memory_mb()["server"] > 1
        assert running.start_s > 0
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("reply", ['{"index": 8, "probability": 0.9}', '{"index": 7, "probability": 0.5}', "{}", "[]"])
def test_a_system_with_a_wrong_answer_is_refused(reply: str, workload: Path, tmp_path: Path) -> None:
    """Another class, another probability, or no answer at all."""
    with pytest.raises(BrokenSystemError, match="test"), started(system(reply), workload, tmp_path / "run"):
        pass


def test_a_system_that_ends_is_refused_with_its_log(workload: Path, tmp_path: Path) -> None:
    """Without waiting for what cannot come."""
    broken = system("", "raise SystemExit('no such model')")
    with pytest.raises(BrokenSystemError, match="no such model"), started(broken, workload, tmp_path / "run"):
        pass


def test_grandchildren_do_not_outlive_their_program(tmp_path: Path) -> None:
    """A server's workers are ended too when it ignores SIGTERM's meaning for them."""
    code = """
import subprocess, sys, time
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stubborn])
print(child.pid, flush=True)
time.sleep(600)
"""
    program = Program([sys.executable, "-c", code], tmp_path / "log")
    assert wait_until(lambda: program.log_tail().isdigit() and len(program.pids()) == 2, timeout_s=TIMEOUT_S)
    pids = program.pids()
    program.stop()
    assert wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), timeout_s=TIMEOUT_S)


def test_pictures_arrive_in_every_shape() -> None:
    """A server of each kind finds the picture in the body."""
    picture = encode("red", "JPEG", size=64)
    assert picture == raw(picture, 1)[0]
    body, headers = form("images")(picture, 3)
    message = BytesParser().parsebytes(b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body)
    parts = message.get_payload()
    assert [picture] * 3 == [part.get_payload(decode=True) for part in parts]  # type: ignore[union-attr]
    assert b'"image_data"' in base64_json("image_data")(picture, 1)[0]
    (pixels,) = json.loads(pixels_json(picture, 1)[0])["instances"]
    request = predict_pb2.PredictRequest.FromString(pixels_proto("m")(picture, 2)[0])
    images = decode_tensor(request.inputs["images"])
    assert (2, 224, 224, 3) == images.shape
    assert images[0].tolist() == images[1].tolist() == pixels
    with pytest.raises(ValueError, match="one picture"):
        raw(picture, 2)


@pytest.mark.parametrize("name", PEERS)
def test_peers_are_pinned(name: str, tmp_path: Path) -> None:
    """Every package of a peer's environment has one version; another one is another environment."""
    lines = (FOLDER / f"requirements-{name}.txt").read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==\S+( ; .*)?", line) for line in packages)
    assert re.fullmatch(rf"{name}-[0-9a-f]{{12}}", environment_path(tmp_path, name).name)


def test_every_peer_has_its_server(tmp_path: Path) -> None:
    """The commands name files that exist."""
    for peer in peers(tmp_path, ["float32"]):
        (command,) = peer.commands(Place(tmp_path, 1, 2, tmp_path)).values()
        assert Path(command[1]).is_file()


def test_each_peer_has_its_rivals(tmp_path: Path) -> None:
    """One on Keras every Fovea, one on Fovea's engine that of its precision; what is no peer has none."""
    for peer in peers(tmp_path, PRECISIONS):
        found = [precision_of(rival) for rival in rivals_of(peer.name, PRECISIONS)]
        own = [precision for precision in PRECISIONS if peer.name.endswith(f"-engine-{precision}")]
        assert found == (own or list(PRECISIONS))
    assert [] == rivals_of("fovea-float32", PRECISIONS)
    assert [] == rivals_of("gateway-alone", PRECISIONS)


def test_the_peer_is_first_in_one_turn_and_last_in_the_next(
    workload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each system has a window in each turn, and the peer's windows at 8 are those."""
    asked: list[str] = []

    def noted(plan: Plan) -> dict[str, Any]:
        asked.append(plan.address)
        return run_load(plan)

    foveas = [system(RIGHT, name=name) for name in ("a", "b")]
    with (
        standing_by(foveas, workload, tmp_path, SETTLE) as rivals,
        started(system(RIGHT, name="peer"), workload, tmp_path / "peer") as running,
    ):
        monkeypatch.setattr(rivals_module, "run_load", noted)
        measured = measure(running, SIZE, take_turn=rivals.against(running, ["a", "b"]))
    peer, a, b = asked[:3]
    assert running.address == peer
    assert [peer, a, b, b, a, peer] * (SIZE.turns // 2) == asked
    assert all({"a", "b", "peer"} == turn.keys() and all(turn.values()) for turn in measured["turns"])
    assert [turn["peer"] for turn in measured["turns"]] == [window["rate"] for window in measured["concurrency"]["8"]]
    assert [1, 1] == [len(measured["concurrency"][concurrency]) for concurrency in ("1", "32")]


def test_what_polls_stands_still_while_others_are_measured(workload: Path, tmp_path: Path) -> None:
    """And answers again afterwards."""
    polling = replace(system(RIGHT, name="peer"), polls=True)
    with started(polling, workload, tmp_path / "peer") as running:
        (pid,) = [pid for pids in running.groups().values() for pid in pids]
        with running.standing_still():
            assert wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, timeout_s=TIMEOUT_S)
        plan = running.plan(concurrency=2, seconds=0.1, warm_up_s=0.0)
        assert run_load(plan)["requests"]


def test_a_rival_that_fails_is_told_and_the_peer_is_measured(workload: Path, tmp_path: Path) -> None:
    """One that never starts, and one that ends: turns go on without them."""
    broken = system("", "raise SystemExit('no such model')", name="broken")
    reply = RIGHT.replace("0.9", "0.91")  # by which its process is known
    mortal = system(reply, name="mortal")
    with (
        standing_by([broken, mortal], workload, tmp_path, SETTLE) as rivals,
        started(system(RIGHT, name="peer"), workload, tmp_path / "peer") as running,
    ):
        take_turn = rivals.against(running, ["broken", "mortal"])
        assert take_turn is not None
        plan = running.plan(concurrency=2, seconds=0.1, warm_up_s=0.0)
        assert {"peer", "mortal"} == set(take_turn(plan)[1])
        (process,) = (child for child in psutil.Process().children() if reply in child.cmdline())
        process.kill()
        assert wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE, timeout_s=TIMEOUT_S)
        assert [{"peer"}] * 4 == [set(take_turn(plan)[1]) for _ in range(4)]
    assert ["broken did not start:\nno such model"] == rivals.failures["broken"]
    assert MAX_FAILURES == len(rivals.failures["mortal"])
