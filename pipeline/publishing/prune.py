"""Deletes old versions, leftovers of old runs, and the feature cache.

Never a version that is live, previous or candidate, nor the run of a version that stays. Of every run the manifest
stays: it keeps a test patient from becoming a training patient in a later run.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from contract.errors import ContractError
from contract.store import ModelStore
from pipeline.data.lineage import MANIFEST_FILE, find_run
from pipeline.errors import ResumeError
from pipeline.run_folder import claimed

CACHE = ".cache"  # below the runs folder
FINISHED_FILE = "metrics.json"  # the last thing that a run writes
UNFINISHED_S = 7 * 24 * 3600.0  # an unfinished run may be going on, or wait to be resumed


@dataclass(frozen=True, slots=True)
class Pruned:
    """One thing that was deleted, or would be.

    Attributes:
        kind: "version", "run" or "cache".
        name: NAME/VERSION, NAME/RUN, or the cache's folder.
        path: where it was.
        size: bytes that its deletion frees.
    """

    kind: str
    name: str
    path: Path
    size: int


def prune(store: ModelStore, runs_dir: Path, *, keep: int, dry_run: bool = False) -> list[Pruned]:
    """Delete old versions, what old runs left behind, and the feature cache.

    Args:
        store: the models.
        runs_dir: the runs.
        keep: how many of each model's versions without a role, and of its runs without a version, to keep: the newest.
        dry_run: only say what would be deleted.

    Returns:
        The deleted items.

    Raises:
        StoreError: if a version cannot be deleted; items deleted before it stay deleted.
    """
    versions = _old_versions(store, keep)
    doomed = {(name, version) for name, version in versions}
    staying = [(n, v) for n in store.read_index() for v in store.read_versions(n) if (n, v) not in doomed]
    runs = _old_runs(runs_dir, keep, protected=_runs_of(store, runs_dir, staying))
    found = [_pruned("version", f"{n}/{v}", store.version_path(n, v)) for n, v in versions]
    found += [_pruned("run", f"{run.parent.name}/{run.name}", run, spare=MANIFEST_FILE) for run in runs]
    if (runs_dir / CACHE).is_dir():
        found.append(_pruned("cache", CACHE, runs_dir / CACHE))
    if not dry_run:
        for name, version in versions:
            store.remove(name, version)
        for run in runs:
            _empty(run)
        shutil.rmtree(runs_dir / CACHE, ignore_errors=True)
    return found


def _old_versions(store: ModelStore, keep: int) -> list[tuple[str, int]]:
    """Return the versions without a role beyond the newest `keep` of each model, oldest first."""
    old = []
    for name, entry in sorted(store.read_index().items()):
        idle = [version for version in store.read_versions(name) if not entry.roles_of(version)]
        old += [(name, version) for version in idle[: max(0, len(idle) - keep)]]
    return old


def _runs_of(store: ModelStore, runs_dir: Path, versions: Iterable[tuple[str, int]]) -> set[Path]:
    runs = set()
    for name, version in versions:
        try:
            run = find_run(store, runs_dir, name, version)
        except ContractError:  # a version without a readable contract has no run that could be found
            continue
        if run is not None:
            runs.add(run)
    return runs


def _old_runs(runs_dir: Path, keep: int, *, protected: set[Path]) -> list[Path]:
    """Return runs beyond the newest `keep` of each model, of those that made no staying version; oldest first."""
    old = []
    for folder in sorted(path for path in _folders(runs_dir) if not path.name.startswith(".")):
        # Run ids begin with the time.
        free = [run for run in sorted(_folders(folder)) if run not in protected and _is_over(run)]
        old += [run for run in free[: max(0, len(free) - keep)] if _contents(run)]
    return old


def _is_over(run: Path) -> bool:
    """Whether a run has ended, or has written nothing for longer than a run may pause."""
    try:
        with claimed(run):
            pass
    except ResumeError:  # a living process holds it
        return False
    if (run / FINISHED_FILE).is_file() or not _contents(run):
        return True
    newest = max(path.stat().st_mtime for path in [run, *run.rglob("*")])
    return time.time() - newest > UNFINISHED_S


def _contents(run: Path) -> list[Path]:
    return [path for path in run.iterdir() if path.name != MANIFEST_FILE]


def _empty(run: Path) -> None:
    """Delete everything but the manifest; a run without one goes altogether."""
    for path in _contents(run):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if not any(run.iterdir()):
        run.rmdir()


def _folders(path: Path) -> list[Path]:
    return [child for child in path.iterdir() if child.is_dir()] if path.is_dir() else []


def _pruned(kind: str, name: str, path: Path, *, spare: str | None = None) -> Pruned:
    files = (file for file in path.rglob("*") if file.is_file() and file.name != spare)
    return Pruned(kind, name, path, sum(file.lstat().st_size for file in files))
