"""Private interfaces of libraries: each one in use has a row with the version that it was read in."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeGuard

import pytest

from tests.repository.project import PACKAGES, ROOT


@dataclass(frozen=True)
class PrivateApi:
    """One private interface.

    Attributes:
        distribution: the library on the package index.
        version: major and minor version in which the interface was read.
        module: where it is.
        name: inside the module, with dots; empty for the module itself.
        shape: of a function all parameters; of a class or a module the members in use.
        users: files of this project that use it.
    """

    distribution: str
    version: str
    module: str
    name: str
    shape: tuple[str, ...]
    users: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.module}:{self.name}" if self.name else self.module

    def find(self) -> Any:
        """Import the interface."""
        parts = self.name.split(".") if self.name else []
        return functools.reduce(getattr, parts, importlib.import_module(self.module))


_HTTPTOOLS = ("uvicorn", "0.54", "uvicorn.protocols.http.httptools_impl")
_PROTOCOL = ("service/gateway/server/strict_protocol.py", "service/gateway/server/connections.py")
_SERVER = ("uvicorn", "0.54", "uvicorn.server")
_SERVER_USERS = ("service/gateway/server/server.py",)
PRIVATE_APIS = (
    PrivateApi(
        *_HTTPTOOLS,
        "HttpToolsProtocol",
        # Set by uvicorn: the state that StrictProtocol and GuardedProtocol read or change, and the methods they extend.
        (
            *("connections", "cycle", "expect_100_continue", "flow", "headers", "loop", "parser", "pipeline"),
            *("scheme", "server_state", "transport"),
            *("connection_lost", "connection_made", "data_received", "eof_received", "on_body", "on_header"),
            *("on_headers_complete", "on_message_begin", "on_message_complete", "on_response_complete", "on_url"),
            *("pause_writing", "resume_writing", "shutdown"),
        ),
        _PROTOCOL,
    ),
    PrivateApi(*_HTTPTOOLS, "HttpToolsProtocol._start_asgi_task", ("self", "cycle", "app"), _PROTOCOL[:1]),
    PrivateApi(
        *_HTTPTOOLS,
        "HttpToolsProtocol.__init__",
        ("self", "config", "server_state", "app_state", "_loop"),
        ("service/gateway/server/server.py",),
    ),
    PrivateApi(
        *_HTTPTOOLS,
        "RequestResponseCycle",
        (
            *("disconnected", "keep_alive", "message_event", "response_complete", "response_started", "scope"),
            *("transport", "waiting_for_100_continue"),
        ),
        _PROTOCOL,
    ),
    PrivateApi(*_HTTPTOOLS, "STATUS_LINE", (), ("service/gateway/server/request_heads.py",)),
    PrivateApi(
        *_SERVER,
        "Server",
        ("config", "force_exit", "handle_exit", "lifespan", "on_tick", "server_state", "servers", "shutdown"),
        _SERVER_USERS,
    ),
    PrivateApi(*_SERVER, "Server.on_tick", ("self", "counter"), _SERVER_USERS),
    PrivateApi(*_SERVER, "Server.shutdown", ("self", "sockets"), _SERVER_USERS),
    PrivateApi(*_SERVER, "Server.handle_exit", ("self", "sig", "frame"), _SERVER_USERS),
    PrivateApi(
        "tensorflow",
        "2.21",
        "tensorflow.python.framework.convert_to_constants",
        "convert_variables_to_constants_v2",
        ("func", "lower_control_flow", "aggressive_inlining"),
        (
            "pipeline/networks/saved_model.py",
            "pipeline/publishing/imports/model_files.py",
            "pipeline/report/layers.py",
        ),  # decision 0038
    ),
    PrivateApi(
        "tensorflow",
        "2.21",
        "tensorflow.python.framework.config",
        "disable_op_determinism",
        (),
        ("tests/pipeline/conftest.py",),
    ),
    PrivateApi(
        "keras", "3.15", "keras.src.ops.function", "Function", ("_nodes_by_depth",), ("pipeline/networks/splitting.py",)
    ),
    PrivateApi(
        "keras",
        "3.15",
        "keras.src.legacy.saving.legacy_h5_format",
        "save_weights_to_hdf5_group",
        ("group", "model"),
        ("tests/pipeline/networks/test_weights.py",),
    ),
    PrivateApi(
        "keras",
        "3.15",
        "keras.src.applications.efficientnet",
        "IMAGENET_STDDEV_RGB",
        (),
        ("tests/pipeline/networks/test_weights.py",),  # rescale_as_published repeats them
    ),
    PrivateApi(
        "openvino",
        "2026.4",
        "openvino._offline_transformations",
        "",
        ("apply_moc_transformations",),  # compiled: Python sees no parameters; tests/engine/test_memory.py calls it
        ("engine/runtimes/openvino_graph.py",),
    ),
    PrivateApi(
        "playwright", "1.65", "playwright._impl._driver", "compute_driver_executable", (), ("tests/docs/reader.py",)
    ),
)


@pytest.mark.parametrize("api", PRIVATE_APIS, ids=str)
def test_installed_version_is_the_one_that_was_read(api: PrivateApi) -> None:
    """A new major or minor version of the library: read the interface again, then change the row."""
    installed = metadata.version(api.distribution)

    assert api.version == ".".join(installed.split(".")[:2]), f"{api.distribution} {installed}: read {api} again"


@pytest.mark.parametrize("api", PRIVATE_APIS, ids=str)
def test_interface_has_its_shape(api: PrivateApi) -> None:
    """A function has exactly these parameters, a class or a module at least these members."""
    found = api.find()
    if inspect.isclass(found) or inspect.ismodule(found):
        assert set() == set(api.shape) - members_of(found)
    elif callable(found):
        assert api.shape == tuple(inspect.signature(found).parameters)


@pytest.mark.parametrize("api", PRIVATE_APIS, ids=str)
def test_users_mention_the_interface(api: PrivateApi) -> None:
    """A row whose interface is used no more goes."""
    words = {word for word in (*api.name.split("."), *api.shape, *api.module.split(".")[-1:]) if word}
    unused = [user for user in api.users if not words & set(re.findall(r"\w+", (ROOT / user).read_text()))]

    assert api.users and not unused


def test_status_lines_are_bytes_by_code() -> None:
    """`request_heads` writes them as they are."""
    (api,) = (api for api in PRIVATE_APIS if api.name == "STATUS_LINE")

    assert b"HTTP/1.1 413 " == api.find()[413][:13]
    assert all(line.endswith(b"\r\n") for line in api.find().values())


def test_every_private_import_has_a_row() -> None:
    """Of the libraries in the table, modules that are imported and private are those of the table."""
    imported = {(path, module) for path, module in imported_modules() if is_private(module)}

    assert set() == imported - {(user, api.module) for api in PRIVATE_APIS for user in api.users}


def is_private(module: str) -> bool:
    """Return whether a module is named as private, or is one of those that a library in the table calls internal."""
    is_internal = module.startswith((*{api.module for api in PRIVATE_APIS}, "keras.src", "tensorflow.python"))
    return is_internal or any(part.startswith("_") for part in module.split("."))


def imported_modules() -> Iterator[tuple[str, str]]:
    """Return file and module of each import in the project's packages, of libraries that have a row."""
    roots = {api.module.partition(".")[0] for api in PRIVATE_APIS}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for module in _imports_of(path):
                if module.partition(".")[0] in roots:
                    yield path.relative_to(ROOT).as_posix(), module


def _imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def members_of(found: Any) -> set[str]:
    """Return attributes, and those that a class's methods set on its instances."""
    if not inspect.isclass(found):
        return set(dir(found))
    stored = (node for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(found)))) if _is_stored(node))
    return set(dir(found)) | {node.attr for node in stored}


def _is_stored(node: ast.AST) -> TypeGuard[ast.Attribute]:
    is_set = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    return is_set and isinstance(node.value, ast.Name) and node.value.id == "self"
