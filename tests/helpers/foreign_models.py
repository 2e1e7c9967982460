"""SavedModels that other programs might have written: TensorFlow 1 and 2, float and uint8, right and wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.__main__ import main

SIZE = 12
NUM_CLASSES = 3
_RNG_SEED = 3
IMAGES = np.random.default_rng(5).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)


def import_it(tmp_path: Path, path: Path, *flags: str) -> int:
    """Import a model as "pets" into the store `models` below a test's folder; returns the command's status."""
    return main(["import", str(path), "--name=pets", f"--models-dir={tmp_path / 'models'}", *flags])


def kernel(channels: int = 3, num_classes: int = NUM_CLASSES) -> np.ndarray:
    """Weights from mean colour to logits, float32, shape (channels, classes)."""
    return np.random.default_rng(_RNG_SEED).normal(0, 1, (channels, num_classes)).astype(np.float32)


def write_model(
    directory: Path,
    *,
    shape: tuple[int | None, ...] = (None, SIZE, SIZE, 3),
    dtype: Any = tf.float32,
    scale: float = 1 / 255,
    finish: Callable[[Any], Any] = tf.nn.softmax,
    channels: int = 3,
    num_classes: int = NUM_CLASSES,
) -> Path:
    """Write a TensorFlow 2 SavedModel: finish(mean colour * scale @ kernel), input `pixels`, output `scores`."""
    module = tf.Module()
    module.kernel = tf.Variable(kernel(channels, num_classes))

    @tf.function(input_signature=[tf.TensorSpec(shape, dtype, name="pixels")])
    def serve(pixels: Any) -> dict[str, Any]:
        values = tf.cast(pixels, tf.float32) * scale
        return {"scores": finish(tf.reduce_mean(values, axis=[1, 2]) @ module.kernel)}

    module.serve = serve
    tf.saved_model.save(module, str(directory), signatures={"serving_default": serve})
    return directory


def expected(images: np.ndarray, *, scale: float = 1 / 255) -> np.ndarray:
    """The probabilities of `write_model`'s model for preprocessed images, by numpy."""
    logits = images.astype(np.float64).mean(axis=(1, 2)) * scale @ kernel(images.shape[-1])
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def write_tensorflow1_model(directory: Path) -> Path:
    """Write a SavedModel as TensorFlow 1 does: a graph, a session, a vocabulary table in its assets, two signatures."""
    v1 = tf.compat.v1
    vocabulary = directory.with_name("vocabulary.txt")
    vocabulary.write_text("a\nb\nc\n")
    with tf.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(tf.float32, [None, SIZE, SIZE, 3], name="fovea/input")
        weights = v1.get_variable("weights", initializer=kernel())
        scores = tf.nn.softmax(tf.matmul(tf.reduce_mean(image, axis=[1, 2]) / 255, weights), name="scores")
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, tf.constant(str(vocabulary), name="vocabulary"))
        table = tf.lookup.StaticVocabularyTable(
            tf.lookup.TextFileInitializer(
                v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS)[0],
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            1,
        )
        # A score that needs the table: it is worth nothing unless the table was initialized and its file is found.
        known = tf.cast(table.lookup(tf.constant(["b"])) < 3, tf.float32)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        build = v1.saved_model.signature_def_utils.predict_signature_def
        builder = v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": build({"image": image}, {"scores": scores * known}),
                "other": build({"image": image}, {"mean": tf.reduce_mean(image)}),
            },
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()
    return directory
