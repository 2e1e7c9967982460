"""Metrics beyond the basics, the log as JSON, headers for browsers, and the port that has nothing but metrics."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
import time
from typing import Any

import grpc
import httpx2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from contract.model import ModelContract
from contract.novelty import STATISTICS, WARNING, NoveltyCheck
from contract.store import ModelStore
from service.key import main
from service.logs import JsonFormatter, TextFormatter
from tests.helpers.gateway_process import fetch
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend, ScriptedVersion
from tests.service.conftest import StartProcess
from tests.service.gateway.conftest import StartGateway, wait_until_ready


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Return samples by name and label values, in the order of the labels' names."""
    return {
        (s.name, *(s.labels[key] for key in sorted(s.labels))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_prediction_is_counted_in_every_way(client: TestClient) -> None:
    """Bytes, stages, confidence, and which contract answers; the scraped text is what Prometheus parses."""
    picture = encode("red")
    reply = client.post("/v1/predict", content=picture)
    confidence = reply.json()["predictions"][0]["top"][0]["probability"]
    contract = reply.json()["model"]["contract"]
    values = samples(client.get("/metrics").text)

    assert len(picture) == values["fovea_received_bytes_total", "/v1/predict"]
    assert len(reply.content) == values["fovea_sent_bytes_total", "/v1/predict"]
    assert 1 == values["fovea_confidence_count", "colours", "1"]
    assert pytest.approx(confidence) == values["fovea_confidence_sum", "colours", "1"]
    assert 1 == values["fovea_model_info", contract, "colours", "1"]
    assert 1 == values["fovea_request_seconds_count", "/v1/predict"]
    assert {1} == {values["fovea_stage_seconds_count", stage] for stage in ("read", "decode", "encode")}


def test_failures_and_warnings_are_counted_by_version(
    client: TestClient, backend: ScriptedBackend, start_gateway: StartGateway
) -> None:
    """Requests that no version answered count for none."""
    version = backend.versions["colours", 1]
    for fault in (None, grpc.StatusCode.RESOURCE_EXHAUSTED):
        version.fault = fault
        client.post("/v1/predict", content=encode("red"))
        client.post("/v1/explain", content=encode("red"))
    client.post("/v1/predict?version=2", content=encode("red"))
    client.post("/v1/predict", content=b"no picture")
    values = samples(client.get("/metrics").text)

    counted = {key[1:]: value for key, value in values.items() if key[0] == "fovea_model_requests_total"}
    assert {("ok", "colours", "1"): 2, ("overloaded", "colours", "1"): 2} == counted
    assert 2 == values["fovea_model_seconds_count", "colours", "1"]


def test_images_unlike_the_training_images_are_counted(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """Their share is what drift shows in first."""
    statistics = len(STATISTICS[3])
    check = NoveltyCheck(np.zeros(statistics, np.float32), np.eye(statistics, dtype=np.float32), 1e-6)
    document = {**backend.versions["colours", 1].contract.document, "baseline": check.document()}
    backend.versions["colours", 1] = ScriptedVersion(ModelContract.from_document(document))
    client = start_gateway(backend=backend.address, models_dir=index.root)
    wait_until_ready(client)
    client.post("/v1/predict", content=encode("red"))
    values = samples(client.get("/metrics").text)

    assert 1 == values["fovea_warnings_total", "colours", "1", WARNING]


def test_baseline_of_drift_is_shown(client: TestClient, index: ModelStore) -> None:
    """Answers on the test images, the live version, and the disk of the store."""
    values = samples(client.get("/metrics").text)

    shares = {key[1]: value for key, value in values.items() if key[0] == "fovea_baseline_class_share"}
    assert dict.fromkeys(("blue", "green", "red"), pytest.approx(1 / 3)) == shares
    assert pytest.approx(0.9) == values["fovea_baseline_confidence", "colours", "1"]
    assert pytest.approx(0.1) == values["fovea_baseline_warning_share", "colours", "1", WARNING]
    assert 1 == values["fovea_live_version", "colours"]
    assert shutil.disk_usage(index.root).total == values["fovea_store_size_bytes",]
    assert 0 < values["fovea_store_free_bytes",] <= values["fovea_store_size_bytes",]


def test_clients_cannot_make_series(client: TestClient) -> None:
    """Models, versions, labels, paths and methods that do not exist leave no trace."""
    before = len(samples(client.get("/metrics").text))
    for n in range(20):
        client.post(f"/v1/predict?model=invented{n}", content=encode("red"))
        client.post(f"/v1/predict?version=77{n}", content=encode("red"))
        client.get(f"/v1/models/invented{n}")
        client.request(f"INVENTED{n}", f"/invented{n}")
    text = client.get("/metrics").text

    assert "nvented" not in text
    assert '"77' not in re.sub(r"(?m) [0-9.e+-]+$", "", text)
    assert len(samples(text)) - before < 120  # the routes' own: buckets, codes, bytes


def test_metrics_on_a_port_of_their_own(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore
) -> None:
    """They are there without a key, and nowhere else; nothing else is there."""
    process = start_process(
        "gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0", "--metrics-port=0"
    )
    url = process.wait_for_url()
    metrics_url = re.search(r"metrics at (http://127\.0\.0\.1:\d+/metrics)", process.log)
    assert metrics_url is not None
    own, main_port = fetch(metrics_url[1]), fetch(f"{url}/metrics")

    assert own is not None
    assert ("fovea_ready",) in samples(own.text)
    assert main_port is not None
    assert 404 == main_port.status_code
    assert 0 == process.stop()
    assert fetch(metrics_url[1]) is None


def test_taken_metrics_port_is_named(start_process: StartProcess, index: ModelStore, backend: ScriptedBackend) -> None:
    """A gateway without a way to its metrics does not start."""
    first = start_process("gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0")
    port = first.wait_for_url().rpartition(":")[2]
    second = start_process("gateway", f"--models-dir={index.root}", "--port=0", f"--metrics-port={port}")

    assert 1 == second.wait()
    last = second.log.splitlines()[-1]
    assert last.startswith(f"gateway: cannot listen on 127.0.0.1:{port}: Address already in use; ")
    assert last.endswith("choose another with --metrics-port (0 takes a free one)")


def test_log_as_json_has_one_line_for_a_request(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore, tmp_path: Any, capsys: Any
) -> None:
    """Its id, its key's name, its bytes; of the picture, its name and the key not a trace."""
    main(["add", "clinic", "--keys", str(tmp_path / "keys.json")])
    secret = capsys.readouterr().out.strip()
    process = start_process(
        "gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0",
        "--log-format=json", f"--keys-file={tmp_path / 'keys.json'}",
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (found := re.search(r"listening on (http://[^\s,]+)", process.log)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.wait_until_ready(found[1])
    files = {"file": ("Jane Doe 1970.png", encode("red"))}
    headers = {"x-api-key": secret, "x-request-id": "id-42"}
    reply = httpx2.post(
        f"{found[1]}/v1/predict?model=colours", files=files, headers=headers, timeout=60, trust_env=False
    )
    process.stop()
    lines = [json.loads(line) for line in process.log.splitlines()]
    (line,) = [line for line in lines if line["logger"] == "fovea.access" and line["request_id"] == "id-42"]

    assert 200 == reply.status_code
    assert {"logger": "fovea.access", "level": "info", "method": "POST", "route": "/v1/predict", "status": 200} == {
        name: line[name] for name in ("logger", "level", "method", "route", "status")
    }
    assert ("clinic", "/v1/predict", "127.0.0.1") == (line["key"], line["path"], line["client"])
    assert len(reply.content) == line["sent"]
    assert line["received"] > len(files["file"][1])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert not any(part in process.log for part in ("Jane", secret, "PNG"))


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()], ids=["json", "text"])
def test_traceback_is_in_the_log(formatter: logging.Formatter) -> None:
    """A fault of ours can be found; as JSON it stays on one line."""
    try:
        raise ValueError("what went wrong")
    except ValueError:
        record = logging.LogRecord("fovea", logging.ERROR, __file__, 1, "text %s", ("here",), sys.exc_info())
    text = formatter.format(record)

    assert "text here" in text
    assert "ValueError: what went wrong" in text
    if isinstance(formatter, JsonFormatter):
        assert "Traceback" in json.loads(text)["traceback"]
        assert 1 == len(text.splitlines())


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/none", "/metrics", "/openapi.json"])
def test_replies_carry_headers_for_browsers(client: TestClient, path: str) -> None:
    """No guessing of types, no cache, no referrer; each header once."""
    headers = client.get(path).headers

    assert ["nosniff"] == headers.get_list("x-content-type-options")
    assert ["no-store"] == headers.get_list("cache-control")
    assert ["no-referrer"] == headers.get_list("referrer-policy")


def test_routes_that_say_it_themselves_are_left_alone(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """The page may be kept by a browser that asks again."""
    client = start_gateway(backend=backend.address, models_dir=index.root)
    wait_until_ready(client)

    assert ["no-cache"] == client.get("/").headers.get_list("cache-control")
    assert ["nosniff"] == client.get("/docs").headers.get_list("x-content-type-options")
