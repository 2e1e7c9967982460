"""Embeddings of a trained network, each the mean over several augmented views of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from engine.precision_names import FLOAT32
from pipeline.augmentation.augment import Augmentation, make_augmentation
from pipeline.data.map_batches import BATCH, map_batches
from pipeline.data.pixels import Pixels
from pipeline.data.split import ManifestRow
from pipeline.features.features import FeatureExtractor
from pipeline.features.frozen_backbone import FrozenBackbone
from pipeline.features.frozen_network import ExportedNetwork, FrozenNetwork
from pipeline.networks.network import Classifier
from pipeline.recipe.recipe import Recipe

KEPT, TRAINED = "kept features of the frozen backbone", "the trained network's embedding"
_MAX_VIEWS = 8
_MAX_PASSES = 10_000  # images through the network; of more images fewer views are taken


@dataclass(frozen=True)
class Embedded:
    """Embeddings of images.

    Attributes:
        values: float32, shape (images, dimensions).
        source: KEPT or TRAINED.
        views: over how many views of each image they are the mean.
    """

    values: NDArray[np.float32]
    source: str
    views: int


def embed_images(
    classifier: Classifier,
    rows: Sequence[ManifestRow],
    pixels: Pixels,
    recipe: Recipe,
    frozen: FrozenBackbone | None,
) -> Embedded:
    """Return the embeddings of images: from kept features where the backbone never trained, else from the network.

    Args:
        classifier: trained.
        rows: the images, at least one.
        pixels: decodes the images.
        recipe: augmentation and training.
        frozen: the backbone, if it never trained and its features are kept.
    """
    kept = None if frozen is None else _read_kept(classifier, rows, recipe, frozen.extractor)
    if kept is not None:
        return kept
    return _compute(classifier, rows, pixels, recipe)


def _read_kept(
    classifier: Classifier, rows: Sequence[ManifestRow], recipe: Recipe, extractor: FeatureExtractor
) -> Embedded | None:
    """Return embeddings from the views that training was shown; None where they cannot be kept.

    Those of the images that did not train, and so were not changed, are computed first.
    """
    count = recipe.augment.views
    views = extractor.views(rows, count)
    if not extractor.compute(views):
        return None

    def read(keys: list[str]) -> NDArray[np.float32]:
        batch = extractor.store.batch(keys).astype(np.float32)
        pooled = batch if batch.ndim == 2 else np.asarray(classifier.pool(batch))
        return pooled.reshape(-1, count, pooled.shape[1]).mean(axis=1)

    parts = map_batches(read, [view.key for view in views], size=BATCH * count)
    return Embedded(np.concatenate(list(parts)), KEPT, count)


def _compute(classifier: Classifier, rows: Sequence[ManifestRow], pixels: Pixels, recipe: Recipe) -> Embedded:
    pooled = classifier.pool(classifier.feature_map)
    exported = ExportedNetwork(keras.Model(classifier.model.input, pooled), classifier.preprocessing)
    network = FrozenNetwork(exported, precisions=(FLOAT32,))
    augmentation = make_augmentation(recipe.augment, recipe.train.seed)
    most = _MAX_VIEWS if recipe.augment.changes_images else 1
    views = max(1, min(most, _MAX_PASSES // len(rows)))

    def embed(batch: list[ManifestRow]) -> NDArray[np.float32]:
        padded = [*batch, *[batch[-1]] * (BATCH - len(batch))]  # one traced shape
        images = pixels.batch([row.path for row in padded])
        seen = [network.compute(_change(images, padded, augmentation, number)) for number in range(views)]
        return np.asarray(np.mean(seen, axis=0), np.float32)[: len(batch)]

    return Embedded(np.concatenate(list(map_batches(embed, rows))), TRAINED, views)


def _change(images: Any, rows: Sequence[ManifestRow], augmentation: Augmentation, number: int) -> Any:
    """Return the images as a view shows them; view 0 is the image itself."""
    if number == 0:
        return images
    return augmentation.finish(*augmentation.prepare(images, [row.sha256 for row in rows], number))
