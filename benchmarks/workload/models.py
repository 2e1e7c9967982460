"""Several models in one store, all the same network."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from contract.store import ModelStore


def publish_copies(version: Path, root: Path, count: int) -> list[str]:
    """Publish a version under `count` names, as hard links to the same files, and return the names.

    Args:
        version: a version's folder, on the file system of `root`.
        root: of the new store.
        count: how many.
    """
    store = ModelStore(root)
    store.ensure()
    names = [f"{version.parent.name}-{number:02}" for number in range(count)]
    for name in names:
        with store.staging() as directory:
            shutil.copytree(version, directory, dirs_exist_ok=True, copy_function=os.link)
            store.publish(name, directory)
    return names
