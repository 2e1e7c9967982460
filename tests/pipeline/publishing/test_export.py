"""pipeline/publishing/export.py: the artifact computes what the Keras model does, in every runtime that loads it."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from contract.model import InputSpec, Label, ModelContract, build_document
from contract.store import CONTRACT_FILE
from engine.loading import load_engine
from pipeline.networks.backbone import preprocess
from pipeline.networks.network import Classifier, build_classifier
from pipeline.networks.weights import Weights
from pipeline.publishing.export import export_saved_model
from pipeline.recipe.recipe import Model

SIZE = 64
TEMPERATURE = 1.5


class Exported:
    """A classifier with random weights, its contract and its SavedModel."""

    def __init__(
        self, backbone: str, head: str, directory: Path, size: int = SIZE, *, kernel_offset: float = 0.0
    ) -> None:
        keras.utils.set_random_seed(1)
        settings = Model(backbone=backbone, weights="none", head=head, input_size=size)  # type: ignore[arg-type]
        self.classifier: Classifier = build_classifier(settings, Weights("none", None), num_classes=3, channels=3)
        last = self.classifier.head_layers[-1]
        last.kernel.assign(last.kernel + kernel_offset)
        labels = [Label(name, name) for name in ("glaucoma", "normal", "suspect")]
        document = build_document(
            labels,
            InputSpec(size, size),
            saliency=self.classifier.saliency,
            temperature=TEMPERATURE,
            embedding={"dimension": self.classifier.embedding_dimension},
        )
        self.contract = ModelContract.from_document(document)
        self.directory = directory
        export_saved_model(self.classifier, self.contract, directory)

    def pooled(self, images: np.ndarray) -> Any:
        """Return the mean of the last feature map, by Keras's own layer."""
        feature_map = self.classifier.feature_map
        model = keras.Model(self.classifier.model.input, keras.layers.GlobalAveragePooling2D()(feature_map))
        return model(preprocess(images.astype(np.float32), self.classifier.preprocessing), training=False).numpy()

    def logits(self, images: np.ndarray) -> Any:
        model = keras.Model(self.classifier.model.input, self.classifier.logits)
        return model(preprocess(images.astype(np.float32), self.classifier.preprocessing), training=False)


@pytest.fixture(
    name="exported", scope="module", params=[("VGG16", "gap"), ("ResNet", "flatten-dense")], ids=["gap", "dense"]
)
def fixture_exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """One artifact for each head."""
    return Exported(*request.param, tmp_path_factory.mktemp("export"))


def pictures(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).integers(0, 256, (batch, SIZE, SIZE, 3), np.uint8)


def test_every_signature_runs_in_a_session(exported: Exported) -> None:
    """tf.compat.v1.saved_model.load in a Session runs each signature at batch 1, 2 and 7, equal to Keras."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(exported.directory))

        def call(name: str, **feeds: np.ndarray) -> dict[str, np.ndarray]:
            signature = meta.signature_def[name]
            tensors = {output: info.name for output, info in signature.outputs.items()}
            values = {signature.inputs[key].name: value for key, value in feeds.items()}
            return session.run(tensors, values)  # type: ignore[no-any-return]

        answers = {
            batch: (
                call("serving_default", images=pictures(batch)),
                call("explain", images=pictures(batch), class_index=np.full(batch, -1, np.int32)),
                call("embed", images=pictures(batch)),
                call("describe", row=np.zeros(batch, np.int32)),
            )
            for batch in (1, 2, 7)
        }

    for batch, (predicted, explained, embedded, described) in answers.items():
        expected = tf.nn.softmax(exported.logits(pictures(batch)) / TEMPERATURE).numpy()
        assert np.abs(expected - predicted["probabilities"]).max() < 1e-5
        assert np.abs(expected - explained["probabilities"]).max() < 1e-5
        assert (batch,) == explained["saliency"].shape[:1]
        pooled = exported.pooled(pictures(batch))
        assert (batch, exported.contract.embedding_dimension) == pooled.shape == embedded["embedding"].shape
        assert np.float32 == embedded["embedding"].dtype
        assert np.abs(pooled - embedded["embedding"]).max() < 1e-5 * np.abs(pooled).max()
        assert [exported.contract.to_json().encode()] * batch == list(described["contract"])


def test_saliency_equals_gradient_tape(exported: Exported) -> None:
    """The head carried back by hand gives Grad-CAM's numbers, for a chosen class and for the predicted one."""
    images = pictures(3)
    model = exported.classifier.model
    layers = [layer for layer in model.layers if layer not in exported.classifier.backbone_layers]
    backbone = keras.Model(model.input, exported.classifier.feature_map)
    features = backbone(preprocess(images.astype(np.float32), exported.classifier.preprocessing), training=False)
    chosen = np.array([2, 0, -1], np.int32)
    with tf.GradientTape() as tape:
        tape.watch(features)
        x = features
        for layer in layers[:-1]:  # up to the logits
            x = layer(x)
        wanted = np.where(chosen < 0, np.argmax(x, axis=1), chosen)
        score = tf.reduce_sum(x * tf.one_hot(wanted, 3), axis=1)
    weights = tf.reduce_mean(tape.gradient(score, features), axis=[1, 2])
    maps = tf.nn.relu(tf.einsum("bhwk,bk->bhw", features, weights))
    expected = tf.math.divide_no_nan(maps, tf.reduce_max(maps, axis=[1, 2], keepdims=True)).numpy()

    signature = tf.saved_model.load(str(exported.directory)).signatures["explain"]
    actual = signature(images=tf.constant(images), class_index=tf.constant(chosen))["saliency"].numpy()

    assert expected.shape == actual.shape
    assert np.abs(expected - actual).max() < 1e-4


@pytest.mark.parametrize("head", ["gap", "flatten-dense"])
def test_explain_rounds_as_serving_default_does(head: str, tmp_path: Path) -> None:
    """With logits in the thousands the last bit of one moves a probability, so both signatures must compute alike."""
    exported = Exported("ResNet", head, tmp_path / "model", kernel_offset=1e4)
    images = pictures(4)
    engine = load_engine(exported.directory, engine="openvino", precision="float32")

    predicted = engine.run("serving_default", {"images": images})["probabilities"]
    explained = engine.run("explain", {"images": images, "class_index": np.full(4, -1, np.int32)})["probabilities"]

    engine.close()
    assert np.abs(exported.logits(images)).max() > 1000
    assert np.array_equal(predicted, explained)


def graph_nodes(directory: Path) -> list[Any]:
    from contract.tensors import saved_model_pb2

    message = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    graph = message.meta_graphs[0].graph_def
    return [*graph.node, *(node for function in graph.library.function for node in function.node_def)]


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def weight_bytes(classifier: Classifier) -> int:
    return sum(int(np.prod(variable.shape)) * 4 for variable in classifier.model.variables)


@pytest.mark.parametrize(
    ("backbone", "head", "size"),
    [("MnistCNN", "flatten-dense", 28), ("AlexNet", "flatten-dense", 67), ("VGG16", "gap", 32)],
)
def test_a_version_has_the_size_of_its_weights(backbone: str, head: str, size: int, tmp_path: Path) -> None:
    """Every weight is written once: the folder takes at most 1.15 times the bytes of the weights."""
    exported = Exported(backbone, head, tmp_path, size=size)
    weights = weight_bytes(exported.classifier)

    assert weights <= size_of(tmp_path) <= 1.15 * weights


def test_no_gradient_op_is_in_the_graph(exported: Exported) -> None:
    """OpenVINO reads no gradient ops; neither does anybody need them."""
    assert [] == [node.op for node in graph_nodes(exported.directory) if "Grad" in node.op or "Backprop" in node.op]


def test_contract_stands_beside_the_graph(exported: Exported) -> None:
    """assets.extra/contract.json is what describe returns."""
    text = (exported.directory / CONTRACT_FILE).read_text()

    assert exported.contract.sha256 == ModelContract.from_json(text).sha256


@pytest.mark.parametrize("backbone", ["ResNet50", "ResNet", "MobileNetV2", "DenseNet121", "EfficientNetB0"])
def test_preprocessing_in_the_graph_is_keras_own(backbone: str) -> None:
    """Pixels reach the network as the backbone's own preprocess_input makes them."""
    from pipeline.networks.backbones import find_backbone

    modules = {
        "ResNet50": keras.applications.resnet50,
        "ResNet": keras.applications.mobilenet_v2,  # the same [-1, 1]
        "MobileNetV2": keras.applications.mobilenet_v2,
        "DenseNet121": keras.applications.densenet,
        "EfficientNetB0": keras.applications.efficientnet,
    }
    images = pictures(2).astype(np.float32)

    actual = preprocess(tf.constant(images), find_backbone(backbone).preprocessing)

    assert np.allclose(modules[backbone].preprocess_input(images.copy()), actual, atol=1e-5)
