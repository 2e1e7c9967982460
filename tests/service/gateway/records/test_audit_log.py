"""The audit log: one line for each answer, on the disk before the answer leaves, through rotation and full disks."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from service.gateway.context.errors import StorageError
from service.gateway.context.request_context import RequestContext
from service.gateway.records.audit_log import AuditLog
from service.key import main
from tests.helpers.pictures import COLOURS, encode, truncated_jpeg
from tests.helpers.scripted_backend import ScriptedBackend
from tests.helpers.server_process import ServerProcess
from tests.service.gateway.conftest import StartGateway, wait_until_ready


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the log is."""
    return tmp_path / "audit.jsonl"


@pytest.fixture
def audited(start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore, log: Path) -> TestClient:
    """A gateway that keeps an audit log and takes feedback."""
    client = start_gateway(
        backend=backend.address, models_dir=index.root, audit_log=log, feedback_dir=log.with_name("feedback")
    )
    wait_until_ready(client)
    return client


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_line_says_who_what_and_with_which_result(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore, log: Path, capsys: Any
) -> None:
    """Key's name, version, contract, image hash, classes; neither image, file name nor key."""
    main(["add", "clinic", "--keys", str(log.with_name("keys.json"))])
    secret = capsys.readouterr().out.strip()
    client = start_gateway(
        backend=backend.address, models_dir=index.root, audit_log=log, keys_file=log.with_name("keys.json")
    )
    wait_until_ready(client)
    good, bad = encode("red"), truncated_jpeg()
    files = [("file", ("Jane Doe.png", good)), ("file", ("b.jpg", bad))]
    reply = client.post("/v1/predict", files=files, headers={"x-api-key": secret, "x-request-id": "id-42"}).json()
    refused = client.post("/v1/predict", files=files)
    (line,) = lines(log)
    top = [{"id": item["id"], "probability": item["probability"]} for item in reply["predictions"][0]["top"]]

    assert 401 == refused.status_code
    assert line.pop("time").endswith("Z")
    assert {
        "action": "predict", "request_id": "id-42", "key": "clinic",
        "model": "colours", "version": 1, "contract": reply["model"]["contract"], "precision": "float32",
        "images": [
            {"sha256": hashlib.sha256(good).hexdigest(), "top": top, "warnings": reply["predictions"][0]["warnings"]},
            {"sha256": hashlib.sha256(bad).hexdigest(), "error": "undecodable_image"},
        ],
    } == line  # fmt: skip
    assert "Jane" not in log.read_text()
    assert secret not in log.read_text()
    assert 0o600 == log.stat().st_mode & 0o777


def test_feedback_and_its_deletion_are_lines_too(audited: TestClient, log: Path) -> None:
    """The log names the keys that put an image into a training set and took it out."""
    data = {"label": "red", "consent": "true", "note": "private"}
    given = audited.post("/v1/feedback", files={"file": encode("red")}, data=data).json()["id"]
    audited.delete(f"/v1/feedback/{given}")
    first, second = lines(log)

    assert ("feedback", given, "red") == (first["action"], first["feedback"], first["images"][0]["label"])
    assert hashlib.sha256(encode("red")).hexdigest() == first["images"][0]["sha256"]
    assert ("delete_feedback", given) == (second["action"], second["feedback"])
    assert "private" not in log.read_text()


@pytest.mark.parametrize("action", ["rest_predict", "infer"])
def test_tensors_are_a_line_of_hashes(
    start_gateway: StartGateway, modelserver: ServerProcess, log: Path, action: str
) -> None:
    """Numbers in, numbers out: too large for a log, so both are hashed."""
    client = start_gateway(backend=modelserver.address, models_dir=modelserver.store.root, audit_log=log)
    wait_until_ready(client)
    image = base64.b64encode(encode("red")).decode()
    if action == "infer":
        inputs = [{"name": "images", "shape": [1], "datatype": "BYTES", "data": [image]}]
        where, body = "/v2/models/colours/infer", json.dumps({"inputs": inputs})
    else:
        where, body = "/v1/models/colours:predict", json.dumps({"instances": [{"b64": image}]})
    reply = client.post(where, content=body)
    (line,) = lines(log)

    assert 200 == reply.status_code, reply.text
    assert (action, "colours", 2) == (line["action"], line["model"], line["version"])
    assert hashlib.sha256(body.encode()).hexdigest() == line["body_sha256"]
    assert hashlib.sha256(reply.content).hexdigest() == line["reply_sha256"]


def test_requests_at_once_have_a_line_each(audited: TestClient, log: Path) -> None:
    """None is lost or torn, in whatever batches they are written."""
    ids = [f"id-{n}" for n in range(60)]

    def ask(request_id: str) -> int:
        picture = encode(COLOURS[hash(request_id) % 3])
        return audited.post("/v1/predict", content=picture, headers={"x-request-id": request_id}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert {200} == set(pool.map(ask, ids))
    assert sorted(ids) == sorted(line["request_id"] for line in lines(log))


def test_log_survives_rotation(audited: TestClient, log: Path) -> None:
    """Renamed, removed or cut to nothing: the next line is where the name is."""
    old = log.with_name("audit.1")
    audited.post("/v1/predict", content=encode("red"), headers={"x-request-id": "one"})
    log.rename(old)
    audited.post("/v1/predict", content=encode("red"), headers={"x-request-id": "two"})
    os.truncate(log, 0)
    audited.post("/v1/predict", content=encode("red"), headers={"x-request-id": "three"})

    assert ["one"] == [line["request_id"] for line in lines(old)]
    assert ["three"] == [line["request_id"] for line in lines(log)]
    log.unlink()
    audited.post("/v1/predict", content=encode("red"), headers={"x-request-id": "four"})
    assert ["four"] == [line["request_id"] for line in lines(log)]


def test_without_a_line_there_is_no_answer(audited: TestClient, log: Path) -> None:
    """A full or broken disk is a reason to stop, and to go on once it is mended."""
    log.unlink()
    log.mkdir()
    refused = audited.post("/v1/predict", content=encode("red"))
    log.rmdir()
    answered = audited.post("/v1/predict", content=encode("red"))

    assert (503, "storage_failed") == (refused.status_code, refused.json()["error"]["code"])
    assert "retry-after" in refused.headers
    assert str(log) not in refused.text
    assert 200 == answered.status_code
    assert 1 == len(lines(log))


def test_full_disk_leaves_no_half_line(audited: TestClient, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that was begun is taken back, so the log stays readable."""
    audited.post("/v1/predict", content=encode("red"))
    before = log.read_bytes()
    write = os.write

    def fill_up(handle: int, data: Any) -> int:
        if len(data) > 100 and b'"predict"' in bytes(data):
            return write(handle, data[:50])  # as a disk with fifty bytes left does
        if bytes(data[:1]) != b"{" and b'"top"' in bytes(data):
            raise OSError(28, "No space left on device")
        return write(handle, data)

    monkeypatch.setattr(os, "write", fill_up)
    refused = audited.post("/v1/predict", content=encode("red"))
    monkeypatch.undo()
    answered = audited.post("/v1/predict", content=encode("red"))

    assert (503, 200) == (refused.status_code, answered.status_code)
    assert "fovea_audit_log_failures_total 1.0" in audited.get("/metrics").text
    assert log.read_bytes().startswith(before)
    assert 2 == len(lines(log))


def test_a_line_that_cannot_be_built_leaves_nobody_waiting(log: Path) -> None:
    """A fault of ours fails the requests of that write, and the next one goes on."""

    async def write() -> list[BaseException | None]:
        audit = AuditLog(log, fsync=False)
        audit.open()
        lines = [
            audit.record(RequestContext("7"), "predict", lambda: {"x": object()}),
            audit.record(RequestContext("7"), "predict", dict),
        ]
        failed = await asyncio.gather(*lines, return_exceptions=True)
        await audit.record(RequestContext("7"), "predict", dict)
        await audit.close()
        return failed

    failed = asyncio.run(asyncio.wait_for(write(), 60))
    assert {TypeError} == {type(error) for error in failed}
    assert 1 == len(lines(log))


def test_log_that_cannot_be_opened_ends_the_start(tmp_path: Path) -> None:
    """Not found out with the first patient."""
    with pytest.raises(StorageError):
        AuditLog(tmp_path / "none" / "audit.jsonl", fsync=True).open()


def test_nothing_is_written_by_default(client: TestClient, log: Path) -> None:
    """The log is for those who ask for it."""
    client.post("/v1/predict", content=encode("red"))

    assert not log.exists()
