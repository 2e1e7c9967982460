"""compare.py and rounding.py: what rounding explains is published with a warning, and nothing else is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from contract.model import InputSpec, Label, ModelContract, build_document
from engine.kept import build_synthetic_images
from engine.loading import load_engine
from pipeline.errors import VerificationError
from pipeline.publishing.deviations.compare import MAX_DEVIATION, compare, compare_embeddings, synthetic_images
from pipeline.publishing.deviations.rounding import NUM_CHANGED, rounding_outputs

SIZE = 8
CONTRACT = ModelContract.from_document(
    build_document(
        [Label(name, name) for name in ("blue", "green", "red")],
        InputSpec(SIZE, SIZE),
        saliency="cam",
        embedding={"dimension": 3},
        provenance={"run": "20260101T000000Z-cccccc"},
    )
)
IMAGES = build_synthetic_images(CONTRACT.input)
KERNEL = np.random.default_rng(1).normal(0, 2, (3, 3)).astype(np.float32)


def build(directory: Path, offset: float) -> Path:
    """Write a model of mean colours whose logits are all moved by about `offset`, so that a float32 rounds them."""
    spec = tf.TensorSpec([None, SIZE, SIZE, 3], tf.uint8, name="images")

    @tf.function(input_signature=[spec])
    def serving_default(images: Any) -> dict[str, Any]:
        values = tf.reduce_mean(tf.cast(images, tf.float32) / 255.0, axis=[1, 2])
        return {"probabilities": tf.nn.softmax(values @ (KERNEL + np.float32(offset)))}

    @tf.function(input_signature=[spec])
    def embed(images: Any) -> dict[str, Any]:
        values = tf.reduce_mean(tf.cast(images, tf.float32) / 255.0, axis=[1, 2])
        moved = tf.reduce_sum(values, axis=1, keepdims=True) * np.float32(offset)
        return {"embedding": values @ (KERNEL + np.float32(offset)) - moved}

    signatures = {"serving_default": serving_default, "embed": embed}
    tf.saved_model.save(tf.Module(), str(directory), signatures=signatures)
    return directory


def check(directory: Path, output: str, move: float) -> None:
    """Compare an output with the same, one number of one image moved."""
    engine = load_engine(directory, engine="tensorflow")
    signature = "embed" if output == "embedding" else "serving_default"
    expected = engine.run(signature, {"images": IMAGES})[output]
    engine.close()
    received = expected.copy()
    received[1, 0] += move
    images = synthetic_images(directory, CONTRACT)
    (compare_embeddings if output == "embedding" else compare)(engine, received, expected, images, what="one, another")


def test_last_bits_move_what_is_ill_conditioned(tmp_path: Path) -> None:
    """Outputs of three changed networks: as good as the same of one, visibly others of one with large logits."""
    for offset, least, most in ((0.0, 0.0, 1e-6), (20_000.0, 1e-4, 1e-2)):
        directory = build(tmp_path / f"{offset:g}", offset)
        own, changed = rounding_outputs(directory, "serving_default", {"images": IMAGES}, "probabilities")

        assert NUM_CHANGED == len(changed)
        assert least < max(np.abs(other - own).max() for other in changed) < most
        assert all(not np.array_equal(own, other) for other in changed)


def test_other_formats_have_the_limit_alone(tmp_path: Path) -> None:
    """A folder without saved_model.pb, as of an ONNX model: nothing is measured, so nothing is excused."""
    images = synthetic_images(tmp_path, CONTRACT)

    assert 0.0 == images.rounding(np.array([2e-4, 0, 0, 0], np.float32))
    assert 0.0 == images.embedding_rounding(np.array([2e-3, 0, 0, 0], np.float32))


@pytest.mark.parametrize("output", ["probabilities", "embedding"])
def test_rounding_excuses_what_it_explains(tmp_path: Path, output: str, caplog: pytest.LogCaptureFixture) -> None:
    """The same deviation of two networks: one rounds as far, which is said, the other does not."""
    move = 4 * MAX_DEVIATION if output == "probabilities" else 5e-3
    check(build(tmp_path / "large", 20_000.0), output, move)
    assert "The network is ill-conditioned" in caplog.text

    with pytest.raises(VerificationError, match=r"the last bit of each weight moves them"):
        check(build(tmp_path / "ordinary", 0.0), output, move)


def test_a_deviation_that_matters_is_refused_whatever_rounding_does(tmp_path: Path) -> None:
    """Of a network that rounds without bounds nothing could be said at all."""
    with pytest.raises(VerificationError, match=r"up to 0\.002\. Received: 3\.0"):
        check(build(tmp_path / "model", 200_000.0), "probabilities", 3e-3)
