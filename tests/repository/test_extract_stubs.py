"""The stubs that images get in place of TensorFlow."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from contract.stubs import STUB_MODULES
from tests.repository.project import ROOT

USE = """
import sys
from contract.stubs import import_stubs
modules = import_stubs()
request = modules["predict_pb2"].PredictRequest()
request.model_spec.name = "glaucoma"
request.inputs["images"].dtype = modules["types_pb2"].DT_UINT8
assert modules["predict_pb2"].PredictRequest.FromString(request.SerializeToString()) == request
print(len(modules), modules["tensor_pb2"].__file__)
"""


def extract(packages: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    command = [sys.executable, "scripts/extract_stubs.py", "--packages", str(packages), "--out", str(out)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def packages() -> Path:
    """Where TensorFlow is installed."""
    spec = importlib.util.find_spec("tensorflow")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent.parent


def test_extracted_stubs_are_enough(packages: Path, tmp_path: Path) -> None:
    """contract/ loads them, from there, and messages survive a round trip."""
    done = extract(packages, tmp_path)
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-c", USE]
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    used = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert used.returncode == 0, used.stderr
    assert used.stdout.split() == [str(len(STUB_MODULES)), str(tmp_path / "tensorflow/core/framework/tensor_pb2.py")]


def test_only_stubs_are_extracted(packages: Path, tmp_path: Path) -> None:
    """Message classes and empty packages, under half a megabyte."""
    extract(packages, tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    others = [path for path in files if not path.stem.endswith(("_pb2", "_pb2_grpc")) and path.stat().st_size > 0]
    assert others == []
    assert sum(path.stat().st_size for path in files) < 500_000


def test_a_missing_stub_is_named(tmp_path: Path) -> None:
    """Extraction from a folder without TensorFlow fails and says what it looked for."""
    done = extract(tmp_path, tmp_path / "out")
    assert done.returncode == 1
    assert "expected a protobuf stub" in done.stderr
    assert not (tmp_path / "out").exists()
