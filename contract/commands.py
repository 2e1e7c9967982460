"""Spells a command for messages that name the next step."""

from __future__ import annotations

import functools

DISTRIBUTION = "fovea-serving"
# Commands of `fovea` that have another program or another name where Fovea is not installed as a package.
MODULES = {
    "train": "pipeline run",
    "serve": "service up",
    "gateway": "service gateway",
    "modelserver": "service modelserver",
    "key": "service key",
    "predict": "service predict",
}


def spell_command(command: str) -> str:
    """Return a command of `fovea`, such as "promote eyes", as it is typed here.

    That is `fovea promote eyes` where the package is installed, and `python -m pipeline promote eyes` in a checkout.
    """
    if _is_installed():
        return f"fovea {command}"
    name, _, rest = command.partition(" ")
    return f"python -m {MODULES.get(name, f'pipeline {name}')} {rest}".rstrip()


@functools.cache
def _is_installed() -> bool:
    import importlib.metadata  # 16 ms

    try:
        # A build leaves metadata without a RECORD in a checkout.
        return importlib.metadata.distribution(DISTRIBUTION).read_text("RECORD") is not None
    except importlib.metadata.PackageNotFoundError:
        return False
