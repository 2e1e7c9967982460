"""Training and validation batches for Keras, through tf.data: the next ones are made while one trains."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.augmentation.augment import Augmentation
from pipeline.data.pixels import Pixels
from pipeline.data.split import ManifestRow
from pipeline.errors import PipelineError
from pipeline.networks.preprocessing import preprocess
from pipeline.recipe.preprocessing_settings import Preprocessing

_AHEAD = 2  # batches
_TOGETHER = 2**21  # bytes of images that the generator yields at once: each step in Python takes the interpreter lock


class Batches:
    """Batches of (preprocessed float32 images, class indices), in an order that depends on (seed, epoch) alone.

    Args:
        rows: the images.
        labels: class names; position is the class index.
        pixels: decodes them.
        preprocessing: the backbone's.
        batch_size: images a batch; the last one may be smaller.
        augmentation: None leaves images as they are and in order (validation, test).
        seed: of the order.

    Attributes:
        failure: the error that ended a dataset, which TensorFlow reports as one of its own.
    """

    def __init__(
        self,
        rows: Sequence[ManifestRow],
        labels: Sequence[str],
        pixels: Pixels,
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self._paths = [row.path for row in rows]
        self._keys = np.array([row.sha256 for row in rows], object)
        self._targets = np.array([labels.index(row.label) for row in rows], np.int32)
        self._pixels = pixels
        self._preprocessing: Preprocessing = preprocessing
        self._batch_size = batch_size
        self._augmentation = augmentation
        self._seed = seed
        self._stacked: NDArray[np.uint8] | None = None
        self.failure: PipelineError | None = None

    def __len__(self) -> int:
        """Return the number of batches an epoch."""
        return -(-len(self._paths) // self._batch_size)

    def dataset(self, first_epoch: int = 0) -> Any:
        """Return a tf.data.Dataset of (float32 [batch, height, width, channels], int32 [batch]).

        Augmented, it goes on for ever from `first_epoch`, counted from 0 over all stages of a run: to be used with
        `steps_per_epoch=len(batches)`. Otherwise it ends after each image was seen once.
        """
        shape = self._pixels.spec.shape
        pixels = tf.TensorSpec([None, *shape], "uint8" if self._augmentation is None else self._augmentation.dtype)
        others = tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.int32)
        several = tf.data.Dataset.from_generator(
            lambda: self._generate(first_epoch), output_signature=(pixels, *others)
        )
        raw = several.flat_map(self._divide)
        return ordered(raw.map(self._finish, num_parallel_calls=_AHEAD), len(self), self._augmentation is not None)

    def _generate(self, epoch: int) -> Iterator[tuple[NDArray[Any], NDArray[np.float32], NDArray[np.int32]]]:
        try:
            yield from self._epochs(epoch)
        except PipelineError as err:
            self.failure = err
            raise

    def _epochs(self, epoch: int) -> Iterator[tuple[NDArray[Any], NDArray[np.float32], NDArray[np.int32]]]:
        count = self._batch_size * max(1, _TOGETHER // (self._batch_size * math.prod(self._pixels.spec.shape)))
        while True:
            order = draw_order(len(self._paths), self._seed, epoch, shuffled=self._augmentation is not None)
            chosen = np.split(order, range(count, len(order), count))
            images = self._several(order, chosen, count)
            for indices, batch in zip(chosen, images, strict=True):
                yield *self._prepare(batch, indices, epoch), self._targets[indices]
            if self._augmentation is None:
                return
            epoch += 1

    def _several(
        self, order: NDArray[np.intp], chosen: Sequence[NDArray[np.intp]], count: int
    ) -> Iterator[NDArray[np.uint8]]:
        """Return images in an order, at most `count` at a time."""
        if self._stacked is None:
            self._stacked = self._pixels.stack(self._paths)
        if self._stacked is None:
            return self._pixels.batches([self._paths[i] for i in order], count)
        return map(self._stacked.__getitem__, chosen)

    def _prepare(
        self, images: NDArray[np.uint8], indices: NDArray[Any], epoch: int
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        if self._augmentation is None:
            return images, np.zeros((len(images), 0), np.float32)
        return self._augmentation.prepare(images, self._keys[indices], epoch)

    def _divide(self, *several: Any) -> Any:
        return tf.data.Dataset.from_tensors(several).rebatch(self._batch_size)

    def _finish(self, images: Any, parameters: Any, targets: Any) -> tuple[Any, Any]:
        if self._augmentation is not None:
            images = self._augmentation.finish(images, parameters)
        return preprocess(tf.cast(images, tf.float32), self._preprocessing), targets


def draw_order(count: int, seed: int, epoch: int, *, shuffled: bool) -> NDArray[Any]:
    """Return the order of `count` items in one epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count) if shuffled else np.arange(count)


def ordered(dataset: Any, steps: int, endless: bool) -> Any:
    """Return a dataset that is prefetched and gives the same batches in the same order every time."""
    options = tf.data.Options()
    options.deterministic = True
    # Keras would split batches among devices otherwise, and warn that a generator cannot be split.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    known = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY if endless else steps)
    return dataset.apply(known).prefetch(_AHEAD).with_options(options)
