"""Weights of models on OpenVINO: shared by the engines of a version, mapped from a file, dropped when compiled."""

from __future__ import annotations

import gc
import logging
import mmap
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from engine.loading import load_engine
from engine.memory import drop_library_pages, drop_mapped_pages
from engine.runtimes.openvino import OpenVINOEngine
from engine.runtimes.openvino_graph import Graph
from tests.helpers.tiny_model import VARIANTS, build_image, expected_probabilities

LABELS = VARIANTS["plain"].labels
IMAGES = np.stack([build_image(label, 16) for label in LABELS])


def resident_kb(name: str) -> int:
    """Return the resident memory of the mappings of a file."""
    sizes, is_ours = [], False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_ours = name in line
        elif is_ours and line.startswith("Rss:"):
            sizes.append(int(line.split()[1]))
    assert sizes, f"{name} is not mapped"
    return sum(sizes)


def graph_of(engine: OpenVINOEngine, signature: str = "serving_default") -> Graph:
    return engine._compiled[signature]._graph


def load(directory: Path, *, single_row: bool = False) -> OpenVINOEngine:
    engine = load_engine(directory, engine="openvino", precision="float32", warm_up=True, single_row=single_row)
    assert isinstance(engine, OpenVINOEngine)
    return engine


def check_answers(engine: OpenVINOEngine) -> None:
    actual = engine.run("serving_default", {"images": IMAGES})["probabilities"]
    np.testing.assert_allclose(actual, expected_probabilities(IMAGES, LABELS), atol=1e-5)


def test_pages_of_a_removed_file_are_dropped_and_read_again(tmp_path: Path) -> None:
    """A mapping for reading holds no memory afterwards and still gives the file; one that may be written is left."""
    data = os.urandom(4 << 20)
    for name in ("read", "written"):
        (tmp_path / name).write_bytes(data)
    with (tmp_path / "read").open("rb") as file:
        reading = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with (tmp_path / "written").open("rb") as file:
        writing = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    writing[:4] = b"ours"
    assert bytes(reading) == data
    (tmp_path / "read").unlink()
    assert resident_kb(str(tmp_path / "read")) >= 4096

    for name in ("read", "written"):
        drop_mapped_pages(tmp_path / name)

    assert resident_kb(str(tmp_path / "read")) == 0
    assert bytes(reading) == data
    assert bytes(writing[:4]) == b"ours"
    reading.close()
    writing.close()


def test_pages_of_libraries_are_dropped_and_read_again() -> None:
    """Code and constants hold little memory afterwards; what the loader has written stays, and all still runs."""
    rows = np.random.default_rng(0).normal(size=(64, 64))
    expected = np.linalg.eigvalsh(rows @ rows.T)
    before = resident_kb("_umath_linalg") + resident_kb("libscipy_openblas")

    drop_library_pages()

    after = resident_kb("_umath_linalg") + resident_kb("libscipy_openblas")
    assert after < before / 2
    np.testing.assert_array_equal(np.linalg.eigvalsh(rows @ rows.T), expected)


def test_engines_of_a_version_share_its_graph(tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    """Two engines compile one graph; another version, and the same one after all have left it, are read anew."""
    directory = tmp_path / "model"
    shutil.copytree(tiny_models["plain"], directory)
    lone, many, other = load(directory, single_row=True), load(directory), load(tiny_models["permuted"])
    shared = graph_of(lone)
    assert graph_of(many) is shared
    assert graph_of(other) is not shared
    for engine in (lone, many):
        check_answers(engine)
    lone.close()
    many.close()
    del lone, many
    first = id(shared)
    again = load(directory)
    assert id(graph_of(again)) == first, "the graph that is still in use is shared"
    again.close()
    del shared, again
    gc.collect()
    anew = load(directory)
    check_answers(anew)
    anew.close()
    other.close()


def test_weights_of_a_loaded_version_hold_no_memory(tiny_models: dict[str, Path]) -> None:
    """They are mapped from a file that has been removed, and none of its pages is resident, however rows came."""
    engine = load(tiny_models["plain"])
    weights = graph_of(engine)._weights
    assert weights is not None
    assert not weights.exists()
    assert resident_kb(str(weights)) == 0
    for rows in (1, 3, 2):
        actual = engine.run("serving_default", {"images": IMAGES[:rows]})["probabilities"]
        np.testing.assert_allclose(actual, expected_probabilities(IMAGES[:rows], LABELS), atol=1e-5)
    engine.trim()
    assert resident_kb(str(weights)) == 0
    check_answers(engine)
    engine.run("explain", {"images": IMAGES, "class_index": np.full(len(IMAGES), -1, np.int32)})
    explained = graph_of(engine, "explain")._weights
    assert explained is not None
    assert resident_kb(str(explained)) == 0
    engine.close()


def test_without_room_for_a_file_weights_stay_in_memory(
    tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A temporary folder that cannot be written costs memory and a warning, no version."""
    shutil.copytree(tiny_models["plain"], tmp_path / "1")  # a version whose graph no other engine holds
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with caplog.at_level(logging.WARNING):
        engine = load(tmp_path / "1")
    assert graph_of(engine)._weights is None
    assert "weights stay in memory, as they cannot be mapped from" in caplog.text
    check_answers(engine)
    engine.close()
