"""pipeline/augmentation: the fast engine against ImageDataGenerator, geometry, and what a draw depends on."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.augmentation.augment import make_augmentation
from pipeline.augmentation.augment_fast import FastAugmentation, Transform, draw_transform, encode_transform
from pipeline.errors import RecipeError
from pipeline.recipe.augment_settings import Augment
from pipeline.recipe.recipe import load_recipe

OFF: dict[str, Any] = {
    "rotation_range": 0,
    "width_shift_range": 0,
    "height_shift_range": 0,
    "horizontal_flip": False,
}
EVERYTHING: dict[str, Any] = {
    "rotation_range": 40,
    "width_shift_range": 0.2,
    "height_shift_range": 0.3,
    "shear_range": 20,
    "zoom_range": (0.7, 1.4),
    "horizontal_flip": True,
    "vertical_flip": True,
}


def photo(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    """Shapes with smooth shading and hard edges, as in photographs, and some noise."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    rng = np.random.default_rng(height * width)
    planes = [
        128 + 90 * np.sin(9 * x + k) * np.cos(7 * y - k) + 40 * (np.hypot(x - 0.4, y - 0.3) < 0.2)
        for k in range(channels)
    ]
    noisy = np.stack(planes, axis=-1) + rng.normal(0, 4, (height, width, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def change(settings: Augment, image: NDArray[np.uint8], drawn: Transform) -> NDArray[np.float32]:
    height, width, _ = image.shape
    parameters = encode_transform(drawn, (height, width), legacy_axis_swap=settings.legacy_axis_swap)
    return np.asarray(FastAugmentation(settings, 0).finish(image[None], parameters[None]))[0]


def change_as_keras(settings: Augment, image: NDArray[np.uint8], drawn: Transform) -> NDArray[np.float32]:
    names = ("fill_mode", "cval", "brightness_range", "channel_shift_range")
    generator = tf.keras.preprocessing.image.ImageDataGenerator(**{name: getattr(settings, name) for name in names})
    return np.asarray(generator.apply_transform(image.astype(np.float32), asdict(drawn)), np.float32)


@pytest.mark.parametrize("fill_mode", ["nearest", "reflect", "constant"])
@pytest.mark.parametrize("shape", [(96, 96, 3), (64, 96, 3), (101, 70, 1)], ids=["square", "wide", "tall-grey"])
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"rotation_range": 180}, id="rotation"),
        pytest.param({"width_shift_range": 0.3, "height_shift_range": 7}, id="shift"),
        pytest.param({"shear_range": 30}, id="shear"),
        pytest.param({"zoom_range": 0.5}, id="zoom"),
        pytest.param({"horizontal_flip": True, "vertical_flip": True}, id="flips"),
        pytest.param({"brightness_range": (0.4, 1.7)}, id="brightness"),
        pytest.param({"channel_shift_range": 60}, id="channel-shift"),
        pytest.param({**EVERYTHING, "channel_shift_range": 30, "brightness_range": (0.5, 1.5)}, id="everything"),
    ],
)
def test_fast_engine_repeats_keras(fill_mode: str, shape: tuple[int, int, int], changes: dict[str, Any]) -> None:
    """For the same drawn transform, 99.9 % of pixels are within one grey level of ImageDataGenerator's."""
    settings = Augment.model_validate({**OFF, "legacy_axis_swap": True, "fill_mode": fill_mode, "cval": 90} | changes)
    image = photo(*shape)
    for epoch in range(6):
        drawn = draw_transform(settings, 7, epoch, "image", size=shape[:2])
        expected, actual = change_as_keras(settings, image, drawn), change(settings, image, drawn)
        wrong = (np.abs(expected - actual) > 1).any(axis=-1)
        if fill_mode == "constant":
            wrong &= ~border_of_the_original(settings, image, drawn)
        assert wrong.mean() <= 0.001, (epoch, drawn, float(np.abs(expected - actual).max()))


def border_of_the_original(settings: Augment, image: NDArray[np.uint8], drawn: Transform) -> NDArray[np.bool_]:
    """Where a pixel comes from within one pixel outside the original: there the two fill differently."""
    height, width, _ = image.shape
    matrix = encode_transform(drawn, (height, width), legacy_axis_swap=True)[:6].reshape(2, 3).astype(np.float64)
    y, x = np.mgrid[:height, :width]
    column, row = np.einsum("ij,jyx->iyx", matrix, np.stack([x, y, np.ones_like(x)]))
    outside = np.maximum(np.maximum(-column, column - (width - 1)), np.maximum(-row, row - (height - 1)))
    return (outside > -1e-3) & (outside < 1)


def test_shifts_move_along_their_own_axis() -> None:
    """height_shift_range moves rows and width_shift_range columns; with the legacy swap it is the other way round."""
    image = np.zeros((40, 60, 1), np.uint8)
    image[20, 30] = 200

    where = {}
    for swap in (False, True):
        settings = Augment.model_validate({**OFF, "legacy_axis_swap": swap})
        where[swap] = np.argwhere(change(settings, image, Transform(tx=5))[..., 0] > 100).tolist()

    assert {False: [[15, 30]], True: [[20, 25]]} == where


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (50, 50)], ids=["wide", "tall", "square"])
def test_images_turn_about_their_centre(shape: tuple[int, int]) -> None:
    """Half a turn puts every pixel of an image that is not square on the opposite side."""
    image = photo(*shape)

    turned = change(Augment.model_validate(OFF), image, Transform(theta=180))

    np.testing.assert_allclose(image[::-1, ::-1], turned, atol=0.1)


def test_nothing_asked_for_changes_nothing() -> None:
    """With every range at zero, images come out as they went in."""
    images = np.stack([photo(32, 48), photo(32, 48)[::-1]])
    augmentation = FastAugmentation(Augment.model_validate(OFF), 0)

    np.testing.assert_array_equal(images, augmentation.finish(*augmentation.prepare(images, ["a", "b"], 3)))


@pytest.mark.parametrize("engine", ["fast", "keras"])
def test_draw_depends_on_seed_epoch_and_image_alone(engine: str) -> None:
    """An image changes alike wherever it stands in a batch, and otherwise in another epoch or with another seed."""
    settings = Augment.model_validate({"engine": engine})
    images = np.stack([photo(32, 32)] * 3)

    def changed(keys: list[str], *, seed: int = 1, epoch: int = 0) -> NDArray[np.float32]:
        augmentation = make_augmentation(settings, seed)
        return np.asarray(augmentation.finish(*augmentation.prepare(images, keys, epoch)))

    first = changed(["a", "b", "c"])
    np.testing.assert_array_equal(first[[2, 0, 1]], changed(["c", "a", "b"]))
    for other in (changed(["d", "e", "f"]), changed(["a", "b", "c"], seed=2), changed(["a", "b", "c"], epoch=1)):
        assert all(np.abs(one - two).max() > 1 for one, two in zip(first, other, strict=True))


def test_draws_fill_their_ranges() -> None:
    """Over many images every parameter spreads evenly over what the recipe allows, and flips are fair."""
    settings = Augment.model_validate({**EVERYTHING, "brightness_range": (0.5, 1.5), "channel_shift_range": 30})
    draws = [draw_transform(settings, 0, 0, str(i), size=(100, 200)) for i in range(2000)]
    limits = {
        "theta": (-40, 40),
        "tx": (-30, 30),
        "ty": (-40, 40),
        "shear": (-20, 20),
        "zx": (0.7, 1.4),
        "zy": (0.7, 1.4),
        "channel_shift_intensity": (-30, 30),
        "brightness": (0.5, 1.5),
    }
    for name, (low, high) in limits.items():
        values = np.array([getattr(draw, name) for draw in draws], float)
        assert low <= values.min() <= low + 0.02 * (high - low), name
        assert high - 0.02 * (high - low) <= values.max() <= high, name
        assert abs(values.mean() - (low + high) / 2) < 0.03 * (high - low), name
    assert 0.45 < np.mean([draw.flip_horizontal for draw in draws]) < 0.55


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("augment.fill_mode=wrap", "wrap needs augment.engine=keras"),
        ("augment.zoom_range=1.0", "augment.zoom_range: expected a number below 1"),
        ("augment.zoom_range=[1.2, 0.8]", "the smaller one first"),
        ("augment.shear_range=90", "expected degrees below 90"),
        ("augment.cval=300", "augment.cval"),
        ("augment.brightness_range=[-1, 1]", "augment.brightness_range"),
        ("augment.views=0", "augment.views"),
        ("augment.engine=slow", "augment.engine"),
    ],
    ids=["wrap", "zoom", "zoom-order", "shear", "cval", "brightness", "views", "engine"],
)
def test_what_cannot_be_done_is_refused(override: str, words: str) -> None:
    """Settings that make no image are refused before anything happens."""
    with pytest.raises(RecipeError, match=words):
        load_recipe("default", [override])


def test_wrap_stays_with_keras(tmp_path: Path) -> None:
    """ImageDataGenerator's own engine takes fill_mode wrap."""
    settings = load_recipe("default", ["augment.engine=keras", "augment.fill_mode=wrap"]).augment
    images = photo(24, 24)[None]

    changed = make_augmentation(settings, 0).prepare(images, ["a"], 0)[0]

    assert (1, 24, 24, 3) == changed.shape
