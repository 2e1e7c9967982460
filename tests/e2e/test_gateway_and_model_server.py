"""Gateway and model server, both real: whose answer is whose, while versions come and go."""

from __future__ import annotations

import io
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from contract.store import ModelStore
from tests.conftest import StartModelServer
from tests.helpers.gateway_process import ServiceProcess, fetch
from tests.helpers.model_client import ModelClient
from tests.helpers.pictures import COLOURS, encode
from tests.helpers.server_process import ServerProcess
from tests.helpers.tiny_model import MODEL_NAME, VARIANTS, build_image, expected_probabilities, publish_variant

TOLERANCE = 1e-4


@dataclass
class Running:
    """A gateway process in front of a model server process."""

    url: str
    store: ModelStore
    gateway: ServiceProcess
    server: ServerProcess


@dataclass
class Traffic:
    """The observations of clients.

    Attributes:
        wrong: descriptions of answers that were not the picture's.
        statuses: replies by HTTP status.
        answers: images by version and label.
    """

    wrong: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, colours: list[str], reply: httpx2.Response, variants: dict[int, str]) -> None:
        """Compare a reply with what the version that it names must answer for these pictures."""
        with self._lock:
            self.statuses[reply.status_code] += 1
            if reply.status_code != 200:
                self.wrong.append(reply.text)
                return
            body = reply.json()
            version = body["model"]["version"]
            variant = VARIANTS[variants[version]]
            for colour, entry in zip(colours, body["predictions"], strict=True):
                got = {item["id"]: item["probability"] for item in entry["top"]}
                values = expected_probabilities(build_image(colour, variant.size)[None], variant.labels)[0]
                expected = dict(zip(variant.labels, values, strict=True))
                if entry["top"][0]["id"] != colour or any(abs(got[k] - expected[k]) > TOLERANCE for k in expected):
                    self.wrong.append(f"{colour} by version {version}: {entry}")
                self.answers[version, entry["top"][0]["id"]] += 1


@dataclass
class Served:
    """A store that is served somewhere, in one process or in two."""

    url: str
    store: ModelStore


@pytest.fixture(params=["one", "two"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """`colours` 1, the plain variant, served by one process or by two; ready."""
    if request.param == "two":
        running: Running = request.getfixturevalue("running")
        yield Served(running.url, running.store)
        return
    store: ModelStore = request.getfixturevalue("store")
    flags = [f"--models-dir={store.root}", "--port=0", "--poll-s=0.1", "--processes=1"]
    process = ServiceProcess(["up", *flags], request.getfixturevalue("tmp_path"))
    try:
        url = process.wait_for_url()
        process.wait_until_ready(url)
        yield Served(url, store)
    finally:
        assert 0 == process.stop()


@pytest.fixture
def running(tmp_path: Path, store: ModelStore, start_modelserver: StartModelServer) -> Iterator[Running]:
    """A gateway and a model server over a store with `colours` 1, the plain variant; ready."""
    server = start_modelserver(store)
    folder = tmp_path / "gateway"
    folder.mkdir()
    gateway = ServiceProcess(
        ["gateway", f"--models-dir={store.root}", f"--backend={server.address}", "--port=0", "--poll-s=0.1"], folder
    )
    try:
        url = gateway.wait_for_url()
        gateway.wait_until_ready(url)
        yield Running(url, store, gateway, server)
    finally:
        assert 0 == gateway.stop()


@contextmanager
def traffic(url: str, variants: dict[int, str], *, num_clients: int = 4) -> Iterator[Traffic]:
    """Send requests of one to three pictures from several clients while the block runs."""
    seen = Traffic()
    stop = threading.Event()
    bodies = {colour: encode(colour, size=32) for colour in COLOURS}

    def run(seed: int) -> None:
        chooser = random.Random(seed)
        with httpx2.Client(base_url=url, trust_env=False, verify=False, timeout=60) as client:
            while not stop.is_set():
                colours = chooser.choices(COLOURS, k=chooser.randint(1, 3))
                files = [("file", (colour, bodies[colour])) for colour in colours]
                seen.check(colours, client.post("/v1/predict", files=files), variants)

    with ThreadPoolExecutor(num_clients) as pool:
        clients = [pool.submit(run, seed) for seed in range(num_clients)]
        try:
            yield seen
        finally:
            stop.set()
            for client in clients:
                client.result(90)


def wait_for(condition: Callable[[], bool], *, timeout_s: float = 120.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the condition did not come true")
        time.sleep(0.05)


def live_version(url: str) -> int | None:
    """Return the version that the gateway says is ready."""
    reply = fetch(url + "/readyz")
    return None if reply is None else reply.json().get("models", {}).get(MODEL_NAME)


def test_every_client_gets_its_own_pictures_answer_while_versions_change(
    served: Served, tiny_models: dict[str, Path]
) -> None:
    """Publish another order of labels, another input size, roll back: no request fails, no answer is another's.

    Afterwards the metrics say what the clients counted.
    """
    variants = {1: "plain", 2: "permuted", 3: "small"}
    with traffic(served.url, variants) as seen:
        wait_for(lambda: seen.answers.total() > 30)
        for version in (2, 3):
            publish_variant(served.store, tiny_models[variants[version]])
            wait_for(lambda version=version: any(key[0] == version for key in list(seen.answers)))
        served.store.rollback(MODEL_NAME)
        before = sum(count for key, count in list(seen.answers.items()) if key[0] == 2)
        wait_for(lambda: sum(count for key, count in list(seen.answers.items()) if key[0] == 2) > before + 20)

    assert [] == seen.wrong
    assert {200} == set(seen.statuses)
    assert {1, 2, 3} == {version for version, _ in seen.answers}
    scraped = fetch(served.url + "/metrics")
    assert scraped is not None
    samples = [sample for family in text_string_to_metric_families(scraped.text) for sample in family.samples]
    counted = {
        (int(sample.labels["version"]), sample.labels["label"]): sample.value
        for sample in samples
        if sample.name == "fovea_predictions_total"
    }
    requests = sum(
        sample.value
        for sample in samples
        if sample.name == "fovea_requests_total" and sample.labels["route"] == "/v1/predict"
    )
    assert dict(seen.answers) == counted
    assert seen.statuses.total() == requests


def test_candidate_is_reached_by_label_and_promoted(running: Running, tiny_models: dict[str, Path]) -> None:
    """A candidate is loaded but does not answer until it is promoted."""
    publish_variant(running.store, tiny_models["permuted"], live=False)
    with ModelClient(running.server.address) as client:
        client.wait_for(MODEL_NAME, 2)
    with httpx2.Client(base_url=running.url, trust_env=False, verify=False, timeout=60) as http:

        def answering(**params: str) -> int:
            reply = http.post("/v1/predict", content=encode("red"), params=params)
            assert 200 == reply.status_code, reply.text
            version: int = reply.json()["model"]["version"]
            return version

        assert (1, 2) == (answering(), answering(label="candidate"))
        running.store.promote(MODEL_NAME)
        wait_for(lambda: answering() == 2)
        assert 1 == answering(label="previous")


def test_killed_model_server_is_found_again(running: Running, start_modelserver: StartModelServer) -> None:
    """Requests get 503 with Retry-After while it is away, and answers once it is back on its address."""
    port = running.server.address.rsplit(":", 1)[1]
    with httpx2.Client(base_url=running.url, trust_env=False, verify=False, timeout=60) as http:
        running.server.process.kill()
        wait_for(lambda: live_version(running.url) is None)
        refused = http.post("/v1/predict", content=encode("red"))
        start_modelserver(running.store, f"--port={port}")
        wait_for(lambda: live_version(running.url) == 1, timeout_s=90)
        answered = http.post("/v1/predict", content=encode("red"))

    assert (503, "model_server_unreachable") == (refused.status_code, refused.json()["error"]["code"])
    assert "retry-after" in refused.headers
    assert (200, "red") == (answered.status_code, answered.json()["predictions"][0]["top"][0]["id"])


def test_probabilities_over_http_are_the_models_own(served: Served) -> None:
    """Fifty random pictures at the model's size: HTTP and plain numpy agree, with probabilities spread widely."""
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (50, 1, 1, 3), dtype=np.uint8).repeat(16, axis=1).repeat(16, axis=2)
    expected = expected_probabilities(images, VARIANTS["plain"].labels)
    with httpx2.Client(base_url=served.url, trust_env=False, verify=False, timeout=60) as http:
        files = [("file", (f"{i}.png", to_png(image))) for i, image in enumerate(images)]
        entries = http.post("/v1/predict", files=files).json()["predictions"]
    actual = np.zeros_like(expected)
    for row, entry in zip(actual, entries, strict=True):
        for item in entry["top"]:
            row[item["index"]] = item["probability"]

    assert np.ptp(expected) > 0.5
    assert np.abs(actual - expected).max() <= TOLERANCE


def to_png(image: NDArray[np.uint8]) -> bytes:
    """Return a PNG of an image."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
