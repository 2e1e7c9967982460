"""The backbone of a run that trains its head alone: one set of kept features for training and all that follows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from engine.precision_names import AUTO, FLOAT32
from pipeline.data.map_batches import BATCH, map_batches
from pipeline.data.pixels import Pixels
from pipeline.data.split import Manifest, ManifestRow
from pipeline.features.exact_features import ExactFeatures
from pipeline.features.feature_precision import (
    FeatureVerdict,
    choose_sample,
    compare_features,
    read_verdict,
    write_verdict,
)
from pipeline.features.features import FeatureExtractor
from pipeline.features.frozen_network import CLOSE_ENOUGH, ExportedNetwork, feature_precisions
from pipeline.networks.graph_calls import as_graph
from pipeline.networks.network import Classifier
from pipeline.networks.preprocessing import preprocess
from pipeline.networks.splitting import split_before_head
from pipeline.progress import note
from pipeline.recipe.recipe import Recipe

_MOST_KEPT = 0.5  # share of the views
KERAS = "keras graph"  # computes the reference that exports are compared with


class FrozenBackbone:
    """Computes with a backbone that never trains, each image once in all runs that share the folder.

    Args:
        classifier: whose head trains.
        pixels: decodes the images.
        recipe: augmentation, seed, limits.
        folder: of all features.

    Attributes:
        split: the backbone and the head.
        verdict: on a faster precision of the features; None where none was judged.
    """

    def __init__(self, classifier: Classifier, pixels: Pixels, recipe: Recipe, folder: Path) -> None:
        self._classifier = classifier
        self._pixels = pixels
        self._recipe = recipe
        self._folder = folder
        self.split = split_before_head(classifier)
        self._exported = ExportedNetwork(self.split.frozen, classifier.preprocessing)
        self.verdict: FeatureVerdict | None = None

    @cached_property
    def extractor(self) -> FeatureExtractor:
        """Computes the views that training is shown."""
        return self._build_extractor(feature_precisions(self._recipe.cache))

    def choose_precision(self, manifest: Manifest, labels: Sequence[str]) -> None:
        """Let the views be computed at the fastest precision of this machine, if a head trained on them shows no loss.

        Where there are too few images to tell, features of two inputs that agree with Keras's are enough. The verdict
        of an earlier run holds while most views that it chose are kept: another one would compute all of them again.
        """
        fastest = self.extractor.frozen.precisions[0]
        sample = choose_sample(manifest, seed=self._recipe.train.seed)
        if self._recipe.cache.features_precision != AUTO or fastest == FLOAT32 or sample is None:
            return
        extractor = self._build_extractor((fastest, FLOAT32), close_enough=float("inf"))
        exact_views = self._build_extractor((FLOAT32,))
        earlier = read_verdict(extractor.store.folder, self._recipe.evaluate.gate)
        if earlier is not None:
            chosen = extractor if earlier.kept else exact_views
            if _share_kept(chosen, manifest.of("train"), self._recipe.augment.views) > _MOST_KEPT:
                note(f"of an earlier run: {earlier.words}")
                self.verdict, self.extractor = earlier, chosen
                return
        exact, views = self._of_engine.compute(sample.rows), extractor.views(sample.rows, 1)
        if exact is None or not extractor.compute(views):
            return
        fast = extractor.store.batch([view.key for view in views])
        expected = self._of_engine.store.batch(exact)
        self.verdict = compare_features(fastest, sample, labels, fast, expected, self._recipe.evaluate.gate)
        note(self.verdict.words)
        write_verdict(extractor.store.folder, self.verdict)
        self.extractor = extractor if self.verdict.kept else exact_views

    def _build_extractor(
        self, precisions: Sequence[str] | None, *, close_enough: float = CLOSE_ENOUGH
    ) -> FeatureExtractor:
        return FeatureExtractor(
            self.split.frozen,
            self._classifier,
            pixels=self._pixels,
            recipe=self._recipe,
            folder=self._folder,
            precisions=precisions,
            close_enough=close_enough,
            exported=self._exported,
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


def _share_kept(extractor: FeatureExtractor, rows: Sequence[ManifestRow], count: int) -> float:
    """Return the share of the views of images whose features are in the store."""
    views = extractor.views(rows, count)
    return sum(view.key in extractor.store for view in views) / max(1, len(views))
