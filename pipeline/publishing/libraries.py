"""Records the versions of the libraries that made a model, for its provenance."""

from __future__ import annotations

import platform
from importlib.metadata import version

_PACKAGES = ("tensorflow", "keras", "openvino", "numpy", "pillow", "scipy", "scikit-learn", "matplotlib")


def library_versions() -> dict[str, str]:
    """Return the version of Python and of each library that a model's numbers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
