"""One training, and the images and the network that Fovea and plain Keras take from it alike."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from contract.image import decode_image
from pipeline.recipe.data_settings import Data, Split

_VALIDATION = 0.1  # of the training images, as in the recipes


@dataclass(frozen=True)
class Job:
    """A training.

    Attributes:
        folder: of the set, with train/ and test/.
        recipe: the name of a shipped one.
        settings: beside it, as `--set` takes them.
        seed: of initial weights, order and dropout.
        epochs: of the training.
        images: for training and validation together; at most as many for the test.
    """

    folder: Path
    recipe: str
    settings: tuple[str, ...]
    seed: int
    epochs: int
    images: int

    def load(self) -> Prepared:
        """Read the recipe, and the images unless the job before had the same."""
        from pipeline.recipe.recipe import load_recipe
        from pipeline.run.prepare import input_spec

        # Both sides train all epochs and keep the weights of the last.
        fixed = ("train.early_stopping=null", "train.weights_of=last", "train.fine_tune.epochs=0")
        own = (f"train.epochs={self.epochs}", f"train.seed={self.seed}")
        recipe = load_recipe(self.recipe, [*self.settings, *fixed, *own])
        labels, manifest, pixels = _read_images(
            self.folder, recipe.data.model_dump_json(), input_spec(recipe), self.images
        )
        return Prepared(recipe, labels, manifest, pixels)


@dataclass(frozen=True)
class Prepared:
    """The inputs of both sides.

    Attributes:
        recipe: pipeline.recipe.recipe.Recipe.
        labels: class names.
        manifest: pipeline.data.split.Manifest.
        pixels: pipeline.data.pixels.Pixels, all decoded, as after Fovea's audit.
    """

    recipe: Any
    labels: tuple[str, ...]
    manifest: Any
    pixels: Any

    def build(self) -> Any:
        """Return the recipe's network, a pipeline.networks.network.Classifier with random weights."""
        from pipeline.networks.network import build_classifier
        from pipeline.networks.weights import Weights

        return build_classifier(
            self.recipe.model,
            Weights("none", None),
            num_classes=len(self.labels),
            channels=self.pixels.spec.channels,
        )

    def arrays(self, split: str) -> tuple[Any, Any]:
        """Return the images of one side as float32 between 0 and 1, and their class indices."""
        rows = self.manifest.of(split)
        images = self.pixels.batch([row.path for row in rows]).astype(np.float32) / 255
        return images, np.array([self.labels.index(row.label) for row in rows], np.int32)


@lru_cache(maxsize=1)
def _read_images(folder: Path, data: str, spec: Any, images: int) -> tuple[tuple[str, ...], Any, Any]:
    """Return labels, manifest and pixels of a set, every image decoded."""
    from pipeline.data.ingest import ingest
    from pipeline.data.pixels import Pixels
    from pipeline.data.split import Manifest, ManifestRow

    dataset = ingest(folder, Data.model_validate_json(data))
    pixels = Pixels(dataset.source, spec)
    chosen = [*_choose(dataset.examples, "train", images), *_choose(dataset.examples, "test", images)]
    rows = []
    for example, side in chosen:
        content = dataset.source.read(example.path)
        pixels.keep(example.path, decode_image(content, spec))
        sha256 = hashlib.sha256(content).hexdigest()
        rows.append(ManifestRow(example.path, sha256, example.label, example.path, side))
    return dataset.labels, Manifest(tuple(sorted(rows, key=lambda row: row.path))), pixels


def _choose(examples: Any, part: str, images: int) -> list[tuple[Any, Split]]:
    """Return images of one part of a set with the side that each is on, the same for every seed."""
    found = [example for example in examples if example.split == part]
    order = np.random.default_rng(0).permutation(len(found))[:images]
    validation = round(_VALIDATION * len(order)) if part == "train" else 0
    return [(found[i], "val" if place < validation else part) for place, i in enumerate(order)]
