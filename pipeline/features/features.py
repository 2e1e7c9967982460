"""Computes the features of a frozen network once per image and view, and keeps them for training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version as package_version
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.augmentation.augment import make_augmentation
from pipeline.data.map_batches import map_batches
from pipeline.data.pixels import Pixels, pixel_packages
from pipeline.data.split import ManifestRow
from pipeline.features.feature_store import FeatureStore, make_key
from pipeline.features.frozen_network import CLOSE_ENOUGH, ExportedNetwork, FrozenNetwork
from pipeline.networks.network import Classifier
from pipeline.networks.own.kept import source_sha256
from pipeline.networks.preprocessing import describe_preprocessing
from pipeline.progress import note, progress_bar
from pipeline.recipe.recipe import Recipe

_BATCH = 32  # always full: one traced shape, and the same arithmetic however many images are new
# Written at once, and lost by a kill.
_SEGMENT_VIEWS = 256
_SEGMENT_BYTES = 32 * 1024**2
_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class View:
    """One view of one image.

    Attributes:
        row: the image.
        number: 0 is the image itself; others are changed by the augmentation of that epoch.
        key: in the store.
    """

    row: ManifestRow
    number: int
    key: str


class FeatureExtractor:
    """Computes features of views of images, once, and keeps them in `store`.

    Args:
        network: the frozen Keras network.
        classifier: whose preprocessing the network takes.
        pixels: decodes the images.
        recipe: augmentation, seed, limits.
        folder: of all features.
        base: computes the input of `network`, where that is another frozen network's features.
        precisions: as FrozenNetwork takes them.
        close_enough: likewise.
        exported: `network`, where others compute with it too.

    Attributes:
        base: as given.
        frozen: computes.
        store: of the features.
    """

    def __init__(
        self,
        network: Any,
        classifier: Classifier,
        *,
        pixels: Pixels,
        recipe: Recipe,
        folder: Path,
        base: FeatureExtractor | None = None,
        precisions: Sequence[str] | None = None,
        close_enough: float = CLOSE_ENOUGH,
        exported: ExportedNetwork | None = None,
    ) -> None:
        self._pixels = pixels
        self._settings = recipe.augment
        self._seed = recipe.train.seed
        self._augmentation = make_augmentation(recipe.augment, recipe.train.seed)
        self.base = base
        preprocessing = classifier.preprocessing if base is None else "none"
        exported = exported or ExportedNetwork(network, preprocessing)
        self.frozen = FrozenNetwork(exported, precisions=precisions, close_enough=close_enough)
        self._network = network
        self._before: dict[str, Any] = {
            "preprocessing": describe_preprocessing(preprocessing),
            "input": pixels.spec.document(),
            "packages": pixel_packages(),
            **({} if classifier.source is None else {"source": source_sha256(classifier.source)}),
            **({} if base is None else {"base": base.store.network}),
        }
        self._room: dict[str, Any] = {
            "shape": tuple(network.output.shape[1:]),
            "max_bytes": int(recipe.cache.max_gb * 1e9),
        }
        name = hash_network(network, {**self._before, "runtime": self.frozen.runtime})
        self.store: FeatureStore = FeatureStore(folder, name, **self._room)

    def exact_store(self, folder: Path, runtime: str) -> FeatureStore:
        """Return the store of the same network's float32 features of unchanged images.

        Args:
            folder: of all features.
            runtime: what computes them, in words that change when the features might.
        """
        name = hash_network(self._network, {**self._before, "runtime": runtime, "exact": True})
        return FeatureStore(folder, name, **self._room, precision="float32")

    def views(self, rows: Sequence[ManifestRow], count: int) -> list[View]:
        """Return `count` views of each image, all of the first image first."""
        names = self.names(count)
        return [View(row, i, make_key(row.sha256, name)) for row in rows for i, name in enumerate(names)]

    def names(self, count: int) -> list[str]:
        """Return what tells `count` views apart: the augmentation and the seed of each."""
        return [self._name(number) for number in range(count)]

    def make_room(self, views: Sequence[View]) -> bool:
        """Make room for the views that are not in the store yet, and for what they are computed from.

        Returns:
            Whether they fit; nothing is computed.
        """
        missing = self._missing(views)
        if missing and self.base is not None and not self.base.make_room(missing):
            return False
        return self.store.make_room(len(missing))

    def compute(self, views: Sequence[View]) -> bool:
        """Compute the views that are not in the store yet, after a line with their number.

        Returns:
            Whether the features of all views are in the store; False: they would need more room than allowed.

        Raises:
            CacheError: if they cannot be written; features written before are kept.
        """
        missing = self._missing(views)
        if missing and self.base is not None and not self.base.compute(missing):
            return False
        wanted, needed = self.store.size_of(len(views)) / 1e6, self.store.size_of(len(missing)) / 1e6
        note(
            f"Features: {len(views)} views ({wanted:.1f} MB), {len(views) - len(missing)} of them kept from before; "
            f"{len(missing)} to compute ({needed:.1f} MB)"
        )
        if not self.store.make_room(len(missing)):
            return False
        # A view at a time: the augmentation draws for an epoch.
        missing.sort(key=lambda view: view.number)
        with progress_bar(total=len(missing), what="Features", unit="view") as bar:
            self._compute(missing, bar)
        return True

    def _missing(self, views: Sequence[View]) -> list[View]:
        return list({view.key: view for view in views if view.key not in self.store}.values())

    def _compute(self, views: Sequence[View], bar: Any) -> None:
        per_segment = min(_SEGMENT_VIEWS, _SEGMENT_BYTES // self.store.size_of(1))
        keys: list[str] = []
        parts: list[NDArray[np.float16]] = []
        for batch, features in self._run(views):
            keys += [view.key for view in batch]
            parts.append(features)
            bar.update(len(batch))
            if len(keys) >= per_segment:
                self.store.add(keys, np.concatenate(parts))
                keys, parts = [], []
        if keys:
            self.store.add(keys, np.concatenate(parts))

    def _run(self, views: Sequence[View]) -> Iterator[tuple[list[View], NDArray[np.float16]]]:
        for _, same in groupby(views, key=lambda view: view.number):
            yield from map_batches(self._compute_batch, same, size=_BATCH)

    def _compute_batch(self, batch: list[View]) -> tuple[list[View], NDArray[np.float16]]:
        """Return the features of views that have the same number."""
        padded = [*batch, *[batch[-1]] * (_BATCH - len(batch))]
        inputs = self._changed(padded) if self.base is None else self.base.store.batch([v.key for v in padded])
        features = np.clip(self.frozen.compute(inputs), -_LARGEST, _LARGEST)
        return batch, features[: len(batch)].astype(np.float16)

    def _changed(self, views: Sequence[View]) -> Any:
        """Return images, each as its view shows it; all views have the same number."""
        (images,) = self._pixels.batches([view.row.path for view in views], len(views))
        if views[0].number == 0:
            return images
        shas = [view.row.sha256 for view in views]
        return self._augmentation.finish(*self._augmentation.prepare(images, shas, views[0].number))

    def _name(self, number: int) -> str:
        if number == 0:
            return "original"
        settings = self._settings.model_dump(mode="json", exclude={"views"})
        return f"{number} of {self._seed} {json.dumps(settings, sort_keys=True)}"


def hash_network(network: Any, others: dict[str, Any]) -> str:
    """Return a hash of a network's architecture and weights, and of what else its outputs depend on.

    Args:
        network: a Keras model.
        others: JSON values.
    """
    # Whether layers train changes in a run, and nothing that a frozen network computes.
    architecture = network.to_json().replace('"trainable": true', '"trainable": false')
    for i, layer in enumerate(network.operations):  # names count up within a process
        architecture = architecture.replace(f'"{layer.name}"', f'"layer {i}"')
    versions = {name: package_version(name) for name in ("keras", "tensorflow")}
    digest = hashlib.sha256(json.dumps([architecture, others, versions], sort_keys=True).encode())
    for weights in network.weights:
        digest.update(np.asarray(weights).tobytes())
    return digest.hexdigest()[:32]
