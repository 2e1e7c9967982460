"""Reads the machine's processor features from the operating system."""

from __future__ import annotations

import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def processor_name() -> str:
    """Return the processor's model, as far as the system says."""
    return next(
        (line for line in _lines() if line.startswith("model name")), platform.processor() or platform.machine()
    )


def processor_flags() -> frozenset[str]:
    """Return the processor's features, by the kernel's names such as "amx_bf16"; empty where it does not say."""
    line = next((line for line in _lines() if line.startswith(("flags", "Features"))), "")
    return frozenset(line.partition(":")[2].split())


def _lines() -> list[str]:
    try:
        return _CPUINFO.read_text().splitlines()
    except OSError:
        return []
