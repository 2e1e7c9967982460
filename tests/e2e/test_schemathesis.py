"""Schemathesis asks a real gateway in front of a real model server everything that the OpenAPI document allows.

All its checks are on, its seed is pinned. Pictures are real ones; everything else it makes up, right and wrong.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.store import ModelStore
from tests.helpers.gateway_process import ServiceProcess, fetch
from tests.helpers.server_process import ROOT
from tests.helpers.tiny_model import publish_variant

SEED = 7
# Statuses that are right for what a document cannot say. Valid data: 422 for a class that this model does not have,
# 409 for feedback that contradicts other feedback, 504 for a deadline of a millisecond; where tensors are sent, 400
# for values that do not fit the signature. Invalid data: never 500.
CONFIG = """
seed = {seed}
hooks = "{hooks}"
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "504"]
[checks.negative_data_rejection]
expected-statuses = ["400", "404", "405", "409", "413", "415", "422", "504"]
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "404", "409", "422", "504"]
[[operations]]
include-path-regex = ":predict$|/metadata$|/infer$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "422", "504"]
"""


@pytest.fixture(name="url", scope="module")
def fixture_url(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]) -> Iterator[str]:
    """A gateway and a model server with two versions of `colours`; feedback is on."""
    folder = tmp_path_factory.mktemp("fuzzed")
    store = ModelStore(folder / "models")
    for variant in ("plain", "permuted"):
        publish_variant(store, tiny_models[variant])
    arguments = ["up", "--port=0", f"--models-dir={store.root}", f"--feedback-dir={folder / 'feedback'}"]
    service = ServiceProcess(arguments, folder)
    try:
        url = service.wait_for_url()
        service.wait_until_ready(url)
        yield url
        ready = fetch(url + "/readyz")
        assert ready is not None
        assert 200 == ready.status_code
    finally:
        assert 0 == service.stop()
    assert "unexpected error" not in service.log


def run_schemathesis(url: str, folder: Path, *flags: str) -> int:
    """Run it and return the number of its cases.

    Raises:
        AssertionError: with what it found.
    """
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG.format(seed=SEED, hooks=ROOT / "tests/helpers/schemathesis_hooks.py"))
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command += [f"--config-file={config}", "run", f"{url}/openapi.json", "--checks=all", "--no-color", *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment |= {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1500, check=False
    )
    assert 0 == done.returncode, done.stdout[-8000:] + done.stderr[-2000:]
    return int(re.findall(r"(\d+) generated", done.stdout)[-1])


def test_a_few_cases_find_nothing(url: str, tmp_path: Path) -> None:
    """The document's examples and a few cases of each route."""
    num_cases = run_schemathesis(url, tmp_path, "--phases=examples,fuzzing", "--max-examples=5")

    assert num_cases >= 60


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_cases_find_nothing(url: str, tmp_path: Path) -> None:
    """Every phase: examples, the edges of every parameter, made-up requests, and chains of requests."""
    num_cases = run_schemathesis(url, tmp_path, "--max-examples=70", "--continue-on-failure")

    assert num_cases >= 2000
