"""The processors that this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN_GROUP: Final = Path("/proc/self/cgroup")


def count_cores() -> int:
    """Return how many processors this process may use; all of the machine's where the system does not say.

    That is its affinity, and no more than a container or a service may take of them: the quota of its control group
    (cgroup v2, cpu.max), rounded up.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, read_quota() or cores)


def read_quota(groups: Path = _GROUPS, own: Path = _OWN_GROUP) -> int | None:
    """Return how many processors the control groups of this process allow; None if they set no limit.

    Args:
        groups: where the kernel shows control groups; in a container its own group is at the top.
        own: names the group of this process.
    """
    quotas = [quota for folder in _list_groups(groups, own) if (quota := _read_limit(folder / "cpu.max")) is not None]
    return max(1, math.ceil(min(quotas))) if quotas else None


def _list_groups(groups: Path, own: Path) -> list[Path]:
    """Return the folders of the process's group and of those that it is in."""
    try:
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    name = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    folder = groups / name
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(groups))]


def _read_limit(path: Path) -> float | None:
    """Return the processors of a file cpu.max: microseconds, or "max", of a period."""
    try:
        quota, period = path.read_text(encoding="ascii").split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
