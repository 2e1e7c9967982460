"""Versions of the tiny model with a run behind them: manifest, predictions, provenance, as a training leaves them."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from contract.image import decode_image
from contract.model import ModelContract
from contract.store import CONTRACT_FILE, ModelStore
from pipeline.data.split import Manifest, ManifestRow
from tests.helpers.image_sets import COLORS, png
from tests.helpers.tiny_model import MODEL_NAME, expected_probabilities


@dataclass
class ColorSet:
    """Coloured squares in a folder, with the rows of a manifest.

    Attributes:
        folder: where the images are, test/<colour>/<file> and train/<colour>/<file>.
        rows: one for each image.
    """

    folder: Path
    rows: list[ManifestRow] = field(default_factory=list)

    def add(self, split: str, count: int, *, group: str = "", start: int = 0) -> list[ManifestRow]:
        """Write `count` new images of each colour and return their rows; each is its own group unless one is given."""
        added = []
        for label, color in COLORS.items():
            for i in range(start, start + count):
                path = f"{split}/{label}/{i:03}.png"
                data = png(color, seed=zlib.crc32(path.encode()), size=16)
                (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / path).write_bytes(data)
                sha256 = hashlib.sha256(data).hexdigest()
                added.append(ManifestRow(path, sha256, label, group or path, split))  # type: ignore[arg-type]
        self.rows += added
        return added

    @property
    def manifest(self) -> Manifest:
        """The manifest of a run on this set."""
        return Manifest(tuple(sorted(self.rows, key=lambda row: row.path)))


def publish_trained(
    store: ModelStore,
    runs_dir: Path,
    source: Path,
    images: ColorSet,
    *,
    run: str = "20260101T000000Z-aaaaaa",
    **provenance: Any,
) -> int:
    """Publish a built variant as the version that a run on `images` made, write that run down, return the number.

    Args:
        store: gets the version.
        runs_dir: gets the run: manifest.csv, predictions.csv, metrics.json and run.json.
        source: the variant's SavedModel.
        images: the run's set.
        run: the run's id.
        provenance: what else the contract says, such as weights or keras_model_sha256.
    """
    folder = runs_dir / MODEL_NAME / run
    folder.mkdir(parents=True)
    images.manifest.write(folder / "manifest.csv")
    contract = ModelContract.from_json((source / CONTRACT_FILE).read_bytes())
    rows = images.manifest.of("test")
    if rows:
        write_predictions(folder / "predictions.csv", images.folder, rows, contract)
    (folder / "metrics.json").write_text("{}")
    (folder / "run.json").write_text(json.dumps({"location": str(images.folder)}))
    with store.staging() as directory:
        shutil.copytree(source, directory, dirs_exist_ok=True)
        document = {**contract.document, "provenance": {"run": run, **provenance}}
        (directory / CONTRACT_FILE).write_text(json.dumps(document))
        return store.publish(MODEL_NAME, directory)


def write_predictions(path: Path, folder: Path, rows: Sequence[ManifestRow], contract: ModelContract) -> None:
    """Write what a run writes down of its test images, computed by plain numpy."""
    labels = tuple(label.id for label in contract.labels)
    images = np.stack([decode_image((folder / row.path).read_bytes(), contract.input) for row in rows])
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "predicted", *(f"probability_{label}" for label in labels)])
        for row, values in zip(rows, expected_probabilities(images, labels), strict=True):
            writer.writerow([row.path, row.label, labels[int(values.argmax())], *(str(v) for v in values)])
