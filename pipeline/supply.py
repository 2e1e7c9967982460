"""What each stage of training is fed: which model is fitted, on which batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.augment import make_augmentation
from pipeline.batches import Batches
from pipeline.network import Classifier
from pipeline.pixels import Pixels
from pipeline.recipe import Recipe
from pipeline.split import Manifest


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
        recipe: batch size, augmentation, seed.
    """

    def __init__(
        self, classifier: Classifier, manifest: Manifest, *, labels: Sequence[str], pixels: Pixels, recipe: Recipe
    ) -> None:
        self._classifier = classifier
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
        """Return what a stage is fed.

        Args:
            trainable: names of the backbone layers that train in it.
        """
        return Fitting(self._classifier.model, self._training, self._validation)
