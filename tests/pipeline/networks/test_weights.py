"""pipeline/networks/weights.py: pretrained weights are found and checked, or it is said what to put where."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from contract.store import ModelStore
from pipeline.__main__ import main
from pipeline.errors import RecipeError, WeightsError
from pipeline.networks.backbones import BACKBONES, find_backbone
from pipeline.networks.imagenet_files import ImageNetFile
from pipeline.networks.keras_applications import rescale_as_published
from pipeline.networks.network import Classifier, build_classifier
from pipeline.networks.weights import fetch_published, find_weights, imagenet_file, load_weights
from pipeline.recipe.training_settings import Model
from pipeline.training.warm_start import find_start, start_classifier
from tests.helpers.tiny_model import MODEL_NAME
from tests.helpers.versions import ColorSet, publish_trained

IMAGENET_FILES = {name: backbone.weights for name, backbone in BACKBONES.items() if backbone.weights is not None}


@pytest.fixture(name="keras_home")
def fixture_keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Keras cache."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras"


@pytest.mark.parametrize("name", sorted(IMAGENET_FILES))
def test_unreachable_weights_say_what_to_put_where(keras_home: Path, name: str) -> None:
    """Offline, the message names file, checksum, folder and the ways round; nothing else is used instead."""
    file = IMAGENET_FILES[name]

    with pytest.raises(WeightsError) as caught:
        imagenet_file(find_backbone(name))

    checksum = f"{file.algorithm} {file.checksum}" if file.checksum else "no checksum"
    for part in (file.name, checksum, str(keras_home / "models"), file.url, "weights=FILE", "weights=none"):
        assert part in str(caught.value)


def test_every_file_and_checksum_is_in_keras_source() -> None:
    """Names and checksums are those that this Keras would fetch and check, of the files without a head."""
    folder = Path(keras.__file__).parent / "src" / "applications"
    source = "".join(path.read_text() for path in sorted(folder.glob("*.py")))

    assert {name for name, backbone in BACKBONES.items() if backbone.imagenet} == set(IMAGENET_FILES)
    for name, file in IMAGENET_FILES.items():
        assert "_notop" in file.name or "no_top" in file.name
        assert (file.checksum is None) == (name in ("MobileNet", "MobileNetV2"))
        assert file.checksum is None or source.count(f'"{file.checksum}"') == 1
    assert len(IMAGENET_FILES) == len({file.name for file in IMAGENET_FILES.values()})


@pytest.mark.parametrize("name", ["ConvNeXtTiny", "VGG16"])
def test_file_of_another_checksum_in_the_cache_is_refused_and_stays(keras_home: Path, name: str) -> None:
    """It may be the user's own: both checksums are named, nothing is deleted and nothing is fetched."""
    file = IMAGENET_FILES[name]
    path = keras_home / "models" / file.name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    received = hashlib.new(file.algorithm, b"mine").hexdigest()

    with pytest.raises(WeightsError, match=f"expected {file.algorithm} {file.checksum}. Received: {received}"):
        imagenet_file(find_backbone(name))
    assert 1 == main(["weights", name])
    assert [(path.name, b"mine")] == [(each.name, each.read_bytes()) for each in path.parent.iterdir()]


@pytest.fixture(name="site")
def fixture_site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server of a folder."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("sent", [b"weights", b"something else"])
def test_a_download_appears_when_it_is_right(keras_home: Path, site: tuple[str, Path], sent: bytes) -> None:
    """Right bytes get their name; wrong ones are refused, and neither leaves anything else in the cache."""
    url, folder = site
    (folder / "w.h5").write_bytes(sent)
    file = ImageNetFile(f"{url}/w.h5", hashlib.sha256(b"weights").hexdigest())

    if sent == b"weights":
        assert b"weights" == fetch_published(file, "w", "else").read_bytes()
        (folder / "w.h5").unlink()
        assert b"weights" == fetch_published(file, "w", "else").read_bytes()
    else:
        with pytest.raises(WeightsError, match="cannot be downloaded"):
            fetch_published(file, "w", "else")
    assert (["w.h5"] if sent == b"weights" else []) == [path.name for path in keras_home.glob("models/*")]


@pytest.mark.parametrize("suffix", ["model.keras", "model.h5", "best.weights.h5"])
@pytest.mark.parametrize("labels", [["a", "b", "c"], ["a", "b"]])
def test_whole_model_gives_its_head_to_as_many_classes(
    tmp_path: Path, suffix: str, labels: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A file with a head: it is kept, with the order of classes said; with another head, it is new, and said so."""
    nothing = Model(backbone="ResNet", weights="none", input_size=32)
    source = build_classifier(nothing, find_weights(find_backbone("ResNet"), "none"), num_classes=3, channels=3)
    path = tmp_path / suffix
    if suffix.endswith(".weights.h5"):
        source.model.save_weights(path)
    else:
        source.model.save(path)
    settings = Model(backbone="ResNet", weights=str(path), input_size=32)
    weights = find_weights(find_backbone("ResNet"), str(path))

    if suffix == "model.h5" and len(labels) == 2:
        with pytest.raises(WeightsError, match="does not fit"):
            start_classifier(settings, weights, labels=labels, channels=3)
        return
    started = start_classifier(settings, weights, labels=labels, channels=3)

    kept = [np.array_equal(a, b) for a, b in zip(arrays(source.head_layers), arrays(started.head_layers), strict=True)]
    backbone = zip(arrays(source.backbone_layers), arrays(started.backbone_layers), strict=True)
    assert all(np.array_equal(a, b) for a, b in backbone)
    assert (len(labels) == 3) == all(kept)
    assert ("which is kept: its classes are taken to be a, b, c" in caplog.text) == (len(labels) == 3)
    assert ("the head is trained anew" in caplog.text) == (len(labels) == 2)


def test_weights_of_a_backbone_alone_bring_no_head(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No word about heads where there is none."""
    path = tmp_path / "mine.weights.h5"
    find_backbone("ResNet").build((32, 32, 3)).save_weights(path)
    settings = Model(backbone="ResNet", weights=str(path), input_size=32)

    start_classifier(settings, find_weights(find_backbone("ResNet"), str(path)), labels=["a", "b"], channels=3)

    assert "head" not in caplog.text


def test_weights_command_names_the_file(keras_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`weights NAME` fetches or says how to; a file that Keras has no checksum for counts when it is there."""
    assert 1 == main(["weights", "VGG16"])
    assert "md5 6d6bbae143d832006294945121d1f1fc" in capsys.readouterr().err
    path = keras_home / "models" / IMAGENET_FILES["MobileNet"].name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")

    assert 0 == main(["weights", "MobileNet"])
    assert str(path) in capsys.readouterr().out


def test_published_efficientnet_is_normalised_as_keras_does() -> None:
    """The variance takes in the Rescaling layer that Keras adds for ImageNet weights only."""
    from keras.src.applications.efficientnet import IMAGENET_STDDEV_RGB

    images = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)
    network = find_backbone("EfficientNetB0").build((32, 32, 3))
    index = next(i for i, layer in enumerate(network.layers) if isinstance(layer, keras.layers.Normalization))
    network.layers[index].set_weights([np.array([0.4, 0.5, 0.6]), np.array([0.05, 0.06, 0.07]), np.array(1)])
    network.layers[index].finalize_state()
    before = np.asarray(keras.Model(network.input, network.layers[index].output)(images))

    rescale_as_published(network)
    after = np.asarray(keras.Model(network.input, network.layers[index].output)(images))

    assert np.allclose(before / np.sqrt(IMAGENET_STDDEV_RGB), after, rtol=1e-5, atol=1e-5)


def test_backbone_without_imagenet_weights_is_refused() -> None:
    """The small network has none, and says so."""
    with pytest.raises(RecipeError, match="not offered for ResNet, which is trained from scratch"):
        find_weights(find_backbone("ResNet"), "imagenet")


def test_local_file_is_loaded_and_named_by_its_hash(tmp_path: Path) -> None:
    """A weights file ends up in the network, and its sha256 in the provenance."""
    backbone = find_backbone("ResNet")
    path = tmp_path / "mine.weights.h5"
    source = backbone.build((32, 32, 3))
    source.save_weights(path)

    weights = find_weights(backbone, str(path))
    settings = Model(backbone="ResNet", weights=str(path), input_size=32)
    classifier = build_classifier(settings, weights, num_classes=2, channels=3)

    assert weights.provenance.startswith("sha256:")
    assert 71 == len(weights.provenance)
    loaded = classifier.backbone_layers[1].get_weights()[0]
    assert np.array_equal(source.layers[1].get_weights()[0], loaded)


def test_published_file_format_is_read(tmp_path: Path) -> None:
    """Keras publishes HDF5 files of its first format; each layer finds its arrays in one."""
    path = tmp_path / "mobilenet.h5"
    source, target = (find_backbone("MobileNet").build((32, 32, 3)) for _ in range(2))
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, source)

    load_weights(target, find_weights(find_backbone("MobileNet"), str(path)), find_backbone("MobileNet"))

    for expected, actual in zip(source.get_weights(), target.get_weights(), strict=True):
        assert np.array_equal(expected, actual)


def test_file_of_another_network_is_refused(tmp_path: Path) -> None:
    """Weights that do not fit are an error that names file and network."""
    path = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save_weights(path)
    network = find_backbone("ResNet").build((32, 32, 3))

    with pytest.raises(WeightsError, match=r"other\.weights\.h5 does not fit"):
        load_weights(network, find_weights(find_backbone("ResNet"), str(path)), find_backbone("ResNet"))


def test_file_may_be_below_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--set model.weights=~/...` reaches the recipe with its ~."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "vgg.h5").write_bytes(b"weights")

    assert tmp_path / "vgg.h5" == find_weights(find_backbone("VGG19"), "~/vgg.h5").file
    with pytest.raises(WeightsError, match="which is no file"):
        find_weights(find_backbone("VGG19"), "~no-such-user/vgg.h5")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """A typo in a path is not an unknown keyword."""
    with pytest.raises(WeightsError, match="which is no file"):
        find_weights(find_backbone("ResNet"), str(tmp_path / "nowhere.h5"))


def test_unknown_backbone_lists_the_known() -> None:
    """A misspelt backbone gets the list."""
    with pytest.raises(RecipeError, match=r"expected one of AlexNet, .*Received: 'ResNet5'"):
        find_backbone("ResNet5")


def test_too_small_input_is_refused() -> None:
    """A backbone's smallest input is checked before Keras fails in its own words."""
    with pytest.raises(RecipeError, match="at least 75 for InceptionV3"):
        build_classifier(
            Model(backbone="InceptionV3", weights="none", input_size=64),
            find_weights(find_backbone("InceptionV3"), "none"),
            num_classes=2,
            channels=3,
        )


class Trained:
    """A version in a store whose run left a Keras model: a network of random weights, as good as any to go on from."""

    def __init__(self, root: Path, source: Path, *, input_size: int = 32) -> None:
        self.store, self.runs_dir = ModelStore(root / "models"), root / "runs"
        settings = Model(backbone="ResNet", weights="none", input_size=input_size)
        self.classifier = build_classifier(settings, find_weights(find_backbone("ResNet"), "none"), **THREE)
        file = self.runs_dir / MODEL_NAME / RUN / "model.keras"
        images = ColorSet(root / "set")
        file.parent.parent.mkdir(parents=True)
        self.classifier.model.save(root / "model.keras")
        self.sha256 = hashlib.sha256((root / "model.keras").read_bytes()).hexdigest()
        provenance = {"recipe": {"model": settings.model_dump(mode="json")}, "keras_model_sha256": self.sha256}
        publish_trained(self.store, self.runs_dir, source, images, run=RUN, **provenance)
        (root / "model.keras").rename(file)
        self.file = file
        self.labels = [label.id for label in self.store.read_contract(MODEL_NAME, 1).labels]

    def start(self, labels: list[str], **settings: Any) -> Classifier:
        chosen = Model(backbone="ResNet", **{"weights": f"{MODEL_NAME}/1", "input_size": 32, **settings})
        return start_classifier(chosen, find_start(chosen, self.store, self.runs_dir), labels=labels, channels=3)


THREE = {"num_classes": 3, "channels": 3}
RUN = "20260101T000000Z-aaaaaa"


@pytest.fixture(name="trained")
def fixture_trained(tmp_path: Path, tiny_models: dict[str, Path]) -> Trained:
    """A version to go on from."""
    return Trained(tmp_path, tiny_models["plain"])


def arrays(layers: list[Any]) -> list[np.ndarray]:
    return [array for layer in layers for array in layer.get_weights()]


def test_training_goes_on_from_a_version(trained: Trained) -> None:
    """Same labels: the whole network is taken over, and the provenance is the hash of its file."""
    weights = find_start(Model(weights=f"{MODEL_NAME}/live"), trained.store, trained.runs_dir)

    started = trained.start(trained.labels)

    assert f"sha256:{trained.sha256}" == weights.provenance
    for expected, actual in zip(arrays(trained.classifier.model.layers), arrays(started.model.layers), strict=True):
        assert np.array_equal(expected, actual)


def test_version_with_other_labels_gives_its_backbone(trained: Trained, caplog: pytest.LogCaptureFixture) -> None:
    """Two classes instead of three, at another size: the convolutions are taken over, the head is new, and said so."""
    started = trained.start(["ill", "well"], input_size=48)

    for expected, actual in zip(
        arrays(trained.classifier.backbone_layers), arrays(started.backbone_layers), strict=True
    ):
        assert np.array_equal(expected, actual)
    assert (None, 2) == started.model.output_shape
    assert "the head is trained anew" in caplog.text


def test_version_of_another_network_is_refused(trained: Trained) -> None:
    """Its layers must be the recipe's."""
    settings = Model(backbone="LeNet", weights=f"{MODEL_NAME}/1", input_size=32)
    weights = find_start(settings, trained.store, trained.runs_dir)

    with pytest.raises(WeightsError, match="is a ResNet for 3 channels, whose layers do not fit"):
        start_classifier(settings, weights, labels=trained.labels, channels=3)


def test_version_whose_model_is_gone_or_changed_is_refused(trained: Trained) -> None:
    """The file is checked against the contract; a deleted one is named with where it was expected."""
    trained.file.write_bytes(b"something else")
    with pytest.raises(WeightsError, match=f"expected sha256 {trained.sha256}"):
        trained.start(trained.labels)

    trained.file.unlink()
    with pytest.raises(WeightsError, match=f"expected model.keras of run {RUN}"):
        trained.start(trained.labels)


@pytest.mark.parametrize(
    ("reference", "words"), [("nothing/1", "no model 'nothing'"), (f"{MODEL_NAME}/7", "with one of 1")]
)
def test_unknown_version_is_refused(trained: Trained, reference: str, words: str) -> None:
    """The store's own words say what there is."""
    with pytest.raises(WeightsError, match=words):
        find_start(Model(weights=reference), trained.store, trained.runs_dir)
