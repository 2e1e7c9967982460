"""A process that publishes a version and dies, by SIGKILL, just before the given change of the file system.

python -m tests.helpers.killed_publisher STORE STEP NAME [SOURCE]
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from contract.store import ModelStore
from tests.helpers.server_process import ROOT

# Every change that a writer makes is one of Python's audit events.
CHANGES = ("os.rename", "os.mkdir", "os.chmod", "os.remove", "shutil.rmtree", "tempfile.mkstemp")


def publish_and_die(
    store: ModelStore, *, step: int, name: str = "eyes", source: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Publish in a process that is killed before the change `step`, 1 or more; it ends with 0 if there are fewer.

    Args:
        store: to publish into.
        step: which change.
        name: the model.
        source: a SavedModel's folder; without it the version is a file that no server can load.
    """
    arguments = [str(store.root), str(step), name, *([] if source is None else [str(source)])]
    command = [sys.executable, "-m", "tests.helpers.killed_publisher", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, timeout=120, capture_output=True)


def _publish(root: str, step: str, name: str, *source: str) -> None:
    store, left = ModelStore(Path(root)), int(step)

    def count(event: str, _: object) -> None:
        nonlocal left
        if event in CHANGES:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    with store.staging() as directory:
        for folder in source:
            shutil.copytree(folder, directory, dirs_exist_ok=True)
        if not source:
            (directory / "saved_model.pb").write_bytes(b"model")
        sys.addaudithook(count)
        store.publish(name, directory)


if __name__ == "__main__":
    _publish(*sys.argv[1:])
