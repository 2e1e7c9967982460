"""Random changes to training images, by Keras's own ImageDataGenerator on pixels that contract/ decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.recipe import Augment


class KerasAugmentation:
    """ImageDataGenerator's `random_transform`, repeatable for each (seed, epoch, image).

    Args:
        settings: ImageDataGenerator's parameters.
        seed: of the run.
    """

    def __init__(self, settings: Augment, seed: int) -> None:
        # Keras keeps it under tf.keras only. It draws from numpy's global generator: one thread at a time.
        from keras._tf_keras.keras.preprocessing.image import ImageDataGenerator

        parameters = settings.model_dump(exclude={"engine"})
        self._generator: Any = ImageDataGenerator(**parameters)
        self._seed = seed

    def __call__(self, image: NDArray[np.uint8], *, epoch: int, index: int) -> NDArray[np.float32]:
        """Return a changed copy of one image, float32, shape (height, width, channels), values 0-255.

        Args:
            image: uint8, shape (height, width, channels).
            epoch: counted from 0.
            index: of the image among the training images.
        """
        seed = int(np.random.SeedSequence([self._seed, epoch, index]).generate_state(1)[0])
        changed = self._generator.random_transform(image.astype(np.float32), seed=seed)
        return np.asarray(changed, dtype=np.float32)
