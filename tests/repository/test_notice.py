"""NOTICE and the licences of what Fovea installs: current, and without GPL."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import PurePosixPath

import pytest

from scripts import notice
from tests.repository.project import LOCKS, ROOT, read_pins

NOTICE = (ROOT / "NOTICE").read_text()
PINNED = notice.installed(set().union(*(read_pins(lock) for lock in LOCKS)))
IN_IMAGES = notice.installed(set().union(*(notice.read_packages(image) for image in notice.IMAGES)))


def listed(package: str) -> set[str]:
    """Return the lines of NOTICE below a package's name."""
    found = re.search(rf"^{re.escape(package)} \(in .*\)\n((?:    .*\n)+)", NOTICE, re.M)
    return set() if found is None else {line.strip() for line in found[1].splitlines()}


def test_notice_lists_what_packages_bundle() -> None:
    """Every compiled library that an image receives with a package is there, with its licence."""
    for package in IN_IMAGES:
        expected = {f"{library.name}: {library.licence}" for library in notice.bundled(package)}
        assert expected == listed(package), package


def test_the_script_finds_notice_current() -> None:
    """As after a change of a lock file, when the script was not run."""
    command = [sys.executable, "scripts/notice.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("image", notice.IMAGES)
def test_every_image_carries_notice(image: str) -> None:
    """Each target of the Dockerfile stands on the stage that copies it."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f"FROM base AS {image}\n" in dockerfile
    base = dockerfile.split("FROM ${PYTHON_IMAGE} AS base\n")[1].split("\nFROM ")[0]
    assert re.search(r"^COPY .*\bNOTICE\b", base, re.M)
    assert "!NOTICE" in (ROOT / ".dockerignore").read_text().splitlines()


def test_no_dependency_is_under_gpl() -> None:
    """Neither GPL nor AGPL in a package's metadata, development's packages included."""
    stated = {package: notice.licence_statements(importlib.metadata.distribution(package)) for package in PINNED}
    found = {package for package, statements in stated.items() if any(map(notice.names_gpl, statements))}
    assert set() == found - notice.QUOTING.keys()


@pytest.mark.parametrize("package", notice.QUOTING)
def test_an_exception_is_still_needed(package: str) -> None:
    """A package that no longer quotes GPL loses its entry."""
    assert any(map(notice.names_gpl, notice.licence_statements(importlib.metadata.distribution(package))))


def test_no_package_bundles_a_gpl_library() -> None:
    """By the names of its files, and of the components in its bills of materials."""
    found = {package: gpl_libraries(package) for package in PINNED}
    assert {} == {package: names for package, names in found.items() if names}


def gpl_libraries(package: str) -> list[str]:
    """Return the libraries known to be under GPL that a package bundles."""
    files = notice.files_of(package)
    names = [str(file) for file in files if re.search(r"\.(so(\.\d+)*|dylib|dll|a)$", file.name)]
    for file in files:
        if "sboms" in PurePosixPath(file).parts and file.name.endswith(".json"):
            document = json.loads(file.read_text())
            names += [component["name"] for component in document.get("components", ())]
    return [name for name in names if notice.is_gpl_library(name)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("pillow_heif.libs/libx265-ac3d5a1e.so.199", True, id="x265"),
        pytest.param("av.libs/libx264-6cb2c0f1.so.164", True, id="x264"),
        pytest.param("cv2/libx265.199.dylib", True, id="dylib"),
        pytest.param("some.libs/libfftw3f-1a2b3c4d.so.3.6.9", True, id="fftw"),
        pytest.param("some.libs/libfftw3_threads-1a2b3c4d.so.3", True, id="fftw-threads"),
        pytest.param("libreadline.so.8", True, id="readline"),
        pytest.param("libgslcblas-1a2b3c4d.so.0", True, id="gsl"),
        pytest.param("libx265-199.dll", True, id="dll"),
        pytest.param("readline", True, id="component"),
        pytest.param("pillow.libs/libavif-c6062d5f.so.16.4.2", False, id="avif"),
        pytest.param("scipy.libs/libgfortran-040039e1-0352e75f.so.5.0.0", False, id="gcc-runtime"),
        pytest.param("editable/readline_like.so", False, id="other-name"),
    ],
)
def test_gpl_libraries_are_known_by_name(name: str, expected: bool) -> None:
    """With the versions and hashes that wheels add to the name."""
    actual = notice.is_gpl_library(name)
    assert expected == actual


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        pytest.param("GPL-3.0-or-later", True, id="gpl"),
        pytest.param("AGPL-3.0-only", True, id="agpl"),
        pytest.param("GPLv2+", True, id="old"),
        pytest.param("License :: OSI Approved :: GNU General Public License v3 (GPLv3)", True, id="classifier"),
        pytest.param("License :: OSI Approved :: GNU Affero General Public License v3", True, id="affero"),
        pytest.param("MIT AND GPL-2.0-only", True, id="both"),
        pytest.param("MIT OR GPL-2.0-only", False, id="choice"),
        pytest.param(notice.GCC_RUNTIME, False, id="gcc-runtime"),
        pytest.param("LGPL-2.1-or-later", False, id="lgpl"),
        pytest.param("License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)", False, id="lesser"),
        pytest.param("Apache-2.0", False, id="apache"),
    ],
)
def test_gpl_is_known_by_its_names(statement: str, expected: bool) -> None:
    """SPDX expressions, free text and classifiers."""
    actual = notice.names_gpl(statement)
    assert expected == actual
