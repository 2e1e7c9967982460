"""The copy of a user's network file in the folder of its run."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from pipeline.networks.own.source_file import SourceFile
from pipeline.recipe.training_settings import Model
from pipeline.run_warnings import Weight, warn

NETWORK_FILE = "network.py"
log = logging.getLogger(__name__)


def keep_file(content: bytes | None, folder: Path) -> None:
    """Write the source of a run's network to its folder; nothing for a network without one."""
    if content is not None:
        unfinished = folder / f".{NETWORK_FILE}"
        unfinished.write_bytes(content)
        unfinished.replace(folder / NETWORK_FILE)


def source_sha256(content: bytes | None) -> str | None:
    """Return the hash of a network's source; None for a network without one."""
    return None if content is None else hashlib.sha256(content).hexdigest()


def kept_sha256(folder: Path) -> str | None:
    """Return the hash of the source that a run keeps; None if it keeps none."""
    path = folder / NETWORK_FILE
    return source_sha256(path.read_bytes()) if path.is_file() else None


def with_kept_file(settings: Model, folder: Path) -> Model:
    """Return settings that name the copy in a run's folder in place of the user's file, where there is one."""
    if settings.own_file is None or not (folder / NETWORK_FILE).is_file():
        return settings
    return settings.model_copy(update={"backbone": f"{folder / NETWORK_FILE}:{settings.own_file[1]}"})


def warn_if_changed(settings: Model, folder: Path) -> None:
    """Warn where the user's file is not the one that a stopped run keeps."""
    kept = kept_sha256(folder)
    if settings.own_file is None or kept is None or not Path(settings.own_file[0]).is_file():
        return
    now = hashlib.sha256(SourceFile(*settings.own_file).content).hexdigest()
    if now != kept:
        warn(
            log,
            Weight.EVALUATION,
            "%s has changed since the run was started: the run goes on with its own copy, %s.",
            settings.own_file[0],
            folder / NETWORK_FILE,
        )
