"""The workload, built once for all benchmarks of one run."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from contract.store import ModelStore

MODEL = "network"  # of the store, and of the Keras file's name, whatever the backbone is
VERSION = Path("models", MODEL, "1")  # in the workload
KERAS_FILE = f"{MODEL}.keras"
RESNET50 = "ResNet50"
NETWORKS = {RESNET50: (224, 1000), "MobileNetV2": (224, 1000), "ResNet": (80, 3)}  # height and width, pixels; classes
_ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 1200.0


@functools.cache
def shared_workload(backbone: str = RESNET50) -> Path:
    """Build one of NETWORKS, its store and a picture, in a process that takes TensorFlow with it; gone at exit."""
    temporary = tempfile.TemporaryDirectory(prefix="bench-")
    atexit.register(temporary.cleanup)
    command = [sys.executable, "-m", "benchmarks.workload", temporary.name, backbone]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(command, check=True, cwd=_ROOT, timeout=_TIMEOUT_S, env=environment, stderr=subprocess.PIPE)
    return Path(temporary.name)


def publish_copy(store: ModelStore, version: Path) -> None:
    """Publish a version's files as the store's next version of `MODEL`."""
    store.ensure()
    with store.staging() as directory:
        shutil.copytree(version, directory, dirs_exist_ok=True, copy_function=os.link)
        store.publish(MODEL, directory)
