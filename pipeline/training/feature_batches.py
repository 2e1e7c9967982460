"""Training and validation batches of features for Keras, through tf.data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.features.feature_store import FeatureStore
from pipeline.features.features import View
from pipeline.training.batches import draw_order, ordered


class FeatureBatches:
    """Batches of (features, class indices) from a store, shuffled by (seed, epoch) or in order.

    Args:
        views: all views of an epoch; their features are in the store.
        labels: class names; position is the class index.
        store: holds the features.
        batch_size: views a batch; the last one may be smaller.
        seed: of the order; None: in order, once.
        turns: consecutive views are of one image, this many, and each epoch takes the next one of them.
    """

    def __init__(
        self,
        views: Sequence[View],
        labels: Sequence[str],
        store: FeatureStore,
        *,
        batch_size: int,
        seed: int | None,
        turns: int = 1,
    ) -> None:
        self._keys = [view.key for view in views]
        self._targets = np.array([labels.index(view.row.label) for view in views], np.int32)
        self._store = store
        self._batch_size = batch_size
        self._seed = seed
        self._turns = turns
        self._count = len(views) // turns  # an epoch
        self.failure: PipelineError | None = None  # features are mapped before training: no file is read in it

    def __len__(self) -> int:
        """Return the number of batches an epoch."""
        return -(-self._count // self._batch_size)

    def dataset(self, first_epoch: int = 0) -> Any:
        """Return a tf.data.Dataset of (float32 [batch, *features], int32 [batch]); endless if shuffled."""
        shape = self._store.batch(self._keys[:1]).shape[1:]
        raw = tf.data.Dataset.from_generator(
            lambda: self._generate(first_epoch),
            output_signature=(tf.TensorSpec([None, *shape], tf.float16), tf.TensorSpec([None], tf.int32)),
        )
        widened = raw.map(lambda features, targets: (tf.cast(features, tf.float32), targets))
        return ordered(widened, len(self), self._seed is not None)

    def _generate(self, epoch: int) -> Iterator[tuple[NDArray[np.float16], NDArray[np.int32]]]:
        while True:
            order = draw_order(self._count, self._seed or 0, epoch, shuffled=self._seed is not None)
            order = order * self._turns + (epoch + order) % self._turns
            for start in range(0, len(order), self._batch_size):
                chosen = order[start : start + self._batch_size]
                yield self._store.batch([self._keys[i] for i in chosen]), self._targets[chosen]
            if self._seed is None:
                return
            epoch += 1
