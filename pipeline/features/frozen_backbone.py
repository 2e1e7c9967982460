"""The backbone of a run that trains its head alone: one set of kept features for training and all that follows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.data.map_batches import BATCH, map_batches
from pipeline.data.pixels import Pixels
from pipeline.data.split import ManifestRow
from pipeline.features.exact_features import ExactFeatures
from pipeline.features.features import FeatureExtractor
from pipeline.networks.graph_calls import as_graph
from pipeline.networks.network import Classifier
from pipeline.networks.preprocessing import preprocess
from pipeline.networks.splitting import split_before_head
from pipeline.recipe.recipe import Recipe

KERAS = "keras graph"  # computes the reference that exports are compared with


class FrozenBackbone:
    """Computes with a backbone that never trains, each image once in all runs that share the folder.

    Args:
        classifier: whose head trains.
        pixels: decodes the images.
        recipe: augmentation, seed, limits.
        folder: of all features.
    """

    def __init__(self, classifier: Classifier, pixels: Pixels, recipe: Recipe, folder: Path) -> None:
        self._classifier = classifier
        self._pixels = pixels
        self._recipe = recipe
        self._folder = folder
        self.split = split_before_head(classifier)

    @cached_property
    def extractor(self) -> FeatureExtractor:
        """Computes the views that training is shown."""
        return FeatureExtractor(
            self.split.frozen, self._classifier, pixels=self._pixels, recipe=self._recipe, folder=self._folder
        )

    def logits(self, rows: Sequence[ManifestRow]) -> NDArray[np.float32] | None:
        """Return Keras's logits of images, float32, shape (images, classes); None where features cannot be kept."""
        return self._through_head(self._of_keras, rows)

    def engine_logits(self, rows: Sequence[ManifestRow]) -> NDArray[np.float32] | None:
        """Return logits from the preferred runtime's float32 features, as `logits`."""
        return self._through_head(self._of_engine, rows)

    @property
    def runtime_name(self) -> str:
        """The runtime that computes `engine_logits`."""
        return self.extractor.frozen.runtime_name

    @cached_property
    def _head(self) -> Any:
        return keras.Model(self.split.frozen.output, self._classifier.logits)

    @cached_property
    def _of_keras(self) -> ExactFeatures:
        preprocessing, run = self._classifier.preprocessing, as_graph(self.split.frozen)

        def compute(images: NDArray[Any]) -> NDArray[np.float32]:
            return run(preprocess(images.astype(np.float32), preprocessing))

        return self._keep(KERAS, compute)

    @cached_property
    def _of_engine(self) -> ExactFeatures:
        exact = self.extractor.frozen.at_float32()
        return self._keep(exact.runtime, exact.compute)

    def _keep(self, runtime: str, compute: Any) -> ExactFeatures:
        store = self.extractor.exact_store(self._folder, runtime)
        return ExactFeatures(store, self._pixels, compute)

    def _through_head(self, features: ExactFeatures, rows: Sequence[ManifestRow]) -> NDArray[np.float32] | None:
        keys = features.compute(rows)
        if keys is None:
            return None

        def run(batch: list[str]) -> NDArray[np.float32]:
            return np.asarray(self._head(features.store.batch(batch), training=False), np.float32)

        return np.concatenate(list(map_batches(run, keys, size=BATCH)))
