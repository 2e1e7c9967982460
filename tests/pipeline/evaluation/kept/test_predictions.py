"""Probabilities by a version are kept by the images' content, for the decoder that they were computed with."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from pipeline.data import pixels
from pipeline.data.split import ManifestRow
from pipeline.evaluation.kept.predictions import KeptPredictions


def test_predictions_are_found_again_for_the_same_decoder(
    tmp_path: Path, tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another version of Pillow makes of a file is not taken for what this one makes."""
    rows = [ManifestRow(f"{i}.png", f"{i:064x}", "red", f"{i}", "test") for i in range(3)]
    expected = np.random.default_rng(0).random((3, 3), np.float32)
    KeptPredictions(tmp_path, tiny_models["plain"]).add(rows, expected)
    np.testing.assert_array_equal(expected, KeptPredictions(tmp_path, tiny_models["plain"]).find(rows))

    monkeypatch.setattr(pixels, "package_version", lambda name: f"{version(name)}.1")
    assert KeptPredictions(tmp_path, tiny_models["plain"]).find(rows) is None
