"""`pipeline imagenet`: a 1000-class network with its names; here with random weights from a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest

from contract.image import decode_image
from contract.model import ModelContract
from contract.predictions import decode_predictions
from contract.store import VERIFICATION_FILE, ModelStore
from engine.kept import build_synthetic_images
from engine.loading import load_engine
from pipeline.__main__ import main
from pipeline.networks.backbone import preprocess
from pipeline.networks.backbones import BACKBONES, find_backbone
from pipeline.networks.imagenet_files import CLASS_INDEX
from pipeline.networks.weights import Weights
from pipeline.publishing.imagenet import build_imagenet_classifier
from service.client import FoveaClient
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.pictures import encode

CLASSIFIER_FILES = {name: b.classifier_weights for name, b in BACKBONES.items() if b.classifier_weights is not None}
BACKBONE = "MobileNetV3Small"  # the smallest, and the one with the most unusual head
SIZE = 224
FAMILIES = ["ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionV3", "MobileNet"]
FAMILIES += ["MobileNetV2", "NASNetMobile", "ResNet50", "ResNet50V2", "VGG16", "Xception"]


@dataclass(frozen=True)
class Files:
    """What a user without a network brings.

    Attributes:
        weights: of the network with classification layers, as Keras saves them.
        class_index: 1000 names in the form of Keras's file.
        network: what the weights were saved from.
    """

    weights: Path
    class_index: Path
    network: keras.Model

    def flags(self, models: Path, *more: str) -> list[str]:
        given = [f"--weights={self.weights}", f"--class-index={self.class_index}", f"--models-dir={models}"]
        return ["imagenet", f"--backbone={BACKBONE}", *given, *more]


@pytest.fixture(name="files", scope="module")
def fixture_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Random weights: Keras's cannot be fetched in a test."""
    root = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(4)
    network = getattr(keras.applications, BACKBONE)(include_top=True, weights=None)
    # Random kernels alone make 1000 nearly equal probabilities, which would hide a wrong order.
    network.get_layer("logits").set_weights(
        [np.random.default_rng(0).normal(0, 3, (1, 1, 1024, 1000)), np.random.default_rng(1).normal(0, 1, 1000)]
    )
    weights = root / "own.weights.h5"
    network.save_weights(weights)
    names = {str(i): [f"n{10_000_000 + 7 * i:08d}", f"thing_{i}"] for i in range(1000)}
    (root / "index.json").write_text(json.dumps(names))
    return Files(weights, root / "index.json", network)


@pytest.fixture(name="published", scope="module")
def fixture_published(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the published version; the store's name for it is the backbone's."""
    models = tmp_path_factory.mktemp("store") / "models"
    assert 0 == main(files.flags(models))
    yield models / BACKBONE.lower() / "1"


def expected_probabilities(files: Files, images: np.ndarray) -> np.ndarray:
    pixels = preprocess(images.astype(np.float32), find_backbone(BACKBONE).preprocessing)
    return np.asarray(files.network(pixels, training=False))


def test_imagenet_model_computes_what_keras_does(files: Files, published: Path) -> None:
    """Signature, contract and names: the three best of each image are Keras's three best, by id and name."""
    contract = ModelContract.from_json((published / "assets.extra/contract.json").read_bytes())
    images = build_synthetic_images(contract.input)
    engine = load_engine(published, warm_up=True)
    try:
        answer = engine.run("explain", {"images": images, "class_index": np.array([-1, 7, 0, 999], np.int32)})
        served = engine.run("serving_default", {"images": images})["probabilities"]
        embedding = engine.run("embed", {"images": images})["embedding"]
    finally:
        engine.close()

    expected = expected_probabilities(files, images)
    assert np.abs(expected - served).max() < 1e-4
    assert np.abs(expected - answer["probabilities"]).max() < 1e-4
    assert (4, 7, 7) == answer["saliency"].shape
    assert (4, contract.embedding_dimension) == embedding.shape
    for row, ranked in zip(expected, decode_predictions(served, contract.labels, 3), strict=True):
        best = np.argsort(row)[::-1][:3]
        assert [(f"n{10_000_000 + 7 * i:08d}", f"thing_{i}") for i in best] == [(p.id, p.label) for p in ranked]


def test_contract_and_verification_are_complete(published: Path) -> None:
    """What a trained version has and an ImageNet network can have is there."""
    contract = ModelContract.from_json((published / "assets.extra/contract.json").read_bytes())
    provenance = contract.document["provenance"]
    verification = json.loads((published / VERIFICATION_FILE).read_text())

    assert (SIZE, SIZE, 3) == contract.input.shape
    assert ("crop", "grad-cam", 1.0) == (contract.input.fit, contract.saliency, contract.temperature)
    assert BACKBONE == provenance["backbone"]
    assert provenance["weights"].startswith("sha256:")
    assert "first" == verification["gate"]["verdict"]
    assert verification["deviations"]
    assert ModelStore(published.parents[1]).read_index()[BACKBONE.lower()].live == 1


def test_offline_everything_missing_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both files with checksum, address and folder, and the ways round; nothing is published."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))

    assert 1 == main(["imagenet", "--backbone=VGG19", f"--models-dir={tmp_path / 'models'}"])

    reason = capsys.readouterr().err.splitlines()[-1]
    for file in (CLASS_INDEX, CLASSIFIER_FILES["VGG19"]):
        assert f"{file.name} (md5 {file.checksum}) in {tmp_path / 'keras/models'}" in reason
        assert file.url in reason
    assert "--class-index FILE" in reason
    assert "--weights FILE" in reason
    assert not (tmp_path / "models/vgg19").exists()


def test_cached_class_index_must_be_keras_own(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only a file that was given by name may be another: one in the cache is checked."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / CLASS_INDEX.name).write_bytes(files.class_index.read_bytes())

    status = main(
        ["imagenet", f"--backbone={BACKBONE}", f"--weights={files.weights}", f"--models-dir={tmp_path / 'm'}"]
    )

    assert 1 == status
    assert f"md5 {CLASS_INDEX.checksum}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--backbone=LeNet"], "expected a network with published ImageNet weights"),
        (["--backbone=ResNet51"], "model.backbone: expected one of"),
        (["--weights=nowhere.h5"], "--weights: expected a file. Received: no such file, nowhere.h5"),
        (["--class-index=nowhere.json"], "--class-index: expected a file. Received: no such file, nowhere.json"),
        (["--class-index={short}"], "expected 1000 classes. Received: 2"),
        (["--backbone=MobileNet"], "does not fit"),
        (["--name=a/b"], "Received: 'a/b'"),
    ],
)
def test_what_does_not_fit_is_refused(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], words: str
) -> None:
    """With the reason, and nothing published."""
    short = tmp_path / "short.json"
    short.write_text('{"0": ["n1", "a"], "1": ["n2", "b"]}')

    assert 1 == main(files.flags(tmp_path / "models", *[flag.format(short=short) for flag in flags]))

    assert words in capsys.readouterr().err.splitlines()[-1]
    assert [] == [path for path in (tmp_path / "models").glob("*/[0-9]*")]


def test_every_classifier_file_is_in_keras_source() -> None:
    """Names and checksums are those that this Keras would fetch and check, of the files with classification layers."""
    folder = Path(keras.__file__).parent / "src" / "applications"
    source = "".join(path.read_text() for path in sorted(folder.glob("*.py")))

    assert f'file_hash="{CLASS_INDEX.checksum}"' in source
    assert {name for name, backbone in BACKBONES.items() if backbone.imagenet} == set(CLASSIFIER_FILES)
    for name, file in CLASSIFIER_FILES.items():
        assert "top" not in file.name
        assert "nasnet" not in file.name.lower() or f'"{file.name}"' in source
        assert (file.checksum is None) == (name in ("MobileNet", "MobileNetV2"))
        assert file.checksum is None or source.count(f'"{file.checksum}"') == 1
    names = {file.name for file in CLASSIFIER_FILES.values()}
    assert len(CLASSIFIER_FILES) == len(names)
    assert {"resnet50_weights_tf_dim_ordering_tf_kernels.h5", "convnext_tiny.h5", "efficientnetb0.h5"} <= names
    assert {"weights_mobilenet_v3_small_224_1.0_float.h5", "mobilenet_1_0_224_tf.h5", "nasnet_mobile.h5"} <= names


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    FAMILIES,
)
def test_every_family_is_built_with_its_own_head(name: str) -> None:
    """The probabilities are those of Keras's own network, and the feature map is the last one."""
    keras.utils.set_random_seed(1)
    backbone = find_backbone(name)
    classifier = build_imagenet_classifier(backbone, Weights("none", None))
    network = getattr(keras.applications, name)(include_top=True, weights=None)
    network.set_weights(classifier.model.get_weights())
    images = np.random.default_rng(0).uniform(-1, 1, (1, *network.input_shape[1:])).astype(np.float32)

    expected, actual = (np.asarray(model(images, training=False)) for model in (network, classifier.model))

    assert (1, 1000) == actual.shape
    assert np.abs(expected - actual).max() < 1e-6
    assert 4 == len(classifier.feature_map.shape)
    assert classifier.feature_map.shape[1] > 1
    keras.backend.clear_session()


@pytest.mark.slow
def test_served_stock_model_answers_with_ids_and_names(files: Files, published: Path, tmp_path: Path) -> None:
    """Verified again, then over the embedded model server and the gateway: the three best, as Keras would name them."""
    assert 0 == main(["verify", BACKBONE.lower(), f"--models-dir={published.parents[1]}"])
    picture = encode("red", size=300)
    contract = ModelContract.from_json((published / "assets.extra/contract.json").read_bytes())
    image = decode_image(picture, contract.input)[None]
    expected = expected_probabilities(files, image)[0]
    process = ServiceProcess(["up", "--port=0", f"--models-dir={published.parents[1]}"], tmp_path)
    try:
        url = process.wait_for_url()
        process.wait_until_ready(url)
        with FoveaClient(url) as client:
            (prediction,) = client.predict([picture], top=3).predictions
    finally:
        process.stop()

    best = np.argsort(expected)[::-1][:3]
    assert [f"n{10_000_000 + 7 * i:08d}" for i in best] == [item.id for item in prediction.top]
    assert [f"thing_{i}" for i in best] == [item.label for item in prediction.top]
