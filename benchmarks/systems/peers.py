"""The peers: servers of benchmarks/peers/, each in its own virtual environment."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.systems.bodies import base64_json, form
from benchmarks.systems.pairs import engine_peer
from benchmarks.systems.program import ROOT
from benchmarks.systems.system import Place, System, read_flat
from benchmarks.workload.shared import KERAS_FILE, VERSION

FOLDER = ROOT / "benchmarks/peers"
_BUILD_TIMEOUT_S = 1800.0
# None of them may call home, and TensorFlow need not say that there is no GPU.
_ENVIRONMENT = {
    "BENTOML_DO_NOT_TRACK": "True",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
}
_PRODUCTS = {"fastapi": "FastAPI", "litserve": "LitServe", "bentoml": "BentoML", "ray": "Ray Serve", "mosec": "mosec"}
PEERS = tuple(_PRODUCTS)


def peers(cache: Path, precisions: Sequence[str]) -> list[System]:
    """Return all of them.

    Args:
        cache: folder of their environments, as `build_environment` made them.
        precisions: at which those on Fovea's engine are run.
    """
    return [
        _keras(cache, "fastapi", "FastAPI + model.predict", wrap=form("file")),
        _keras(cache, "litserve", "LitServe", wrap=base64_json("image_data"), polls=True),
        _keras(cache, "bentoml", "BentoML", wrap=form("images"), read=lambda reply: read_flat(reply[0])),
        _keras(cache, "ray", "Ray Serve"),
        _keras(cache, "mosec", "mosec", path="/inference"),
        *(
            _engine(cache, "litserve", precision, wrap=base64_json("image_data"), polls=True)
            for precision in precisions
        ),
        *(_engine(cache, "mosec", precision, path="/inference") for precision in precisions),
    ]


def _keras(cache: Path, name: str, title: str, **settings: object) -> System:
    title = title.replace(_PRODUCTS[name], f"{_PRODUCTS[name]} {_version(name)}")
    return System(name, title, _command(cache, name, f"{name}_server.py", KERAS_FILE), **_common(), **settings)  # type: ignore[arg-type]


def _engine(cache: Path, name: str, precision: str, **settings: object) -> System:
    title = f"{_PRODUCTS[name]} on Fovea's engine, {precision}"
    command = _command(cache, name, f"{name}_engine_server.py", str(VERSION))
    return System(engine_peer(name, precision), title, command, **_common(BENCHMARK_PRECISION=precision), **settings)  # type: ignore[arg-type]


def _common(**variables: str) -> dict[str, object]:
    environment = {**_ENVIRONMENT, "PYTHONPATH": str(ROOT), **variables}
    return {"names_index": '"index":{}', "environment": environment, "directory": FOLDER}


def _command(cache: Path, name: str, script: str, model: str) -> Callable[[Place], Mapping[str, list[str]]]:
    python = environment_path(cache, name) / "bin/python"
    return lambda place: {
        "server": [str(python), str(FOLDER / script), str((place.workload / model).absolute()), str(place.port)]
    }


def environment_path(cache: Path, name: str) -> Path:
    """Return the folder of a peer's environment; another one for other requirements."""
    digest = hashlib.sha256(_requirements(name).read_bytes()).hexdigest()[:12]
    return cache / f"{name}-{digest}"


def build_environment(cache: Path, name: str) -> None:
    """Build a peer's environment unless it is there, with uv where it is installed, else with venv and pip.

    Raises:
        subprocess.SubprocessError: if it cannot be built; half of one is built anew the next time.
    """
    folder = environment_path(cache, name)
    done = folder / ".complete"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        for command in _build_commands(folder, _requirements(name)):
            subprocess.run(command, check=True, timeout=_BUILD_TIMEOUT_S)
        done.touch()


def _version(name: str) -> str:
    """Return the version of a peer that its requirements pin."""
    found = re.search(rf"^{name}==(\S+)", _requirements(name).read_text(), re.M)
    return found[1] if found else ""


def _requirements(name: str) -> Path:
    return FOLDER / f"requirements-{name}.txt"


def _build_commands(folder: Path, requirements: Path) -> list[list[str]]:
    python = str(folder / "bin/python")
    if uv := shutil.which("uv"):
        make = [uv, "venv", "-q", "--python", sys.executable, str(folder)]
        return [make, [uv, "pip", "sync", "-q", "--python", python, str(requirements)]]
    make = [sys.executable, "-m", "venv", str(folder)]
    return [make, [python, "-m", "pip", "install", "-q", "--no-deps", "-r", str(requirements)]]


def default_cache() -> Path:
    """Return the folder of all environments, in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fovea-benchmarks/peers"
