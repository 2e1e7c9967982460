"""CPU seconds that processes, and the whole machine, have used; from /proc, in ticks of usually 10 ms."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Clocks read together.

    Attributes:
        at: `time.monotonic`, seconds.
        own_s: CPU seconds of this process.
        machine_s: CPU seconds of everything on the machine that is not idle.
        stolen_s: CPU seconds that the machine wanted and its host gave to others.
        groups_s: CPU seconds of named groups of processes.
    """

    at: float
    own_s: float
    machine_s: float
    stolen_s: float
    groups_s: dict[str, float] = field(default_factory=dict)


def take_snapshot(groups: Mapping[str, Iterable[int]]) -> Snapshot:
    """Read all clocks."""
    busy, stolen = machine_seconds()
    of_groups = {name: sum(process_seconds(pid) for pid in pids) for name, pids in groups.items()}
    return Snapshot(time.monotonic(), time.process_time(), busy, stolen, of_groups)


def machine_seconds() -> tuple[float, float]:
    """Return CPU seconds since boot that were not idle, and that were stolen by the host."""
    with Path("/proc/stat").open() as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq) / _TICKS_PER_S, steal / _TICKS_PER_S


def process_seconds(pid: int) -> float:
    """Return CPU seconds of a process with all its threads, dead ones too; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()  # a program's name may hold spaces
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
