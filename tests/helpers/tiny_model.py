"""A real SavedModel that loads at once and needs no training: it names the colour that an image is most full of.

It has `serving_default`, `explain` and `describe`; the variant `embedding` has `embed` too. Variants differ in the
order of their labels and in input size, so that a version's pixels, probabilities and labels cannot pass for another's.

    python -m tests.helpers.tiny_model DIR     writes every variant to DIR/<variant>
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.drift_baseline import DriftBaseline
from contract.model import InputSpec, Label, ModelContract, build_document, canonical_json
from contract.novelty import WARNING
from contract.store import CONTRACT_FILE, WARMUP_FILE, ModelStore
from engine.warmup import build_warmup_request, write_warmup_records

MODEL_NAME = "colours"
SHARPNESS = 12.0  # logit of a fully saturated colour: a pure colour gets 0.99999, grey one third
GRID = 4  # rows and columns of the saliency map
DIMENSION = 3
_CHANNELS = ("red", "green", "blue")


@dataclass(frozen=True)
class Variant:
    """One version's make-up.

    Attributes:
        labels: class ids in the order of the probabilities' last axis; each is a colour.
        size: height and width of the input, pixels; a multiple of GRID.
        delay_s: seconds that each call takes, spent inside the graph.
        has_embeddings: whether it has the signature `embed`: the mean red, green and blue of an image, 0 to 1.
    """

    labels: tuple[str, str, str]
    size: int
    delay_s: float = 0.0
    has_embeddings: bool = False


VARIANTS = {
    "plain": Variant(("blue", "green", "red"), 16),
    "permuted": Variant(("red", "blue", "green"), 16),
    "small": Variant(("green", "red", "blue"), 8),
    "slow": Variant(("blue", "green", "red"), 16, delay_s=0.5),
    "embedding": Variant(("red", "blue", "green"), 16, has_embeddings=True),
}


def build_contract(variant: Variant) -> ModelContract:
    """Return the contract of a variant."""
    labels = [Label(colour, colour.capitalize()) for colour in variant.labels]
    spec = InputSpec(height=variant.size, width=variant.size)
    fields = {"embedding": {"dimension": DIMENSION}} if variant.has_embeddings else {}
    shares = {colour: 1 / len(labels) for colour in variant.labels}
    baseline = DriftBaseline(30, shares, mean_probability=0.9, warning_shares={WARNING: 0.1})
    document = build_document(
        labels,
        spec,
        saliency="cam",
        temperature=1.0,
        tolerance=0.02,
        drift_baseline=baseline.document(),
        **fields,
    )
    return ModelContract.from_document(document)


def build_image(colour: str, size: int, *, strength: int = 200) -> NDArray[np.uint8]:
    """Return a uint8 image, shape (size, size, 3): `colour`, one of red, green, blue, on dark grey."""
    image = np.full((size, size, 3), 40, dtype=np.uint8)
    image[..., _CHANNELS.index(colour)] = strength
    return image


def expected_probabilities(images: NDArray[np.uint8], labels: tuple[str, ...]) -> NDArray[np.float32]:
    """Return what the model must answer, by plain numpy: float32, shape (batch, classes)."""
    means = images.reshape(len(images), -1, 3).mean(axis=1) / 255.0
    logits = SHARPNESS * means[:, [_CHANNELS.index(label) for label in labels]]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)


def expected_embeddings(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what `embed` must answer: float32, shape (batch, DIMENSION)."""
    return np.asarray(images.reshape(len(images), -1, 3).mean(axis=1) / 255.0, np.float32)


def publish_variant(store: ModelStore, source: Path, *, name: str = MODEL_NAME, live: bool = True) -> int:
    """Publish a built variant as the model's next version and return its number."""
    with store.staging() as directory:
        shutil.copytree(source, directory, dirs_exist_ok=True)
        return store.publish(name, directory, live=live)


def build_variants(root: Path) -> None:
    """Build every variant under `root`."""
    for name, variant in VARIANTS.items():
        _build(root / name, variant)


def _build(directory: Path, variant: Variant) -> None:
    import tensorflow as tf  # seconds and half a gigabyte: only the process that builds pays

    document = canonical_json(build_contract(variant).document)
    weights = np.zeros((3, len(variant.labels)), dtype=np.float32)
    for index, label in enumerate(variant.labels):
        weights[_CHANNELS.index(label), index] = SHARPNESS
    module = tf.Module()
    module.kernel = tf.Variable(weights)
    images_spec = tf.TensorSpec([None, variant.size, variant.size, 3], tf.uint8, name="images")

    def classify(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if variant.delay_s:
            end = tf.timestamp() + variant.delay_s
            (waited,) = tf.while_loop(lambda _: tf.timestamp() < end, lambda turns: (turns + 1,), [tf.constant(0)])
            # A zero, as at least one turn was taken; OpenVINO drops what nothing depends on but the order of things.
            images = images + tf.cast(tf.minimum(waited, 0), tf.uint8)
        # A reshape, so that an image of another size fails inside the graph, as in most networks.
        pixels = tf.reshape(tf.cast(images, tf.float32) / 255.0, [-1, variant.size * variant.size, 3])
        return tf.nn.softmax(tf.reduce_mean(pixels, axis=1) @ kernel)

    @tf.function(input_signature=[images_spec])
    def serving_default(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": classify(images, tf.constant(weights))}

    @tf.function(input_signature=[images_spec, tf.TensorSpec([None], tf.int32, name="class_index")])
    def explain(images: tf.Tensor, class_index: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = classify(images, module.kernel)
        predicted = tf.argmax(probabilities, axis=1, output_type=tf.int32)
        columns = tf.gather(tf.transpose(module.kernel), tf.where(class_index < 0, predicted, class_index))
        cells = tf.nn.avg_pool2d(
            tf.cast(images, tf.float32) / 255.0, variant.size // GRID, variant.size // GRID, "VALID"
        )
        heat = tf.einsum("bijc,bc->bij", cells, columns)
        saliency = tf.math.divide_no_nan(heat, tf.reduce_max(heat, axis=[1, 2], keepdims=True))
        return {"probabilities": probabilities, "saliency": saliency}

    @tf.function(input_signature=[images_spec])
    def embed(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": tf.reduce_mean(tf.cast(images, tf.float32) / 255.0, axis=[1, 2])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="row")])
    def describe(row: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"contract": tf.fill(tf.shape(row), tf.constant(document))}

    signatures = {"serving_default": serving_default, "explain": explain, "describe": describe}
    if variant.has_embeddings:
        signatures["embed"] = embed
    tf.saved_model.save(module, str(directory), signatures=signatures)
    contract_path = directory / CONTRACT_FILE
    contract_path.parent.mkdir(exist_ok=True)
    contract_path.write_text(document)
    images = build_image("red", variant.size)[None]
    write_warmup_records(
        directory / WARMUP_FILE,
        [
            build_warmup_request("serving_default", {"images": images}),
            build_warmup_request("explain", {"images": images, "class_index": np.array([-1], dtype=np.int32)}),
        ],
    )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    build_variants(Path(sys.argv[1]))
