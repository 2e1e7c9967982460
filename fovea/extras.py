"""Optional dependencies: which are missing, and the pip command that installs them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence

from contract.commands import DISTRIBUTION

# Top-level modules of each extra; tests/fovea/test_extras.py compares them with pyproject.toml.
MODULES: dict[str, tuple[str, ...]] = {
    "client": ("httpx2",),
    "dicom": ("pydicom",),
    "heic": ("pi_heif",),
    "gateway": (
        "fastapi",
        "fastapi_swagger",
        "grpc",
        "grpc_health",
        "httptools",
        "limits",
        "opentelemetry",
        "prometheus_client",
        "pydantic",
        "python_multipart",
        "uvicorn",
        "uvloop",
    ),
    "modelserver": ("grpc", "grpc_health", "openvino", "prometheus_client"),
    "pipeline": (
        "h5py",
        "jinja2",
        "matplotlib",
        "networkx",
        "openvino",
        "pyarrow",
        "pydantic",
        "yaml",
        "sklearn",
        "scipy",
        "threadpoolctl",
        "tqdm",
    ),
    "sync": ("obstore",),
    "tensorflow": ("tensorflow", "tensorflow_serving"),
}


class MissingExtraError(ImportError):
    """An optional dependency is not installed; the text has the pip command."""


def check_extras(what: str, extras: Sequence[str]) -> None:
    """Raise unless every module of the extras is installed; nothing is imported.

    Args:
        what: the command or function that needs them, for the message.
        extras: names in pyproject.toml.

    Raises:
        MissingExtraError: with the modules that are missing and the pip command.
    """
    missing = [module for extra in extras for module in MODULES[extra] if not _is_installed(module)]
    if missing:
        raise MissingExtraError(explain_missing(what, extras, missing))


def explain_missing(what: str, extras: Sequence[str], missing: Iterable[str]) -> str:
    """Return which modules are missing and the pip command that brings them."""
    names = ", ".join(dict.fromkeys(missing))
    if not extras:
        return f"{what} needs {names}, which is not installed"
    return f"{what} needs {names}, which is not installed: pip install '{DISTRIBUTION}[{','.join(extras)}]'"


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
