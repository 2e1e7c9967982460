"""grpc.health.v1 and the monitoring port: what they say while versions load, fail, come later, and at SIGTERM."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from contract.store import ModelStore
from contract.tensors import prediction_service_pb2_grpc
from tests.conftest import StartModelServer
from tests.helpers.model_client import ModelClient, build_request
from tests.helpers.server_process import ServerProcess, start_server
from tests.helpers.tiny_model import build_image, publish_variant

SERVING, NOT_SERVING, UNKNOWN = 1, 2, 3
NAMES = (
    "", "ModelService", "PredictionService", "tensorflow.serving.ModelService", "tensorflow.serving.PredictionService",
)  # fmt: skip
FLAGS = ("--enable_grpc_healthcheck_service", "--monitoring_port=0", "--load_retry_interval_micros=100000")
PATIENT = (*FLAGS, "--max_num_load_retries=1000")  # a damaged version goes on loading until it is mended
HASTY = (*FLAGS, "--max_num_load_retries=0")


class Probe:
    """A plain client of grpc.health.v1, as Kubernetes' probes are, and of the monitoring port."""

    def __init__(self, server: ServerProcess) -> None:
        self.channel = grpc.insecure_channel(server.address)
        self.stub = health_pb2_grpc.HealthStub(self.channel)
        self._server = server

    def check(self, service: str = "") -> int:
        status: int = self.stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30).status
        return status

    def watch(self, service: str = "") -> Iterator[int]:
        """Yield each status that a Watch sends; it ends with the stream."""
        stream = self.stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=120)
        return (reply.status for reply in stream)

    def fetch(self, path: str = "/readyz", method: str = "GET") -> tuple[int, bytes]:
        """Return status and body of a request to the monitoring port."""
        found = re.search(r"metrics on http://(\S+)/metrics", self._server.log.read_text())
        assert found is not None
        connection = http.client.HTTPConnection(found[1], timeout=30)
        try:
            connection.request(method, path)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def wait_for(self, condition: Callable[[int, Any], bool], *, timeout_s: float = 60.0) -> Any:
        """Return the document of /readyz once its status and itself fulfil a condition."""
        deadline = time.monotonic() + timeout_s
        while True:
            status, body = self.fetch()
            document = json.loads(body)
            if condition(status, document):
                return document
            if time.monotonic() > deadline:
                raise TimeoutError(f"{status} {document}")
            time.sleep(0.02)


def publish_damaged(store: ModelStore, source: Path, name: str) -> Callable[[], None]:
    """Publish a version that cannot be loaded; return what mends it."""
    with store.staging() as directory:
        shutil.copytree(source, directory, dirs_exist_ok=True)
        (directory / "saved_model.pb").write_bytes(b"damaged")
        version = store.publish(name, directory)
    graph = store.version_path(name, version) / "saved_model.pb"

    def mend() -> None:
        whole = graph.with_suffix(".new")
        shutil.copy(source / "saved_model.pb", whole)
        whole.replace(graph)

    return mend


@pytest.fixture
def start(tmp_path: Path, start_modelserver: StartModelServer) -> Callable[..., tuple[ServerProcess, Probe]]:
    """A function that starts a model server on the store in `tmp_path / "models"`."""

    def run(*flags: str) -> tuple[ServerProcess, Probe]:
        server = start_modelserver(ModelStore(tmp_path / "models"), *flags)
        return server, Probe(server)

    return run


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def test_serving_when_every_listed_version_has_loaded(
    start: Callable[..., tuple[ServerProcess, Probe]], store: ModelStore, tiny_models: dict[str, Path]
) -> None:
    """Not before, though one model answers already; every name and the monitoring port say the same."""
    publish_variant(store, tiny_models["plain"], name="good")
    mend = publish_damaged(store, tiny_models["plain"], "late")
    server, probe = start(*PATIENT)
    seen = probe.watch()
    first = next(seen)
    with ModelClient(server.address) as client:
        client.wait_for("good", 1)
    early = {probe.check(name) for name in NAMES}
    waiting = probe.wait_for(lambda _, document: document["loaded"] == ["good/1"])
    status = probe.fetch()[0]
    mend()
    second = next(seen)

    assert (NOT_SERVING, SERVING) == (first, second)
    assert ({NOT_SERVING}, 503) == (early, status)
    assert {"status": "not ready", "reason": "loading: late/1", "loading": ["late/1"]}.items() <= waiting.items()
    assert {SERVING} == {probe.check(name) for name in NAMES}
    assert (200, {"good/1", "late/1"}) == (probe.fetch()[0], set(json.loads(probe.fetch()[1])["loaded"]))
    assert dict.fromkeys(NAMES, SERVING) == {
        name: item.status for name, item in probe.stub.List(health_pb2.HealthListRequest(), timeout=30).statuses.items()
    }


def test_version_that_failed_for_good_is_named_and_holds_nothing(
    start: Callable[..., tuple[ServerProcess, Probe]], store: ModelStore, tiny_models: dict[str, Path]
) -> None:
    """Ready with the others; the failed one is in the document."""
    publish_damaged(store, tiny_models["plain"], "bad")
    publish_variant(store, tiny_models["plain"], name="good")
    _, probe = start(*HASTY)
    document = probe.wait_for(lambda status, _: status == 200)

    assert (["good/1"], ["bad/1"], None) == (document["loaded"], document["failed"], document["reason"])
    assert SERVING == probe.check()


def test_nothing_but_failures_is_not_serving(
    start: Callable[..., tuple[ServerProcess, Probe]], store: ModelStore, tiny_models: dict[str, Path]
) -> None:
    """No call can be answered; a version that loads later ends that."""
    publish_damaged(store, tiny_models["plain"], "bad")
    _, probe = start(*HASTY)
    document = probe.wait_for(lambda _, document: document["failed"] == ["bad/1"])
    before = probe.check()
    publish_variant(store, tiny_models["plain"], name="bad")
    probe.wait_for(lambda status, _: status == 200)

    assert "every version failed to load, the log says why: bad/1" == document["reason"]
    assert (NOT_SERVING, SERVING) == (before, probe.check())


def test_version_that_is_listed_later_does_not_end_serving(
    start: Callable[..., tuple[ServerProcess, Probe]], store: ModelStore, tiny_models: dict[str, Path]
) -> None:
    """A new model that goes on loading is named; the others are served all the time."""
    publish_variant(store, tiny_models["plain"], name="good")
    _, probe = start(*PATIENT)
    probe.wait_for(lambda status, _: status == 200)
    seen = probe.watch()
    first = next(seen)
    mend = publish_damaged(store, tiny_models["plain"], "later")
    statuses = set()

    def is_loading(status: int, document: Any) -> bool:
        statuses.add(status)
        return document["loading"] == ["later/1"]

    probe.wait_for(is_loading)
    during = probe.check()
    mend()
    probe.wait_for(lambda _, document: document["loaded"] == ["good/1", "later/1"])
    probe.channel.close()

    assert (SERVING, SERVING, {200}) == (first, during, statuses)
    with pytest.raises(grpc.RpcError):  # the channel is closed; there was no further status
        next(seen)


@pytest.mark.parametrize("is_written", [True, False], ids=["empty-list", "no-file"])
def test_nothing_listed_is_serving(
    start: Callable[..., tuple[ServerProcess, Probe]], store: ModelStore, is_written: bool
) -> None:
    """An empty store, or one that is not there yet, keeps no client waiting."""
    if is_written:
        store.ensure()
    _, probe = start(*FLAGS)

    assert [] == probe.wait_for(lambda status, _: status == 200)["loaded"]
    assert SERVING == probe.check()


def test_sigterm_is_not_serving_and_watchers_do_not_hold_the_stop(
    start: Callable[..., tuple[ServerProcess, Probe]], store: ModelStore, tiny_models: dict[str, Path]
) -> None:
    """A call in flight is answered, watchers are told and their streams end, the process ends with status 0."""
    publish_variant(store, tiny_models["slow"])
    server, probe = start(*FLAGS, "--num_streams=1", "--max_batch_size=1")
    probe.wait_for(lambda status, _: status == 200)
    streams = [probe.watch(), probe.watch("PredictionService"), probe.watch("nothing")]
    first = [next(stream) for stream in streams]
    with ModelClient(server.address) as client:
        running = client.prediction.Predict.future(
            build_request("colours", {"images": build_image("red", 16)[None]}), timeout=60
        )
        client.status("colours")  # on the same connection: the call before it has arrived
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        rest = [list(stream) for stream in streams]
        answer = running.result(timeout=60)
    status = server.process.wait(60)

    assert ([SERVING, SERVING, UNKNOWN], [[NOT_SERVING], [NOT_SERVING], []]) == (first, rest)
    assert (0, 1) == (status, answer.model_spec.version.value)
    assert time.monotonic() - started < 25  # the drain's own limit is 30 s


def test_unknown_service(start: Callable[..., tuple[ServerProcess, Probe]], store: ModelStore) -> None:
    """As the protocol says: NOT_FOUND from Check, SERVICE_UNKNOWN from Watch."""
    store.ensure()
    _, probe = start(*FLAGS)
    with pytest.raises(grpc.RpcError) as refused:
        probe.check("nothing")

    assert grpc.StatusCode.NOT_FOUND is refused.value.code()
    assert UNKNOWN == next(probe.watch("nothing"))


def test_off_by_default(start: Callable[..., tuple[ServerProcess, Probe]], store: ModelStore) -> None:
    """As in TensorFlow Serving: UNIMPLEMENTED, which clients that check health take for healthy."""
    store.ensure()
    _, probe = start()
    with pytest.raises(grpc.RpcError) as refused:
        probe.check()

    assert grpc.StatusCode.UNIMPLEMENTED is refused.value.code()


def test_client_side_health_checking_waits_for_serving(
    start: Callable[..., tuple[ServerProcess, Probe]], store: ModelStore, tiny_models: dict[str, Path]
) -> None:
    """A channel with a healthCheckConfig sends its first call when the server is SERVING."""
    publish_variant(store, tiny_models["plain"], name="good")
    mend = publish_damaged(store, tiny_models["plain"], "late")
    server, probe = start(*PATIENT)
    with ModelClient(server.address) as plain:
        plain.wait_for("good", 1)
    config = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": "PredictionService"}}
    request = build_request("good", {"images": build_image("red", 16)[None]})
    with grpc.insecure_channel(server.address, options=(("grpc.service_config", json.dumps(config)),)) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        with pytest.raises(grpc.RpcError) as refused:
            predict(request, timeout=60)
        mend()
        reply = predict(request, timeout=60, wait_for_ready=True)
    assert grpc.StatusCode.UNAVAILABLE is refused.value.code()
    assert 1 == reply.model_spec.version.value
    assert SERVING == probe.check()


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/healthz", 200, b'{"status": "ok"}\n'),
        ("HEAD", "/healthz", 200, b""),
        ("HEAD", "/readyz", 200, b""),
        ("HEAD", "/metrics", 200, b""),
        ("HEAD", "/monitoring/prometheus/metrics", 200, b""),
        ("GET", "/nothing", 404, b'{"error": "expected /metrics, /healthz or /readyz"}\n'),
        ("POST", "/readyz", 405, b'{"error": "expected GET or HEAD. Received: POST"}\n'),
    ],
)
def test_monitoring_port_answers_its_paths_only(
    monitored: Probe, method: str, path: str, status: int, text: bytes
) -> None:
    """HEAD is GET without a body; an unknown path is no metrics page."""
    assert (status, text) == monitored.fetch(path, method)


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    """A server without models, ready."""
    root = tmp_path_factory.mktemp("monitored")
    server = start_server(ModelStore(root / "models"), root / "log", FLAGS)
    probe = Probe(server)
    probe.wait_for(lambda status, _: status == 200)
    yield probe
    probe.channel.close()
    assert 0 == server.stop()
