"""The search for images that are likely labelled wrong, after training: a report, which never fails a run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.split import Manifest, ManifestRow, choose_rows
from pipeline.evaluation.wrong_labels.embedding import embed_images
from pipeline.evaluation.wrong_labels.label_errors import FOLDS, Found, find_label_errors, write_label_errors
from pipeline.features.frozen_backbone import FrozenBackbone
from pipeline.metrics.wrong_label_text import describe_search
from pipeline.networks.network import Classifier
from pipeline.recipe.recipe import Recipe
from pipeline.run.prepare import Images
from pipeline.run_warnings import Weight, warn

log = logging.getLogger(__name__)

WRONG_LABELS_FILE = "wrong_labels.csv"
_MAX_IMAGES = 10_000  # training and validation images that are looked at
_MAX_TEST_IMAGES = 2_000
_SEED = 1


@dataclass(frozen=True)
class LabelSearch:
    """A search for wrong labels.

    Attributes:
        found: the images.
        source: of the embeddings, in words.
        views: over how many views of each image an embedding is the mean.
    """

    found: Found
    source: str
    views: int

    def document(self) -> dict[str, Any]:
        """Return what metrics.json and the report say; no file is named."""
        found = self.found
        return {
            "likely_wrong": len(found.training),
            "images": found.looked_at,
            "test_likely_wrong": len(found.test),
            "test_images": found.test_looked_at,
            "left_out": list(found.left_out),
            "min_groups": FOLDS,
            "held_out_balanced_accuracy": found.accuracy,
            "needed_balanced_accuracy": found.needed,
            "embeddings": self.source,
            "views": self.views,
        }


def search_labels(
    classifier: Classifier, images: Images, recipe: Recipe, folder: Path, frozen: FrozenBackbone | None = None
) -> LabelSearch | None:
    """Find images that are likely labelled wrong, and write them to a CSV in the run's folder.

    Args:
        classifier: trained.
        images: after audit and split.
        recipe: augmentation and training.
        folder: the run's.
        frozen: the backbone, if it never trained and its features are kept.

    Returns:
        None if the search failed, after a warning with the reason.
    """
    path = folder / WRONG_LABELS_FILE
    try:
        search = _search(classifier, images, recipe, frozen)
        write_label_errors(path, search.found)
    except Exception as err:  # noqa: BLE001 - the trained model is worth more than this list
        path.unlink(missing_ok=True)
        warn(log, Weight.EVALUATION, "Wrong labels were not looked for: %s: %s", type(err).__name__, err)
        return None
    if search.found.training or search.found.test:
        warn(log, Weight.LEAKAGE, "%s; see %s and report.html.", describe_search(search.document()), WRONG_LABELS_FILE)
    return search


def _search(classifier: Classifier, images: Images, recipe: Recipe, frozen: FrozenBackbone | None) -> LabelSearch:
    chosen = images_to_search(images.manifest)
    embedded = embed_images(classifier, chosen, images.pixels, recipe, frozen)
    found = find_label_errors(chosen, embedded.values, images.dataset.labels)
    return LabelSearch(found, embedded.source, embedded.views)


def images_to_search(manifest: Manifest) -> list[ManifestRow]:
    """Return the images whose labels are looked at: all, or a fixed random choice of many."""
    return [
        *choose_rows([row for row in manifest.rows if row.split != "test"], _MAX_IMAGES, seed=_SEED),
        *choose_rows([row for row in manifest.rows if row.split == "test"], _MAX_TEST_IMAGES, seed=_SEED),
    ]
