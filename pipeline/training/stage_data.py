"""Gives each stage of training its model and its batches: of images, or of features of the frozen layers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.augmentation.augment import make_augmentation
from pipeline.data.pixels import Pixels
from pipeline.data.split import Manifest
from pipeline.errors import PipelineError
from pipeline.features.features import FeatureExtractor, View
from pipeline.features.frozen_backbone import FrozenBackbone
from pipeline.features.frozen_network import feature_precisions
from pipeline.networks.network import Classifier
from pipeline.networks.splitting import SplitNetwork, split_before_head, split_before_training, split_between
from pipeline.recipe.recipe import Recipe
from pipeline.run_warnings import Weight, warn
from pipeline.training.batches import Batches
from pipeline.training.feature_batches import FeatureBatches
from pipeline.training.unfreezing import plan_stages

log = logging.getLogger(__name__)


class Feed(Protocol):
    """Batches for Keras.

    Attributes:
        failure: the error that ended a dataset, which TensorFlow reports as one of its own; None if there was none.
    """

    failure: PipelineError | None

    def __len__(self) -> int:
        """Return the number of batches an epoch."""

    def dataset(self, first_epoch: int = 0) -> Any:
        """Return a tf.data.Dataset of (inputs, class indices); for training endless, to use with steps_per_epoch."""


@dataclass(frozen=True)
class Fitting:
    """The model and the batches of one stage.

    Attributes:
        model: the Keras model to compile and fit: the classifier, or its trainable part, which shares the
            classifier's layers.
        training: augmented batches in an order that depends on (seed, epoch) alone.
        validation: batches in order, never augmented.
    """

    model: Any
    training: Feed
    validation: Feed


class StageData:
    """The data of the training stages of one run.

    Args:
        classifier: the network.
        manifest: its train rows are augmented, its val rows are not.
        labels: class names; position is the class index.
        pixels: decodes the images.
        recipe: batch size, augmentation, seed, cache.
        features: the folder where features are kept.
        frozen: the backbone, where none of its layers trains in any stage.
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
        frozen: FrozenBackbone | None = None,
    ) -> None:
        self._classifier = classifier
        self._manifest = manifest
        self._labels = labels
        self._pixels = pixels
        self._recipe = recipe
        self._features = features
        self._frozen = frozen
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
        """Return a stage's model and batches: of features where its frozen layers' are kept, else of images.

        Args:
            trainable: names of the backbone layers that train in it.

        Raises:
            CacheError: if features cannot be written.
        """
        on_images = Fitting(self._classifier.trained_model, self._training, self._validation)
        if not self._recipe.cache.features or self._classifier.auxiliary:
            return on_images
        fitting = self._of_blocks(trainable) if trainable else self._of_head()
        return fitting or on_images

    def _of_head(self) -> Fitting | None:
        """Train the head alone; the features that a later stage needs are computed with the head's."""
        split, extractor = self.before_head()
        fitting = self._of_features(split, extractor)
        if fitting is None and extractor.base is not None:
            whole = split_before_head(self._classifier)
            return self._of_features(whole, self._extractor(whole.frozen))
        return fitting

    def before_head(self) -> tuple[SplitNetwork, FeatureExtractor]:
        """Return the split of a stage that trains the head alone, and what computes the features before the head."""
        if self._frozen is not None:
            return self._frozen.split, self._frozen.extractor
        whole, later = split_before_head(self._classifier), self._before_later_stage()
        if later is None:
            return whole, self._extractor(whole.frozen)
        split = split_between(later, whole)
        return split, self._extractor(split.frozen, self._extractor(later.frozen))

    def views(self, extractor: FeatureExtractor) -> list[View]:
        """Return what stages on features are shown: several views of a training image, one of a validation image."""
        training = extractor.views(self._manifest.of("train"), self._recipe.augment.views)
        return [*training, *extractor.views(self._manifest.of("val"), 1)]

    def _of_blocks(self, trainable: frozenset[str]) -> Fitting | None:
        """Train the last blocks; an epoch takes one view of each image, as it does of images."""
        split = split_before_training(self._classifier, trainable)
        return (
            None
            if split is None
            else self._of_features(split, self._extractor(split.frozen), turns=self._recipe.augment.views)
        )

    def _before_later_stage(self) -> SplitNetwork | None:
        stages = plan_stages(self._classifier, self._recipe.train)
        return split_before_training(self._classifier, stages[-1].trainable) if stages[-1].trainable else None

    def _of_features(self, split: SplitNetwork, extractor: FeatureExtractor, *, turns: int = 1) -> Fitting | None:
        recipe, batch_size = self._recipe, self._recipe.train.batch_size
        views = self.views(extractor)
        if not extractor.compute(views):
            warn(
                log,
                Weight.SPEED,
                "These features need more than cache.max_gb=%g: they are not kept",
                recipe.cache.max_gb,
            )
            return None
        seed, store = recipe.train.seed, extractor.store
        trained = recipe.augment.views * len(self._manifest.of("train"))
        training, validation = views[:trained], views[trained:]
        return Fitting(
            split.trainable,
            FeatureBatches(training, self._labels, store, batch_size=batch_size, seed=seed, turns=turns),
            FeatureBatches(validation, self._labels, store, batch_size=batch_size, seed=None),
        )

    def _extractor(self, frozen: Any, base: FeatureExtractor | None = None) -> FeatureExtractor:
        return FeatureExtractor(
            frozen,
            self._classifier,
            pixels=self._pixels,
            recipe=self._recipe,
            folder=self._features,
            base=base,
            precisions=feature_precisions(self._recipe.cache),
        )
