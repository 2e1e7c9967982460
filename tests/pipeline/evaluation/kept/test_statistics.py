"""Statistics of images for the novelty check are kept by content."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract.model import InputSpec
from contract.novelty import measure_images
from pipeline.data import pixels as pixels_module
from pipeline.data.folder_source import FolderSource
from pipeline.data.pixels import Pixels
from pipeline.data.split import ManifestRow
from pipeline.evaluation.kept import statistics
from pipeline.evaluation.kept.statistics import KeptStatistics

SPEC = InputSpec(16, 16)


def write(folder: Path, names: str) -> list[ManifestRow]:
    for name in names:
        pixels = np.random.default_rng(ord(name)).integers(0, 256, SPEC.shape, np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return [ManifestRow(f"{name}.png", name * 64, "a", name, "train") for name in names]


def test_only_new_images_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, equal to those measured at once; another input size measures all."""
    measured: list[int] = []
    monkeypatch.setattr(
        statistics, "measure_images", lambda images: measured.append(len(images)) or measure_images(images)
    )
    pixels = Pixels(FolderSource(tmp_path), SPEC)
    first = KeptStatistics(tmp_path / "runs", pixels).measure(write(tmp_path, "bd"))
    rows = write(tmp_path, "abcd")
    again = KeptStatistics(tmp_path / "runs", pixels).measure(rows)

    assert 4 == sum(measured)
    assert np.array_equal(first, again[[1, 3]])
    assert np.array_equal(again, KeptStatistics(tmp_path / "elsewhere", pixels).measure(rows))
    assert np.array_equal(again, KeptStatistics(tmp_path / "runs", pixels).measure(rows))
    assert 8 == sum(measured)
    KeptStatistics(tmp_path / "runs", Pixels(FolderSource(tmp_path), InputSpec(20, 20))).measure(rows)
    assert 12 == sum(measured)
    twice = KeptStatistics(tmp_path / "twice", pixels).measure([*rows, rows[0]])
    assert np.array_equal(twice, again[[0, 1, 2, 3, 0]])
    assert (0, 0) == KeptStatistics(tmp_path / "runs", pixels).measure([]).shape


def test_statistics_of_another_decoder_are_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another version of Pillow makes of a file is not taken for what this one makes."""
    source = Pixels(FolderSource(tmp_path), SPEC)
    rows = write(tmp_path, "ab")
    KeptStatistics(tmp_path / "runs", source).measure(rows)
    monkeypatch.setattr(pixels_module, "package_version", lambda name: f"{version(name)}.1")

    KeptStatistics(tmp_path / "runs", source).measure(rows)

    assert 2 == len(list((tmp_path / "runs/.cache/statistics").iterdir()))
