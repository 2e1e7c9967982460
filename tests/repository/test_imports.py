"""Importing a module of the project has no effect."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.repository.project import PACKAGES, ROOT, module_names

# Imports the modules named in argv and prints what that changed. Reading FOVEA_* would end the child: the environment
# that they see refuses such names, which no module may ask for while it loads.
PROBE = """
import importlib, json, logging, os, signal, sys, threading

asked = []
class Watched(os._Environ):
    def __getitem__(self, key):
        if key.startswith("FOVEA_"):
            asked.append(key)
        return super().__getitem__(key)
os.environ.__class__ = Watched
signals = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
handlers, level = list(logging.root.handlers), logging.root.level
opened = []
sys.addaudithook(lambda event, args: opened.append(event) if event == "socket.connect" else None)
for name in sys.argv[1:]:
    importlib.import_module(name)
metrics = sys.modules.get("prometheus_client")
print(json.dumps({
    "environment": asked,
    "sockets": opened,
    "handlers": len(logging.root.handlers) - len(handlers),
    "level": logging.root.level - level,
    "signals": [int(s) for s, handler in signals.items() if signal.getsignal(s) is not handler],
    "threads": [t.name for t in threading.enumerate() if t is not threading.main_thread()],
    "heavy": sorted({"tensorflow", "keras", "openvino", "fastapi"} & sys.modules.keys()),
    "metrics": sorted(c for c in getattr(metrics, "REGISTRY", None)._names_to_collectors) if metrics else [],
}))
"""


def run_probe(names: list[str]) -> dict[str, list[str] | int]:
    """Import modules in a fresh interpreter and return what the probe saw."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *names], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert 0 == done.returncode, done.stderr
    seen: dict[str, list[str] | int] = json.loads(done.stdout.splitlines()[-1])
    return seen


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_does_nothing(package: str) -> None:
    """No environment read, socket, signal handler, thread or logging set-up, whatever module is imported."""
    seen = run_probe([name for name in module_names() if name.split(".")[0] == package])
    actual = {key: seen[key] for key in ("environment", "sockets", "handlers", "level", "signals", "threads")}
    assert {"environment": [], "sockets": [], "handlers": 0, "level": 0, "signals": [], "threads": []} == actual


@pytest.mark.parametrize(
    ("prefix", "allowed"),
    [
        pytest.param("contract", [], id="contract"),
        pytest.param("service.gateway", ["fastapi"], id="gateway"),
        pytest.param("service.client", [], id="client"),
    ],
)
def test_light_packages_import_nothing_heavy(prefix: str, allowed: list[str]) -> None:
    """Neither contract/ nor the gateway brings TensorFlow, Keras or OpenVINO into the process."""
    names = [name for name in module_names() if name == prefix or name.startswith(f"{prefix}.")]
    if not names:
        pytest.skip(f"there is no {prefix}")
    assert allowed == run_probe(names)["heavy"]


def test_no_module_registers_metrics_globally() -> None:
    """Metrics live in a registry of the application, so that two applications fit in one process."""
    bare = run_probe(["prometheus_client"])["metrics"]
    names = [name for name in module_names() if name.split(".")[0] in ("contract", "service")]
    assert bare == run_probe(["prometheus_client", *names])["metrics"]


def test_contract_imports_in_a_fraction_of_a_second() -> None:
    """Importing all of contract/, stubs included, costs little more than the libraries that it stands on."""
    names = [name for name in module_names() if name.split(".")[0] == "contract"]
    assert import_cost_s(names) - import_cost_s(["numpy", "PIL.Image", "google.protobuf.message", "grpc"]) < 0.5


def import_cost_s(names: list[str]) -> float:
    """Return the least of three CPU times that a fresh interpreter takes to import modules."""
    code = "import sys, time, importlib; [importlib.import_module(n) for n in sys.argv[1:]]; print(time.process_time())"
    times = []
    for _ in range(3):
        command = [sys.executable, "-c", code, *names]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        times.append(float(done.stdout))
    return min(times)
