"""Versions vanish, break and come by the hundred, under a real model server and a gateway that clients ask."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from contract.store import ModelStore
from tests.conftest import StartModelServer
from tests.faults.conftest import Served, start_serving
from tests.helpers.model_client import END, ModelClient
from tests.helpers.server_process import ROOT
from tests.helpers.tiny_model import MODEL_NAME, publish_variant
from tests.helpers.traffic import encode_colour, is_answer, post_images, traffic, wait_until
from tests.helpers.wire import Wire
from tests.service.conftest import StartProcess

COLOUR = (110, 130, 150)
ROLLBACK_S = 60.0
PATIENT_LOADING = ("--max_num_load_retries=120", "--load_retry_interval_micros=1000000")  # failing for two minutes
NUM_RELOADS = 100
SETTLED_AFTER = 30  # reloads until the allocator has what it needs
MAX_GROWTH_BYTES = 30 * 2**20  # in the 70 reloads after that; measured: see docs/faults.md


def ask(served: Served, query: str = "") -> tuple[int, int | None, bool]:
    """Send a picture; return status, the version that answered, and whether it answered rightly."""
    status, body, _ = post_images(served.url, [encode_colour(COLOUR)], query=query)
    if status != 200:
        return status, None, False
    return status, body["model"]["version"], is_answer(body["predictions"][0], COLOUR)


def publish_corrupt(store: ModelStore, source: Path, name: str = MODEL_NAME) -> int:
    """Publish a version, live, whose graph is no graph."""
    with store.staging() as directory:
        shutil.copytree(source, directory, dirs_exist_ok=True)
        (directory / "saved_model.pb").write_bytes(b"\xff" * 64)
        return store.publish(name, directory)


def test_version_that_vanishes_in_a_call_answers_it_and_the_previous_one_the_next(wired: tuple[Served, Wire]) -> None:
    """Its folder is deleted while it is at work: begun calls finish, and no client is told of a missing version."""
    served, _ = wired
    with ModelClient(served.server.address) as client:
        client.wait_for("vanishing", 1)
        with ThreadPoolExecutor(3) as pool:
            calls = [pool.submit(ask, served, "?model=vanishing") for _ in range(3)]
            wait_until(lambda: any(call.done() for call in calls))  # the others run or wait
            shutil.rmtree(served.store.version_path("vanishing", 2))
            client.wait_for("vanishing", 2, state=END)
            answers = {call.result() for call in calls}

    assert {(200, 2, True)} <= answers <= {(200, 2, True), (200, 1, True)}
    assert (200, 1, True) == ask(served, "?model=vanishing")


def test_corrupt_version_leaves_the_old_one_serving_and_is_rolled_back_while_it_fails(
    store: ModelStore,
    tiny_models: dict[str, Path],
    start_modelserver: StartModelServer,
    start_process: StartProcess,
) -> None:
    """The old one answers everything; the state is shown; rollback and the next version do not wait for its failure.

    Then the model server dies and is started again, with the corrupt version still there, and one command recovers.
    """
    served = start_serving(start_modelserver(store, *PATIENT_LOADING), start_process)
    address = f"--port={served.server.address.rpartition(':')[2]}"
    with traffic(served.url, pause_s=0.02) as seen:
        publish_corrupt(store, tiny_models["plain"])
        wait_until(lambda: "try 1 of 121 failed" in served.server.log.read_text())
        assert ("LOADING", "OK") == served.state(2)
        assert {MODEL_NAME: 1} == served.models

        started = time.monotonic()
        store.rollback(MODEL_NAME)
        wait_until(lambda: served.model()["labels"] == {"live": 1, "previous": 2})
        publish_variant(store, tiny_models["plain"])
        wait_until(lambda: served.models == {MODEL_NAME: 3})
        took_s = time.monotonic() - started
        assert "colours/2: failed" not in served.server.log.read_text()  # it is still being tried

    assert took_s < ROLLBACK_S
    assert ([], [], {200}) == (seen.wrong, seen.lost, set(seen.statuses))

    publish_corrupt(store, tiny_models["plain"])
    served.server.process.kill()
    again = start_modelserver(store, address, "--max_num_load_retries=0")
    wait_until(lambda: served.state(4) == ("END", "DATA_LOSS"))
    wait_until(lambda: "saved_model.pb is corrupt: not a SavedModel message" in again.log.read_text())
    wait_until(lambda: ask(served) == (200, 3, True))
    command = [sys.executable, "-m", "pipeline", "rollback", MODEL_NAME, "--models-dir", str(store.root)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    wait_until(lambda: served.model()["labels"] == {"live": 3, "previous": 4})
    assert {MODEL_NAME: 3} == served.models
    assert (200, 3, True) == ask(served)


def test_broken_model_among_several_harms_only_itself(
    store: ModelStore,
    tiny_models: dict[str, Path],
    start_modelserver: StartModelServer,
    start_process: StartProcess,
) -> None:
    """It is 503 with its state shown; the others answer, and one that is published later comes all the same."""
    publish_corrupt(store, tiny_models["plain"], "broken")
    served = start_serving(start_modelserver(store, "--max_num_load_retries=0"), start_process)
    publish_variant(store, tiny_models["plain"], name="later")
    wait_until(lambda: served.models == {MODEL_NAME: 1, "later": 1})
    wait_until(lambda: served.state(1, "broken") == ("END", "DATA_LOSS"))
    status, body, may_retry = post_images(served.url, [encode_colour(COLOUR)], query="?model=broken")

    assert (503, "model_not_ready", True) == (status, body["error"]["code"], may_retry)
    assert [(200, 1, True)] * 2 == [ask(served, f"?model={name}") for name in (MODEL_NAME, "later")]


@pytest.mark.slow
def test_a_hundred_reloads_cost_no_memory_and_no_request(
    store: ModelStore,
    tiny_models: dict[str, Path],
    start_modelserver: StartModelServer,
    start_process: StartProcess,
) -> None:
    """Versions of three kinds come one after the other under load; the model server does not grow with them."""
    served = start_serving(start_modelserver(store), start_process)
    process = psutil.Process(served.server.pid)
    variants = {1: "plain"} | {n: ("permuted", "small", "plain")[n % 3] for n in range(2, NUM_RELOADS + 2)}
    resident = []
    with (
        traffic(served.url, num_clients=2, pause_s=0.01) as seen,
        ModelClient(served.server.address) as client,
    ):
        for version in range(2, NUM_RELOADS + 2):
            assert version == publish_variant(store, tiny_models[variants[version]])
            client.wait_for(MODEL_NAME, version)
            resident.append(process.memory_info().rss)
        wait_until(lambda: any(key[0] == NUM_RELOADS + 1 for key in list(seen.answers)))

    growth = min(resident[-10:]) - min(resident[SETTLED_AFTER : SETTLED_AFTER + 10])
    print(f"resident MiB: {[round(value / 2**20) for value in resident]}, growth {growth / 2**20:.1f}")  # noqa: T201
    assert ([], [], {200}) == (seen.wrong, seen.lost, set(seen.statuses))
    assert growth < MAX_GROWTH_BYTES
    served.check_counters(seen)
