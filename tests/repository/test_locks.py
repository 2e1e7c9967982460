"""pyproject.toml, the lock files and the page that says why each dependency is here."""

from __future__ import annotations

import importlib.metadata
import re

import pytest
from packaging.requirements import Requirement

from tests.repository.project import LOCKS, ROOT, normal_name, read_pins, read_pyproject

EXTRAS_OF = {
    "requirements.lock": tuple(read_pyproject()["project"]["optional-dependencies"].keys() - {"ray"}),
    "requirements-gateway.lock": ("gateway",),
    "requirements-modelserver.lock": ("modelserver",),
    "requirements-pipeline.lock": ("pipeline", "tensorflow"),
    "requirements-ray.lock": ("pipeline", "ray", "tensorflow"),
}


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_names_a_server(lock: str) -> None:
    """Where packages come from is the installing machine's choice."""
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*--(index-url|extra-index-url|find-links)", text, re.M)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(lock: str) -> None:
    """`pip install --require-hashes` accepts the whole file."""
    entries = re.split(r"^(?=[A-Za-z0-9])", (ROOT / lock).read_text(), flags=re.M)[1:]
    without = [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry]
    assert [] == without


def test_pins_name_the_extras_that_are_asked_for() -> None:
    """A bare pin is none to pip before 24.1 where a package asks for an extra, and then refuses the lock."""
    pinned = set(re.findall(r"^([A-Za-z0-9._-]+\[[^]]*\])==", (ROOT / LOCKS[0]).read_text(), re.M))
    asked = set()
    for distribution in importlib.metadata.distributions():
        for requirement in map(Requirement, distribution.requires or ()):
            marker = requirement.marker
            if requirement.extras and (marker is None or marker.evaluate({"extra": ""})):
                asked.add(f"{normal_name(requirement.name)}[{','.join(sorted(requirement.extras))}]")
    assert "coverage[toml]" in asked
    assert asked <= pinned


@pytest.mark.parametrize("lock", LOCKS[1:])
def test_locks_of_images_agree_with_the_whole_one(lock: str) -> None:
    """No package has one version in the tests and another in an image; Ray is in a lock of its own."""
    whole = read_pins(LOCKS[0])
    pins = read_pins(lock)
    own = pins.keys() - whole.keys()
    assert {} == {name: versions for name, versions in pins.items() if name not in own and not versions <= whole[name]}
    assert ("ray" in own) if lock == "requirements-ray.lock" else not own


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_hold_what_pyproject_asks_for(lock: str) -> None:
    """A dependency that was added without `make lock` is noticed."""
    project = read_pyproject()["project"]
    asked = list(project["dependencies"])
    for extra in EXTRAS_OF[lock]:
        asked += project["optional-dependencies"][extra]
    missing = {normal_name(requirement) for requirement in asked} - read_pins(lock).keys()
    assert set() == missing


@pytest.mark.parametrize(
    ("lock", "absent"),
    [
        pytest.param("requirements-gateway.lock", {"openvino"}, id="gateway"),
        pytest.param("requirements-modelserver.lock", set(), id="modelserver"),
    ],
)
def test_servers_are_installed_without_tensorflow(lock: str, absent: set[str]) -> None:
    """Nothing that the gateway or the model server needs brings TensorFlow or Keras."""
    heavy = {"tensorflow", "keras", "tensorflow-serving-api"} | absent
    assert set() == heavy & read_pins(lock).keys()


def test_every_dependency_has_a_reason_on_its_page() -> None:
    """The table of docs/decisions/0002-dependencies.md is pyproject.toml's list, extra by extra."""
    project = read_pyproject()["project"]
    groups = {"contract": project["dependencies"], **project["optional-dependencies"]}
    expected = {(normal_name(item), extra) for extra, items in groups.items() for item in items}
    page = (ROOT / "docs/decisions/0002-dependencies.md").read_text()
    rows = re.findall(r"^\| ([A-Za-z0-9._-]+) \| ([a-z0-9, ]+) \| (.+) \|$", page, re.M)[1:]
    actual = {(normal_name(name), extra) for name, extras, _ in rows for extra in extras.split(", ")}
    assert expected == actual
