"""Training and validation batches for Keras: a PyDataset over decoded pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.augment import KerasAugmentation
from pipeline.backbones import Preprocessing
from pipeline.network import preprocess
from pipeline.pixels import Pixels
from pipeline.split import ManifestRow


class Batches(keras.utils.PyDataset):
    """Batches of (preprocessed float32 images, class indices), in an order that depends on (seed, epoch) alone.

    Args:
        rows: the images.
        labels: class names; position is the class index.
        pixels: decodes them.
        preprocessing: the backbone's.
        batch_size: images a batch; the last one may be smaller.
        augmentation: None leaves images as they are and in order (validation, test).
        seed: of the order.
    """

    def __init__(
        self,
        rows: Sequence[ManifestRow],
        labels: Sequence[str],
        pixels: Pixels,
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        augmentation: KerasAugmentation | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.epoch = 0
        self._rows = rows
        self._targets = np.array([labels.index(row.label) for row in rows], np.int32)
        self._pixels = pixels
        self._preprocessing: Preprocessing = preprocessing
        self._batch_size = batch_size
        self._augmentation = augmentation
        self._seed = seed
        self._order = self._draw_order()

    def __len__(self) -> int:
        """Return the number of batches an epoch."""
        return -(-len(self._rows) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return batch `index` of the current epoch: float32 (batch, height, width, channels), int32 (batch,)."""
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        images = np.stack([self._image(int(i)) for i in chosen])
        return np.asarray(preprocess(images, self._preprocessing), np.float32), self._targets[chosen]

    def on_epoch_end(self) -> None:
        """Draw the next epoch's order; called by Keras."""
        self.epoch += 1
        self._order = self._draw_order()

    def _image(self, index: int) -> NDArray[np.float32]:
        image = self._pixels[self._rows[index].path]
        if self._augmentation is None:
            return image.astype(np.float32)
        return self._augmentation(image, epoch=self.epoch, index=index)

    def _draw_order(self) -> NDArray[Any]:
        if self._augmentation is None:
            return np.arange(len(self._rows))
        return np.random.default_rng([self._seed, self.epoch]).permutation(len(self._rows))
