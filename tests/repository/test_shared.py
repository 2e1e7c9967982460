"""Shared fixtures are built once a test run."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers.shared import build_once


def test_a_folder_is_built_once_for_all_who_ask(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Those who ask while it is built wait, and find it whole."""
    name, built = uuid.uuid4().hex, []

    def build(folder: Path) -> None:
        built.append(folder)
        for number in range(100):
            (folder / str(number)).write_text("whole")

    def ask(_: int) -> int:
        return len(list(build_once(tmp_path_factory, name, build).iterdir()))

    with ThreadPoolExecutor(8) as pool:
        assert [100] * 8 == list(pool.map(ask, range(8)))
    assert 1 == len(built)


def test_a_folder_whose_building_failed_is_built_anew(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing half built is left for the next one."""
    name = uuid.uuid4().hex

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError("full disk")

    with pytest.raises(RuntimeError, match="full disk"):
        build_once(tmp_path_factory, name, fail)
    assert ["whole"] == [path.name for path in build_once(tmp_path_factory, name, touch_whole).iterdir()]


def touch_whole(folder: Path) -> None:
    (folder / "whole").touch()
