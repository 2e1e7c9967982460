"""Versions come and go under a real server, each test with a model of its own in one store."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from contract.store import WARMUP_FILE, ModelStore
from contract.tensors import decode_tensor
from engine.warmup import build_warmup_request, write_warmup_records
from tests.helpers.model_client import AVAILABLE, END, ModelClient, build_request
from tests.helpers.server_process import ServerProcess, start_server
from tests.helpers.tiny_model import VARIANTS, build_image, publish_variant

DATA_LOSS = 15
FLAGS = ("--max_num_load_retries=1", "--load_retry_interval_micros=200000")


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that was started before its store existed."""
    root = tmp_path_factory.mktemp("living")
    server = start_server(ModelStore(root / "models"), root / "modelserver.log", FLAGS)
    yield server
    assert server.stop() == 0


@pytest.fixture
def client(living: ServerProcess) -> Iterator[ModelClient]:
    with ModelClient(living.address) as opened:
        yield opened


def publish_damaged(store: ModelStore, source: Path, name: str, damage: Callable[[Path], None]) -> int:
    """Publish a version that was damaged before."""
    with store.staging() as directory:
        shutil.copytree(source, directory, dirs_exist_ok=True)
        damage(directory)
        return store.publish(name, directory)


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 120.0) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: if it does not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the condition did not come to hold")
        time.sleep(0.05)


def test_a_store_that_appears_later_is_served(
    living: ServerProcess, client: ModelClient, tiny_models: dict[str, Path]
) -> None:
    """A server without a config file waits, and serves the first model that is published, without a restart."""
    waiting = "waiting for the model config models.config: there is no such file"
    wait_until(lambda: waiting in living.log.read_text())
    with pytest.raises(grpc.RpcError) as caught:
        client.call(build_request("first", {}, label="stable"))
    assert (caught.value.code().name, caught.value.details()) == (
        "UNAVAILABLE",
        "Model labels does not init yet.stable",
    )
    publish_variant(living.store, tiny_models["plain"], name="first")
    client.wait_for("first", 1)
    assert client.classify("first", build_image("green", 16)).argmax() == VARIANTS["plain"].labels.index("green")


def test_publishing_under_load_fails_no_call(
    living: ServerProcess, client: ModelClient, tiny_models: dict[str, Path]
) -> None:
    """While version 2 comes, every call is answered, by the version it names and with that version's own classes."""
    publish_variant(living.store, tiny_models["plain"], name="busy")
    client.wait_for("busy", 1)
    enough = threading.Event()
    request = build_request("busy", {"images": build_image("red", 16)[None]})

    answers: set[tuple[int, str]] = set()

    def ask() -> None:
        with ModelClient(living.address) as own:
            while not enough.is_set():
                response = own.call(request)
                version = int(response.model_spec.version.value)
                labels = VARIANTS["plain" if version == 1 else "permuted"].labels
                answers.add((version, labels[int(decode_tensor(response.outputs["probabilities"])[0].argmax())]))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            wait_until(lambda: bool(answers))
            publish_variant(living.store, tiny_models["permuted"], name="busy")
            client.wait_for("busy", 2)
            wait_until(lambda: any(version == 2 for version, _ in answers.copy()))
        finally:
            enough.set()
        for future in asking:
            future.result(timeout=60)
    assert answers == {(1, "red"), (2, "red")}


def test_old_versions_leave_and_rollback_keeps_both(
    living: ServerProcess, client: ModelClient, tiny_models: dict[str, Path]
) -> None:
    """Live and previous stay loaded, what is older ends without an error, and a rollback loads nothing anew."""
    for version in (1, 2, 3):
        publish_variant(living.store, tiny_models["plain"], name="rolled")
        client.wait_for("rolled", version)
    client.wait_for("rolled", 1, state=END)
    assert client.status("rolled")[1].status.error_code == 0
    living.store.rollback("rolled")
    time.sleep(0.5)
    assert client.states("rolled") == {3: AVAILABLE, 2: AVAILABLE, 1: END}
    with pytest.raises(grpc.RpcError) as caught:
        client.classify("rolled", build_image("red", 16), version=1)
    assert caught.value.details() == "Servable not found for request: Specific(rolled, 1)"
    assert living.log.read_text().count("rolled/2: loading") == 1


def test_a_corrupt_version_leaves_the_old_one_serving(
    living: ServerProcess, client: ModelClient, tiny_models: dict[str, Path]
) -> None:
    """A corrupt version ends with its error after the retries; the old one answers on, and the next good one loads."""
    publish_variant(living.store, tiny_models["plain"], name="damaged")
    client.wait_for("damaged", 1)
    publish_damaged(
        living.store, tiny_models["plain"], "damaged", lambda path: (path / "saved_model.pb").write_bytes(b"\xff" * 64)
    )
    client.wait_for("damaged", 2, state=END)
    status = client.status("damaged")[2].status
    assert (status.error_code, status.error_message) == (
        DATA_LOSS,
        "saved_model.pb is corrupt: not a SavedModel message",
    )
    assert client.states("damaged")[1] == AVAILABLE
    assert client.classify("damaged", build_image("blue", 16)).argmax() == 0
    assert "damaged/2: try 1 of 2 failed" in living.log.read_text()
    publish_variant(living.store, tiny_models["permuted"], name="damaged")
    client.wait_for("damaged", 3)


def test_a_failing_warmup_record_ends_the_version(
    living: ServerProcess, client: ModelClient, tiny_models: dict[str, Path]
) -> None:
    """A version whose warm-up fails is not served, and its status says which record failed."""
    bad = build_warmup_request("nothing", {"images": np.zeros((1, 16, 16, 3), np.uint8)})
    publish_damaged(
        living.store, tiny_models["plain"], "cold", lambda path: write_warmup_records(path / WARMUP_FILE, [bad])
    )
    client.wait_for("cold", 1, state=END)
    expected = 'warmup record 1 failed: Serving signature key "nothing" not found.'
    assert client.status("cold")[1].status.error_message == expected


def test_a_deleted_version_is_unloaded(
    living: ServerProcess, client: ModelClient, tiny_models: dict[str, Path]
) -> None:
    """A version whose folder goes is unloaded; a model whose whole folder goes is served on."""
    for version in (1, 2):
        publish_variant(living.store, tiny_models["plain"], name="deleted")
        client.wait_for("deleted", version)
    shutil.rmtree(living.store.version_path("deleted", 2))
    client.wait_for("deleted", 2, state=END)
    assert client.states("deleted")[1] == AVAILABLE
    living.store.version_path("deleted", 1).parent.rename(living.store.root / ".gone")
    wait_until(lambda: "deleted: its base path cannot be listed" in living.log.read_text())
    assert client.classify("deleted", build_image("blue", 16)).argmax() == 0


def test_a_broken_config_changes_nothing(
    living: ServerProcess, client: ModelClient, tiny_models: dict[str, Path]
) -> None:
    """A config that does not parse, or is empty, is logged and what was served stays; a good one is followed again."""
    publish_variant(living.store, tiny_models["plain"], name="steady")
    client.wait_for("steady", 1)
    good = living.store.config_path.read_text()
    for text, complaint in (
        ("model_config_list {", "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:"),
        ("", "waiting for the model config models.config: it is empty"),
    ):
        living.store.config_path.write_text(text)
        wait_until(lambda said=complaint: said in living.log.read_text())
        assert client.classify("steady", build_image("blue", 16)).argmax() == 0
    living.store.config_path.write_text(good)
    publish_variant(living.store, tiny_models["permuted"], name="steady")
    client.wait_for("steady", 2)


def test_a_model_that_leaves_the_config_is_unloaded(
    living: ServerProcess, client: ModelClient, tiny_models: dict[str, Path]
) -> None:
    """A model that is no longer listed ends, the others stay; when it is listed again it is loaded again."""
    publish_variant(living.store, tiny_models["plain"], name="stays")
    good = living.store.config_path.read_text()
    publish_variant(living.store, tiny_models["plain"], name="zleaves")
    client.wait_for("stays", 1)
    client.wait_for("zleaves", 1)
    both = living.store.config_path.read_text()
    living.store.config_path.write_text(good)
    client.wait_for("zleaves", 1, state=END)
    assert client.states("stays") == {1: AVAILABLE}
    living.store.config_path.write_text(both)
    client.wait_for("zleaves", 1)
