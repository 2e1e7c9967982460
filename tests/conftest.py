"""Fixtures for all: a tiny real model, a store that has it, a real model server that serves it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from contract.store import ModelStore
from tests.helpers.model_client import ModelClient
from tests.helpers.server_process import ROOT, ServerProcess, start_server
from tests.helpers.shared import build_once
from tests.helpers.tiny_model import MODEL_NAME, VARIANTS, publish_variant

StartModelServer = Callable[..., ServerProcess]
TESTS = Path(__file__).parent

# Hypothesis makes up the same examples in each run, however slow the machine is; `make test-all` has it make up others.
hypothesis.settings.load_profile("ci")
hypothesis.settings.register_profile("random", hypothesis.settings.get_profile("ci"), derandomize=False)

# What `make test-fast` leaves out: tests with a fixture that starts a process or loads a model, and tests of modules
# that start processes themselves.
HEAVY_FIXTURES = frozenset({"page", "start_modelserver", "start_process", "tiny_models"})
HEAVY_NAMES = frozenset({"ServiceProcess", "probe", "run_server", "start_server", "subprocess"})

# The files that take longest on two cores, longest first. They begin first, so that no core waits for one in the end.
LONGEST = (
    "pipeline/networks/test_families.py",
    "e2e/test_demo.py",
    "pipeline/run/test_reruns.py",
    "pipeline/publishing/test_other_models.py",
    "pipeline/run/test_run.py",
    "conformance/test_differences.py",
    "pipeline/publishing/test_export.py",
    "pipeline/run/test_own_networks.py",
    "pipeline/run/test_wrong_label_search.py",
    "service/gateway/web/test_docs.py",
    "service/gateway/test_stalls.py",
    "deploy/test_monitoring.py",
    "service/modelserver/test_channel_arguments.py",
    "pipeline/publishing/test_imports.py",
    "benchmarks/test_systems.py",
    "pipeline/publishing/test_verify.py",
    "pipeline/metrics/test_table.py",
    "service/gateway/server/test_process.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and mark the tests of the edit loop: those that need no process and no model."""
    order = {TESTS / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))
    for item in items:
        is_heavy = HEAVY_FIXTURES.intersection(getattr(item, "fixturenames", ()))
        is_heavy |= HEAVY_NAMES.intersection(vars(getattr(item, "module", None) or object))
        if not is_heavy and not any(map(item.get_closest_marker, ("slow", "docker"))):
            item.add_marker(pytest.mark.fast)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """SavedModel folders by variant: plain, permuted (labels reordered), small (8x8 input), slow (0.5 s a call)."""
    root = build_once(tmp_path_factory, "tiny", build_tiny_models)
    return {name: root / name for name in VARIANTS}


def build_tiny_models(folder: Path) -> None:
    """Build every variant."""
    build_models("tests.helpers.tiny_model", folder)


@pytest.fixture(scope="session")
def half_plus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models like those that TensorFlow Serving tests itself with, and a models.config of them."""
    return build_once(tmp_path_factory, "half-plus", build_half_plus)


def build_half_plus(folder: Path) -> None:
    """Build the models."""
    build_models("tests.helpers.half_plus", folder)


def build_models(module: str, folder: Path) -> None:
    """Run a module that writes models, in a process of its own: TensorFlow stays out of this one."""
    command = [sys.executable, "-m", module, str(folder)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=300, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the models cannot be built by {module}:\n{done.stderr.decode()}")


@pytest.fixture
def store(tmp_path: Path, tiny_models: dict[str, Path]) -> ModelStore:
    """A fresh store in which the plain variant is the live version 1 of model `colours`."""
    fresh = ModelStore(tmp_path / "models")
    publish_variant(fresh, tiny_models["plain"])
    return fresh


@pytest.fixture(scope="session")
def modelserver(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]) -> Iterator[ServerProcess]:
    """A model server for reading only: `colours` 1 (previous) and 2 (live) plain and permuted; do not publish to it."""
    root = tmp_path_factory.mktemp("served")
    shared = ModelStore(root / "models")
    for variant in ("plain", "permuted"):
        publish_variant(shared, tiny_models[variant])
    server = start_server(shared, root / "modelserver.log")
    try:
        with ModelClient(server.address) as client:
            client.wait_for(MODEL_NAME, 1)
            client.wait_for(MODEL_NAME, 2)
        yield server
    finally:
        server.stop()


@pytest.fixture
def start_modelserver(tmp_path: Path) -> Iterator[StartModelServer]:
    """A function that starts a model server for one test: `start_modelserver(store, *flags)`."""
    servers: list[ServerProcess] = []

    def start(store: ModelStore, *flags: str) -> ServerProcess:
        servers.append(start_server(store, tmp_path / f"modelserver{len(servers)}.log", flags))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def model_client(modelserver: ServerProcess) -> Iterator[ModelClient]:
    """A client of the shared model server."""
    with ModelClient(modelserver.address) as client:
        yield client
