"""Changes training images at random, by the engine that a recipe names; one engine is Keras's ImageDataGenerator."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.recipe.augment_settings import Augment


class Augmentation(Protocol):
    """Changes batches of images, repeatably for each (seed, epoch, content of the image).

    Attributes:
        dtype: of the images that `prepare` returns.
    """

    dtype: str

    def prepare(self, images: NDArray[np.uint8], keys: Sequence[str], epoch: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return what `finish` takes: images and parameters, the batch axis first; in Python, before tf.data."""

    def finish(self, images: Any, parameters: Any) -> Any:
        """Return changed float32 images, values 0-255; traceable, inside tf.data."""


def make_augmentation(settings: Augment, seed: int) -> Augmentation:
    """Return the engine that a recipe names; nothing is drawn for images that no setting changes."""
    if not settings.changes_images:
        return NoAugmentation()
    if settings.engine == "keras":
        return KerasAugmentation(settings, seed)
    from pipeline.augmentation.augment_fast import FastAugmentation

    return FastAugmentation(settings, seed)


class NoAugmentation:
    """Leaves images as they are."""

    dtype = "uint8"

    def prepare(
        self, images: NDArray[np.uint8], keys: Sequence[str], epoch: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return the batch, and nothing to do."""
        return images, np.zeros((len(keys), 0), np.float32)

    def finish(self, images: Any, parameters: Any) -> Any:
        """Return the batch as float32."""
        import tensorflow as tf

        return tf.cast(images, tf.float32)


class KerasAugmentation:
    """ImageDataGenerator's `random_transform`, image by image.

    Args:
        settings: ImageDataGenerator's parameters.
        seed: of the run.
    """

    dtype = "float32"

    def __init__(self, settings: Augment, seed: int) -> None:
        import tensorflow as tf

        parameters = settings.model_dump(exclude={"engine", "legacy_axis_swap", "views"})
        # Keras 3 has it under tf.keras only. It draws from numpy's global generator: one thread at a time.
        self._generator: Any = tf.keras.preprocessing.image.ImageDataGenerator(**parameters)
        self._seed = seed

    def prepare(
        self, images: NDArray[np.uint8], keys: Sequence[str], epoch: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return changed copies of a batch, and nothing left to do.

        Args:
            images: uint8, shape (batch, height, width, channels).
            keys: what names each image's content, such as its sha256.
            epoch: counted from 0.
        """
        changed = [self._change(image, f"{self._seed}/{epoch}/{key}") for image, key in zip(images, keys, strict=True)]
        return np.stack(changed), np.zeros((len(keys), 0), np.float32)

    def finish(self, images: Any, parameters: Any) -> Any:
        """Return the images: `prepare` has done everything."""
        return images

    def _change(self, image: NDArray[np.uint8], draw: str) -> NDArray[np.float32]:
        seed = int.from_bytes(hashlib.blake2b(draw.encode(), digest_size=4).digest(), "little")
        return np.asarray(self._generator.random_transform(image.astype(np.float32), seed=seed), np.float32)
