#!/usr/bin/env python3
"""Copies the protobuf stubs that contract/ uses out of an installed TensorFlow, so that an image needs no TensorFlow.

    python scripts/extract_stubs.py --packages SITE_PACKAGES --out DIR

The list in contract/stubs.py is read as text, and the imports of each stub are followed by reading them too: nothing of
TensorFlow or of the project runs. A copied module keeps its path; each package folder gets an empty `__init__.py`.
"""

from __future__ import annotations

import argparse
import ast
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

LIST = Path(__file__).resolve().parent.parent / "contract" / "stubs.py"
PACKAGES = ("tensorflow", "tensorflow_serving")


class ExtractionError(Exception):
    """A stub is not where it should be, or imports something that is not a stub."""


def main(arguments: list[str] | None = None) -> int:
    """Extract and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True, help="the folder that holds tensorflow/")
    parser.add_argument("--out", type=Path, required=True, help="the folder to copy into; made if absent")
    options = parser.parse_args(arguments)
    try:
        modules = needed_modules(listed_modules(LIST.read_text()), options.packages)
        copy_modules(modules, options.packages, options.out)
    except (ExtractionError, OSError) as err:
        print(f"extract_stubs: {err}", file=sys.stderr)
        return 1
    print(f"{len(modules)} stubs in {options.out}")
    return 0


def listed_modules(source: str) -> tuple[str, ...]:
    """Return the value of STUB_MODULES in a module's source.

    Raises:
        ExtractionError: if there is no such assignment of a literal.
    """
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["STUB_MODULES"]:
            return tuple(ast.literal_eval(node.value))
    raise ExtractionError("contract/stubs.py: expected an assignment to STUB_MODULES")


def needed_modules(listed: tuple[str, ...], packages: Path) -> set[str]:
    """Return the listed modules and every module of TensorFlow that they import, directly or not.

    Raises:
        ExtractionError: if a module is missing or is no protobuf stub.
    """
    needed: set[str] = set()
    waiting = list(listed)
    while waiting:
        module = waiting.pop()
        if module in needed:
            continue
        needed.add(module)
        waiting += imports_of(module, packages)
    return needed


def imports_of(module: str, packages: Path) -> Iterator[str]:
    """Yield the modules of TensorFlow that a stub imports.

    Raises:
        ExtractionError: if it is missing or is no protobuf stub.
    """
    path = module_path(packages, module)
    if not path.name.endswith(("_pb2.py", "_pb2_grpc.py")) or not path.is_file():
        raise ExtractionError(f"expected a protobuf stub in {packages}. Received: {module}")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and is_ours(node.module or ""):
            # A public import in a .proto file becomes `from module import *`.
            yield from (f"{node.module}.{alias.name}".removesuffix(".*") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if is_ours(alias.name))


def is_ours(module: str) -> bool:
    """Return whether a module belongs to the packages that stubs are extracted from."""
    return module.partition(".")[0] in PACKAGES


def module_path(root: Path, module: str) -> Path:
    """Return a module's file below a folder of packages."""
    return root.joinpath(*module.split(".")).with_suffix(".py")


def copy_modules(modules: set[str], packages: Path, out: Path) -> None:
    """Copy the files of modules and mark their folders as packages."""
    for module in sorted(modules):
        target = module_path(out, module)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(module_path(packages, module), target)
        for folder in target.relative_to(out).parents:
            if folder.parts:
                (out / folder / "__init__.py").touch()


if __name__ == "__main__":
    sys.exit(main())
