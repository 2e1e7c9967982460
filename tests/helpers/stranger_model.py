"""A SavedModel that only TensorFlow runs: encoded pictures in, texts out, a table with its file, a scalar input.

python -m tests.helpers.stranger_model DIR
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

NAMES = ("red", "green", "blue")


def build(directory: Path) -> None:
    """Write it: `pictures` (PNG or JPEG, string [batch]) and `gain` (float32, a scalar) give `means` and `names`."""
    import tensorflow as tf  # seconds and half a gigabyte: only the process that builds pays

    names_file = directory.parent / "names.txt"
    names_file.write_text("\n".join(NAMES))
    whole, line = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
    module = tf.Module()
    module.names = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(str(names_file), tf.int64, line, tf.string, whole), default_value="nothing"
    )

    def look(picture: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_image(picture, channels=3, expand_animations=False)
        return tf.reduce_mean(tf.cast(pixels, tf.float32), axis=[0, 1])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.float32)])
    def classify(pictures: tf.Tensor, gain: tf.Tensor) -> dict[str, tf.Tensor]:
        means = tf.map_fn(look, pictures, fn_output_signature=tf.TensorSpec([3], tf.float32)) * gain
        return {"means": means, "names": module.names.lookup(tf.argmax(means, axis=1))}

    tf.saved_model.save(module, str(directory), signatures={"serving_default": classify})


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    build(Path(sys.argv[1]))
