"""pipeline/evaluation/novelty.py: fitted to pictures of one kind, asked of more of them and of everything else.

tests/e2e judges it on the sample set's eyes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from contract.image import decode_image
from contract.model import InputSpec
from contract.novelty import NoveltyCheck, measure_images
from pipeline.data.ingest import FolderSource
from pipeline.data.pixels import Pixels
from pipeline.data.split import Manifest, ManifestRow
from pipeline.evaluation.novelty import FALSE_ALARMS, choose_threshold, fit_novelty_check, fit_to_images

SPEC = InputSpec(96, 96)


def prepare(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture as a model gets it, by way of a file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return decode_image(buffer.getvalue(), SPEC)


def discs(count: int, *, seed: int) -> NDArray[np.uint8]:
    """Draw pictures of one kind, prepared: a pale disc anywhere on orange ground, in any light, grainy."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    images = []
    for _ in range(count):
        centre_y, centre_x, slope_y, slope_x = generator.normal(0, 0.2, 4)
        inside = np.hypot(y - centre_y, x - centre_x) < generator.uniform(0.2, 0.5)
        light = generator.uniform(0.7, 1.1) * (1 + slope_y * y + slope_x * x)
        color = np.where(inside[..., None], [235, 200, 140], [190, 95, 40]) * generator.normal(1, 0.05, 3)
        grain = generator.normal(0, generator.uniform(3, 8), (96, 96, 1))
        images.append(prepare(np.clip(color * light[..., None] + grain, 0, 255).astype(np.uint8)))
    return np.stack(images)


@dataclass
class Fitted:
    """A novelty check, and pictures of its kind that it has not seen."""

    novelty: NoveltyCheck
    test: NDArray[np.uint8]


@pytest.fixture(name="fitted", scope="module")
def fixture_fitted() -> Fitted:
    """A novelty check of 200 pictures, its threshold chosen on 100 others too; and 300 more."""
    statistics = measure_images(discs(300, seed=1))
    return Fitted(
        fit_novelty_check(statistics[:200], statistics[200:], [str(i) for i in range(200)]), discs(300, seed=2)
    )


def others() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Pictures of other kinds, by name."""
    generator = np.random.default_rng(0)
    flat = np.full((300, 300, 3), 1, np.uint8)
    yield from (("black", flat * 0), ("grey", flat * 128), ("white", flat * 255))
    yield "noise", generator.integers(0, 256, (300, 300, 3))
    yield "china", load_sample_images().images[0]
    yield "flower", load_sample_images().images[1]
    portrait = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    yield "portrait", np.asarray(Image.open(portrait).convert("RGB"))


def test_other_pictures_are_unlike(fitted: Fitted) -> None:
    """A portrait, photographs, blank frames and noise are far beyond the threshold, not just beyond it."""
    for name, image in others():
        (distance,) = fitted.novelty.distances(prepare(image.astype(np.uint8))[None])
        assert distance > 1.5 * fitted.novelty.threshold, name


def test_more_of_the_same_kind_are_not(fitted: Fitted) -> None:
    """Of 300 that were not fitted to, about one in a hundred is an alarm, as promised."""
    assert fitted.novelty.find_unlike(fitted.test).mean() <= 4 * FALSE_ALARMS


def test_spoilt_pictures_are_unlike(fitted: Fitted) -> None:
    """Inverted, in swapped channels, far too dark, under heavy noise."""
    image = fitted.test[:8]
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 60, image.shape), 0, 255).astype(np.uint8)
    for spoilt in (255 - image, image[..., ::-1], image // 6, noisy):
        assert fitted.novelty.find_unlike(spoilt).all()


@pytest.mark.parametrize("count", [10, 40, 99, 500])
def test_the_threshold_keeps_its_promise(count: int) -> None:
    """Over many draws of few or many validation images, new ones are beyond it about as often as promised."""
    generator = np.random.default_rng(0)
    alarms = []
    for _ in range(400):
        distances = np.exp(generator.normal(0, 0.3, count))
        threshold = choose_threshold(distances)
        alarms.append((np.exp(generator.normal(0, 0.3, 500)) > threshold).mean())

    assert FALSE_ALARMS / 2 < np.mean(alarms) < FALSE_ALARMS * 1.5


def test_statistics_that_never_vary_do_not_make_everything_unlike() -> None:
    """Training images that are all alike in something leave room for the next one."""
    generator = np.random.default_rng(0)
    images = generator.normal(128, 20, (60, 16, 16, 1)).clip(0, 255).astype(np.uint8)
    images[:, :2] = 0  # a black bar, always
    statistics = measure_images(images)
    novelty = fit_novelty_check(statistics[:40], statistics[40:], [str(i // 2) for i in range(40)])

    assert novelty.find_unlike(images).mean() < 0.1
    assert novelty.find_unlike(np.zeros((1, 16, 16, 1), np.uint8)).all()


def test_a_manifest_is_fitted_by_its_splits(tmp_path: Path) -> None:
    """Centre and spread come from the training images, the rate of false alarms from the test images."""
    rows = []
    generator = np.random.default_rng(0)
    for i in range(60):
        split = ("train", "val", "test")[i % 3]
        image = (
            generator.integers(0, 256, (16, 16, 3), np.uint8) if split != "test" else np.zeros((16, 16, 3), np.uint8)
        )
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
        rows.append(ManifestRow(f"{i:02}.png", str(i), "a", str(i), split))
    pixels = Pixels(FolderSource(tmp_path), InputSpec(16, 16))
    fitted = fit_to_images(Manifest(tuple(rows)), pixels, tmp_path / "runs")

    assert fitted is not None
    expected = {"wanted": FALSE_ALARMS, "validation_images": 20, "test_images": 20, "test_alarms": 20}
    assert expected == fitted.document()["false_alarms"]
    assert fit_to_images(Manifest(tuple(rows[:24])), pixels, tmp_path / "runs") is None


def test_a_group_is_never_measured_by_itself() -> None:
    """Two pictures of one patient are alike: held back alone, each would look ordinary, and the threshold too tight."""
    generator = np.random.default_rng(0)
    patients = generator.normal(size=(60, 14)).astype(np.float32)
    statistics = np.repeat(patients, 2, axis=0)
    val = generator.normal(size=(30, 14)).astype(np.float32)
    by_patient = fit_novelty_check(statistics, val, [str(i // 2) for i in range(120)])
    by_image = fit_novelty_check(statistics, val, [str(i) for i in range(120)])

    assert by_patient.threshold > by_image.threshold


def test_few_groups_leave_the_validation_images_alone() -> None:
    """Four hospitals cannot be held back in fifths."""
    generator = np.random.default_rng(0)
    train, val = generator.normal(size=(60, 14)).astype(np.float32), generator.normal(size=(120, 14)).astype(np.float32)
    novelty = fit_novelty_check(train, val, [str(i % 4) for i in range(60)])

    assert novelty.threshold == pytest.approx(choose_threshold(novelty.distances_of(val)))
