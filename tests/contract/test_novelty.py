"""contract/novelty.py: statistics of pictures, and how far one is from others."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from contract.errors import ContractError
from contract.model import InputSpec, Label, ModelContract, build_document
from contract.novelty import STATISTICS, NoveltyCheck, measure_images, read_novelty_check


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def simple(channels: int = 3, **changes: object) -> dict[str, object]:
    """A check's document: grey pictures, every statistic with the same spread."""
    size = len(STATISTICS[channels])
    return {
        "rule": 1,
        "center": [0.5] * channels + [0.0] * (size - channels),
        "whitening": np.eye(size).tolist(),
        "threshold": 1.5,
        **changes,
    }


def test_statistics_are_what_their_names_say() -> None:
    """On a picture as small as the grid, plain numpy over all pixels gives the same numbers."""
    image = noise(32, 32, 3)
    image[:8] //= 4
    values = dict(zip(STATISTICS[3], measure_images(image[None])[0], strict=True))

    pixels = image.astype(np.float64)
    light = pixels @ [0.299, 0.587, 0.114]
    fine = np.abs(light[1:, 1:] - light[:-1, :-1])
    assert values["green_mean"] == pytest.approx(pixels[..., 1].mean() / 255, abs=1e-5)
    assert values["red_spread"] == pytest.approx(np.log1p(pixels[..., 0].std()), abs=1e-3)
    assert values["red_green_spread"] == pytest.approx(np.log1p((pixels[..., 0] - pixels[..., 1]).std()), abs=1e-3)
    assert values["coarse_contrast"] == pytest.approx(np.log1p(np.abs(np.diff(light, axis=1)).mean()), abs=1e-3)
    assert values["fine_contrast"] == pytest.approx(np.log1p(fine.mean()), abs=0.1)  # the last row repeats itself
    assert values["centre"] == pytest.approx((light[8:24, 8:24].mean() - light.mean()) / 255, abs=1e-4)
    assert values["top"] == pytest.approx((light[:16].mean() - light.mean()) / 255, abs=1e-4)
    assert values["left"] == pytest.approx((light[:, :16].mean() - light.mean()) / 255, abs=1e-4)
    corners = np.mean([light[y, x].mean() for y in (np.s_[:4], np.s_[28:]) for x in (np.s_[:4], np.s_[28:])])
    assert values["corners"] == pytest.approx((corners - light.mean()) / 255, abs=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (31, 33), (64, 48), (224, 224)], ids=str)
def test_any_size_has_finite_statistics(size: tuple[int, int], channels: int) -> None:
    """Also a single pixel, and a picture without any contrast."""
    images = np.stack([noise(*size, channels), np.zeros((*size, channels), np.uint8)])
    values = measure_images(images)

    assert (2, len(STATISTICS[channels])) == values.shape
    assert np.isfinite(values).all()


def test_an_image_has_the_same_statistics_in_any_company() -> None:
    """Other images of a request do not decide about a picture."""
    images = noise(5, 40, 56, 3)
    alone = np.concatenate([measure_images(image[None]) for image in images])

    assert np.abs(alone - measure_images(images)).max() < 1e-4


def test_a_novelty_check_is_read_as_it_was_written() -> None:
    """Six digits are enough for the same decisions."""
    size = len(STATISTICS[3])
    whitening = np.random.default_rng(1).normal(size=(size, size)).astype(np.float32)
    written = NoveltyCheck(np.linspace(0, 1, size, dtype=np.float32), whitening, 3.25)
    read = read_novelty_check(json.loads(json.dumps(written.document())), 3)

    assert read is not None
    images = noise(4, 32, 32, 3)
    assert np.allclose(written.distances(images), read.distances(images), rtol=1e-4)
    assert 3.25 == read.threshold


def test_pictures_beyond_the_threshold_are_unlike() -> None:
    """Distance is the root mean square of the whitened deviations."""
    novelty = read_novelty_check(simple(), 3)
    assert novelty is not None
    grey = np.full((1, 16, 16, 3), 128, np.uint8)
    colours = noise(1, 16, 16, 3)

    assert [False] == novelty.find_unlike(grey).tolist()
    assert [True] == novelty.find_unlike(colours).tolist()
    assert novelty.distances(grey)[0] < 0.01


def test_a_contract_without_a_novelty_check_or_with_a_newer_one_has_none() -> None:
    """Imported models have none; a rule of a later Fovea is not guessed at."""
    labels = [Label("a", "a"), Label("b", "b")]
    for value in (None, {"rule": 2, "anything": 1}, "x", []):
        contract = ModelContract.from_document(build_document(labels, InputSpec(8, 8), baseline=value))
        assert contract.novelty is None
    assert ModelContract.from_document(build_document(labels, InputSpec(8, 8), baseline=simple())).novelty is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"center": [0.0]},
        {"center": "text"},
        {"whitening": [[1.0]]},
        {"whitening": None},
        {"threshold": 0},
        {"threshold": "x"},
        {"center": [float("nan")] * len(STATISTICS[3])},
    ],
    ids=str,
)
def test_a_broken_novelty_check_is_refused(changes: dict[str, object]) -> None:
    """It must not become a rule that warns of nothing, or of everything."""
    with pytest.raises(ContractError, match="baseline"):
        read_novelty_check(simple(**changes), 3)
    with pytest.raises(ContractError, match="baseline"):
        read_novelty_check(simple(channels=1), 3)
