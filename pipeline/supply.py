"""What each stage of training is fed: which model is fitted, on which batches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.augment import make_augmentation
from pipeline.batches import Batches
from pipeline.features import FeatureBatches, FeatureExtractor, cut_before_head
from pipeline.network import Classifier
from pipeline.pixels import Pixels
from pipeline.recipe import Recipe
from pipeline.split import Manifest

log = logging.getLogger(__name__)


class Feed(Protocol):
    """Batches for Keras."""

    def __len__(self) -> int:
        """Return the number of batches an epoch."""

    def dataset(self, first_epoch: int = 0) -> Any:
        """Return a tf.data.Dataset of (inputs, class indices); for training endless, to use with steps_per_epoch."""


@dataclass(frozen=True)
class Fitting:
    """One stage's work.

    Attributes:
        model: the Keras model to compile and fit: the classifier, or its trainable end, which shares the classifier's
            layers and so trains the classifier itself.
        training: augmented batches in an order that depends on (seed, epoch) alone.
        validation: batches in order, never augmented.
    """

    model: Any
    training: Feed
    validation: Feed


class Supply:
    """Feeds the stages of one run.

    Args:
        classifier: the network.
        manifest: its train rows are augmented, its val rows are not.
        labels: class names; position is the class index.
        pixels: decodes the images.
        recipe: batch size, augmentation, seed, cache.
        features: the folder where features are kept.
    """

    def __init__(
        self,
        classifier: Classifier,
        manifest: Manifest,
        *,
        labels: Sequence[str],
        pixels: Pixels,
        recipe: Recipe,
        features: Path,
    ) -> None:
        self._classifier = classifier
        self._manifest = manifest
        self._labels = labels
        self._pixels = pixels
        self._recipe = recipe
        self._features = features
        settings = recipe.train
        preprocessing = classifier.preprocessing
        self._training = Batches(
            manifest.of("train"),
            labels,
            pixels,
            preprocessing,
            batch_size=settings.batch_size,
            augmentation=make_augmentation(recipe.augment, settings.seed),
            seed=settings.seed,
        )
        validation = manifest.of("val")
        self._validation = Batches(validation, labels, pixels, preprocessing, batch_size=settings.batch_size)

    def of_stage(self, trainable: frozenset[str]) -> Fitting:
        """Return what a stage is fed: kept features while the whole backbone is frozen, images otherwise.

        Args:
            trainable: names of the backbone layers that train in it.

        Raises:
            CacheError: if features cannot be written.
        """
        if self._recipe.cache.features and not trainable:
            fitting = self._of_features()
            if fitting is not None:
                return fitting
        return Fitting(self._classifier.model, self._training, self._validation)

    def _of_features(self) -> Fitting | None:
        recipe, batch_size = self._recipe, self._recipe.train.batch_size
        cut = cut_before_head(self._classifier)
        extractor = FeatureExtractor(
            cut.trunk, self._classifier, pixels=self._pixels, recipe=recipe, folder=self._features
        )
        training = extractor.views(self._manifest.of("train"), recipe.augment.views)
        validation = extractor.views(self._manifest.of("val"), 1)
        if not extractor.compute([*training, *validation]):
            log.warning(
                "The features need more than cache.max_gb=%g: every epoch runs the network", recipe.cache.max_gb
            )
            return None
        store = extractor.store
        return Fitting(
            cut.end,
            FeatureBatches(training, self._labels, store, batch_size=batch_size, seed=recipe.train.seed),
            FeatureBatches(validation, self._labels, store, batch_size=batch_size, seed=None),
        )
