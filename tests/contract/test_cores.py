"""How many processors a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from contract.cores import count_cores, read_quota


def test_a_process_has_at_most_its_affinity() -> None:
    """And at least one."""
    assert 1 <= count_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, None),
        ({"a/b": "max 100000"}, None),
        ({"a/b": "400000 100000"}, 4),
        ({"a/b": "150000 100000"}, 2),
        ({"a/b": "1000 100000"}, 1),
        ({"a": "200000 100000", "a/b": "max 100000"}, 2),
        ({"": "300000 100000", "a": "200000 100000", "a/b": "800000 100000"}, 2),
        ({"c": "100000 100000"}, None),
        ({"a/b": "no numbers"}, None),
    ],
)
def test_the_quota_is_the_least_of_the_groups(tmp_path: Path, limits: dict[str, str], expected: int | None) -> None:
    """Of the process's own group and of all that it is in; parts of a processor count as one."""
    (tmp_path / "own").write_text("12:cpu,cpuacct:/older\n0::/a/b\n")
    for name, text in limits.items():
        (tmp_path / "groups" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name / "cpu.max").write_text(f"{text}\n")

    assert expected == read_quota(tmp_path / "groups", tmp_path / "own")


def test_a_container_sees_its_own_group_at_the_top(tmp_path: Path) -> None:
    """Whatever its group is called outside."""
    (tmp_path / "own").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text("250000 100000\n")

    assert 3 == read_quota(tmp_path, tmp_path / "own")


def test_a_system_without_groups_sets_no_limit(tmp_path: Path) -> None:
    """As macOS."""
    assert read_quota(tmp_path, tmp_path / "none") is None
