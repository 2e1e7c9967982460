"""A published version in this process: `fovea.load`."""

from __future__ import annotations

import functools
import io
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from contract.errors import ImageError
from contract.image import decode_image
from contract.model import ModelContract
from contract.predictions import decide, decode_predictions
from contract.store import ModelStore
from engine.engine import Engine
from engine.loading import load_engine
from engine.precision_names import AUTO
from fovea.html import format_table
from service.gateway.context.errors import RefusedImageError
from service.gateway.http.json_text import to_json
from service.gateway.inference.prediction import find_warnings
from service.gateway.inference.reply_json import classified_entry, embedded_entry, model_document, refused_entry
from service.results import EmbedResult, PredictResult, parse_answer, parse_embed_result, parse_prediction

Image = str | Path | bytes | NDArray[np.uint8] | PillowImage.Image

_BATCH = 32
_NOT_IN_PNG = ("CMYK", "YCbCr", "LAB", "HSV", "RGBX")  # modes of Pillow's that such a file cannot have


class Model:
    """A version of the store, loaded; use it in a `with` block, or call `close`.

    Args:
        name: the model.
        version: its number.
        contract: the version's contract.
        engine: computes its probabilities; closed with the model.

    Attributes:
        labels: names of the classes, in the order of the probabilities.
    """

    def __init__(self, name: str, version: int, contract: ModelContract, engine: Engine) -> None:
        self.name = name
        self.version = version
        self.contract = contract
        self.labels = tuple(label.name for label in contract.labels)
        self._engine = engine

    def __enter__(self) -> Model:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory of the network."""
        self._engine.close()

    @property
    def precision(self) -> str:
        """The precision of the arithmetic, such as "float32"."""
        return self._engine.precision

    def predict(self, images: Image | list[Image] | tuple[Image, ...], *, top: int = 3) -> PredictResult:
        """Classify images as the service does, and return what its client returns.

        Args:
            images: paths, bytes of image files, Pillow images, or uint8 arrays (height, width[, 3]); one or several.
            top: classes an image, best first.

        Raises:
            OSError: if a file cannot be read.
            ValueError: if there are no images, or `top` is below 1.
        """
        if top < 1:
            raise ValueError(f"top: expected at least 1. Received: {top}")
        entries = self._answer(images, functools.partial(self._classify, top=top))
        document = {**self._describe("serving_default"), "predictions": entries}
        return PredictResult(**parse_answer(document), predictions=tuple(map(parse_prediction, entries)))

    def embed(self, images: Image | list[Image] | tuple[Image, ...]) -> EmbedResult:
        """Turn images into vectors as the service does, and return what its client returns.

        Args:
            images: as `predict`.

        Raises:
            OSError: if a file cannot be read.
            ValueError: if there are no images, or the version has no embeddings.
        """
        if self.contract.embedding_dimension is None:
            raise ValueError(f"{self.name} version {self.version} has no embeddings; train or publish it again")
        entries = self._answer(images, self._embed)
        dimension = self.contract.embedding_dimension
        return parse_embed_result({**self._describe("embed"), "dimension": dimension, "embeddings": entries})

    def _describe(self, signature: str) -> dict[str, Any]:
        """Return what every reply of the service says."""
        precision = self._engine.precision_of(signature)
        model = model_document(self.name, self.version, self.contract, precision)
        return {"model": model, "request_id": uuid.uuid4().hex}

    def _answer(
        self,
        images: Image | list[Image] | tuple[Image, ...],
        compute: Callable[[NDArray[np.uint8]], list[dict[str, Any]]],
    ) -> list[dict[str, Any]]:
        """Return each image's entry of the service's JSON.

        Args:
            images: one or several.
            compute: a batch of decoded images to their entries, without names.
        """
        several: list[Image] = list(images) if isinstance(images, list | tuple) else [images]
        if not several:
            raise ValueError("images: expected at least one. Received: none")
        entries: list[dict[str, Any]] = []
        for start in range(0, len(several), _BATCH):
            files = [_read(image, start + i) for i, image in enumerate(several[start : start + _BATCH])]
            decoded = [(name, self._decode(data)) for name, data in files]
            pixels = [image for _, image in decoded if isinstance(image, np.ndarray)]
            computed = iter(compute(np.stack(pixels)) if pixels else [])
            entries += [
                refused_entry(name, RefusedImageError(image))
                if isinstance(image, ImageError)
                else {**next(computed), "name": name}
                for name, image in decoded
            ]
        return entries

    def _decode(self, data: bytes) -> NDArray[np.uint8] | ImageError:
        try:
            return decode_image(data, self.contract.input)
        except ImageError as err:
            return err

    def _classify(self, batch: NDArray[np.uint8], top: int) -> list[dict[str, Any]]:
        """Return classes, decisions and warnings of each image."""
        probabilities = np.asarray(self._engine.run("serving_default", {"images": batch})["probabilities"], np.float32)
        ranked = decode_predictions(probabilities, self.contract.labels, top)
        return [
            classified_entry("", classes, decide(row, self.contract), found)
            for row, classes, found in zip(probabilities, ranked, find_warnings(batch, self.contract), strict=True)
        ]

    def _embed(self, batch: NDArray[np.uint8]) -> list[dict[str, Any]]:
        """Return the vector and the warnings of each image."""
        vectors = np.asarray(self._engine.run("embed", {"images": batch})["embedding"], np.float32)
        return [
            embedded_entry("", to_json("embedding", vector).tolist(), found)
            for vector, found in zip(vectors, find_warnings(batch, self.contract), strict=True)
        ]

    def __repr__(self) -> str:
        return f"<Model {self.name}/{self.version}: {', '.join(self.labels[:5])}{', ...' * (len(self.labels) > 5)}>"

    def _repr_html_(self) -> str:
        spec = self.contract.input
        rows = [
            ("classes", ", ".join(self.labels)),
            ("input", f"{spec.height} × {spec.width}, {spec.color}"),
            ("precision", self.precision),
        ]
        return format_table(rows, f"{self.name} version {self.version}")


def load(reference: str, *, models_dir: str | Path = "models", precision: str = AUTO) -> Model:
    """Load a published version into this process.

    Args:
        reference: NAME for its live version, NAME/3 or NAME/candidate.
        models_dir: the model store.
        precision: "auto" (the fastest that the version's verification allows), "float32" or a faster one.

    Raises:
        StoreError: if there is no such model or version.
        EngineError: if it cannot be loaded, or not at that precision on this machine.
    """
    store = ModelStore(Path(models_dir))
    name, version = store.resolve(reference)
    contract = store.read_contract(name, version)
    return Model(name, version, contract, load_engine(store.version_path(name, version), precision=precision))


def _read(image: Image, position: int) -> tuple[str, bytes]:
    """Return a name and the bytes of a file; pixels become a lossless one, so that one decoder reads everything."""
    if isinstance(image, bytes):
        return f"image[{position}]", image
    if isinstance(image, str | Path):
        return Path(image).name, Path(image).read_bytes()
    picture = image if isinstance(image, PillowImage.Image) else PillowImage.fromarray(image)
    buffer = io.BytesIO()
    exif = picture.getexif()  # says how the picture is turned
    if picture.mode in _NOT_IN_PNG:
        picture = picture.convert("RGB")
    picture.save(buffer, "PNG", exif=exif)
    return f"image[{position}]", buffer.getvalue()
