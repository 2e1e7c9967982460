"""features.py: frozen features are computed once per image and view, and train the classifier itself."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import pytest

from contract.model import InputSpec
from contract.store import ModelStore
from engine.loading import list_precisions
from pipeline.data import pixels as pixels_module
from pipeline.data.ingest import ingest
from pipeline.data.pixels import Pixels
from pipeline.data.split import Manifest, ManifestRow
from pipeline.features.feature_store import FOLDER
from pipeline.features.features import FeatureExtractor, hash_network
from pipeline.networks.backbone import preprocess
from pipeline.networks.network import Classifier, build_classifier
from pipeline.networks.splitting import split_before_head, split_before_training
from pipeline.networks.weights import Weights
from pipeline.recipe.recipe import Model, Recipe, load_recipe
from pipeline.run.run import run
from pipeline.training.feature_batches import FeatureBatches
from pipeline.training.stage_data import StageData
from tests.helpers.image_sets import color_files, png, write_files

LABELS = ("blue", "green", "red")
FROZEN = ["model.weights=some.h5", "train.freeze_backbone=true", "train.batch_size=8"]


def network(head: str = "gap", *, seed: int = 0) -> Classifier:
    keras.utils.set_random_seed(seed)
    settings = Model.model_validate({"backbone": "ResNet", "weights": "none", "input_size": 32, "head": head})
    return build_classifier(settings, Weights("none", None), num_classes=3, channels=3)


def recipe(*overrides: str) -> Recipe:
    return load_recipe("demo", [*FROZEN, *overrides])


def pixels(folder: Path, size: int = 32) -> Pixels:
    return Pixels(ingest(folder).source, InputSpec(size, size, 3, "rgb"))


def extractor(classifier: Classifier, folder: Path, settings: Recipe, *, size: int = 32) -> FeatureExtractor:
    frozen = split_before_head(classifier).frozen
    return FeatureExtractor(
        frozen, classifier, pixels=pixels(folder / "colors", size), recipe=settings, folder=folder / "features"
    )


@pytest.fixture(name="rows")
def fixture_rows(tmp_path: Path) -> list[ManifestRow]:
    """Thirty-six pictures of three colours, written below tmp_path/colors."""
    write_files(tmp_path / "colors", color_files())
    return rows_of(tmp_path / "colors")


def rows_of(folder: Path) -> list[ManifestRow]:
    def row(path: str, label: str) -> ManifestRow:
        return ManifestRow(path, hashlib.sha256((folder / path).read_bytes()).hexdigest(), label, path, "train")

    return [row(example.path, example.label) for example in ingest(folder).examples if example.split == "train"]


def segments(folder: Path) -> set[Path]:
    return set((folder / "features").glob("*/*.npy"))


@pytest.mark.parametrize("head", ["gap", "flatten-dense"])
def test_two_parts_are_the_classifier(head: str) -> None:
    """The two networks in turn give the classifier's probabilities; training the second changes the classifier."""
    classifier = network(head)
    split = split_before_head(classifier)
    images = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype(np.float32)
    targets = np.arange(8) % 3

    features = split.frozen(images, training=False)
    before = classifier.model(images, training=False)
    np.testing.assert_allclose(before, split.trainable(features, training=False), atol=1e-6)

    split.trainable.compile(
        optimizer=keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy", jit_compile=False
    )
    split.trainable.fit(features, targets, epochs=2, verbose=0)
    after = classifier.model(images, training=False)
    assert np.abs(np.asarray(after) - np.asarray(before)).max() > 0.01
    np.testing.assert_allclose(after, split.trainable(features, training=False), atol=1e-6)


def test_features_are_what_the_frozen_network_computes(tmp_path: Path, rows: Sequence[ManifestRow]) -> None:
    """View 0 is the image itself; other views differ from it and from each other, and are the same every time."""
    classifier = network()
    first = extractor(classifier, tmp_path, recipe())
    views = first.views(rows, 3)
    assert first.compute(views)

    images = pixels(tmp_path / "colors").batch([row.path for row in rows]).astype(np.float32)
    expected = split_before_head(classifier).frozen(preprocess(images, classifier.preprocessing), training=False)
    features = first.store.batch([view.key for view in views]).reshape(len(rows), 3, -1).astype(np.float32)
    allowed = 0.02 if list_precisions("openvino")[1:] else 2e-3  # of the largest: pipeline/features/frozen_network.py
    np.testing.assert_allclose(expected, features[:, 0], rtol=0, atol=allowed * float(np.max(expected)))
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert (np.abs(features[:, one] - features[:, two]).max(axis=1) > 0).all()

    other = FeatureExtractor(
        split_before_head(classifier).frozen,
        classifier,
        pixels=pixels(tmp_path / "colors"),
        recipe=recipe(),
        folder=tmp_path / "another place",
    )
    assert other.compute(views)
    np.testing.assert_array_equal(features, other.store.batch([v.key for v in views]).reshape(features.shape))


def test_only_new_images_are_computed(
    tmp_path: Path, rows: Sequence[ManifestRow], capsys: pytest.CaptureFixture[str]
) -> None:
    """A set that has grown, its files renamed, costs its new images alone; all is as if computed together."""
    classifier = network()
    first = extractor(classifier, tmp_path, recipe())
    first.compute(first.views(rows, 4))
    assert (
        "Features: 144 views (0.0 MB), 0 of them kept from before; 144 to compute (0.0 MB)" in capsys.readouterr().err
    )

    (tmp_path / "colors/train").rename(tmp_path / "colors/old")
    for i, path in enumerate(sorted((tmp_path / "colors/old").rglob("*.png"))):
        target = tmp_path / "colors/train" / path.parent.name / f"renamed-{i}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    for folder in sorted((tmp_path / "colors/old").rglob("*"), reverse=True):
        folder.rmdir()
    (tmp_path / "colors/old").rmdir()
    for i in range(4):
        (tmp_path / f"colors/train/red/new-{i}.png").write_bytes(png((220, 30, 30), seed=9000 + i))
    grown = rows_of(tmp_path / "colors")
    second = extractor(classifier, tmp_path, recipe())
    second.compute(second.views(grown, 4))
    assert "160 views (0.0 MB), 144 of them kept from before; 16 to compute" in capsys.readouterr().err

    whole = FeatureExtractor(
        split_before_head(classifier).frozen,
        classifier,
        pixels=pixels(tmp_path / "colors"),
        recipe=recipe(),
        folder=tmp_path / "whole",
    )
    views = whole.views(grown, 4)
    whole.compute(views)
    keys = [view.key for view in views]
    # An image's place in a batch moves the last bit at most.
    np.testing.assert_allclose(whole.store.batch(keys), second.store.batch(keys), rtol=2e-3, atol=1e-5)


def test_more_views_cost_only_the_new_ones(
    tmp_path: Path, rows: Sequence[ManifestRow], capsys: pytest.CaptureFixture[str]
) -> None:
    """With augment.views raised, the earlier views are kept; with other ranges, only the unchanged image is."""
    classifier = network()
    for overrides, count in (([], 2), (["augment.views=3"], 3), (["augment.rotation_range=90"], 2)):
        one = extractor(classifier, tmp_path, recipe(*overrides))
        one.compute(one.views(rows, count))

    computed = re.findall(r"; (\d+) to compute", capsys.readouterr().err)
    assert ["72", "36", "36"] == computed


def test_what_features_depend_on(tmp_path: Path, rows: Sequence[ManifestRow]) -> None:
    """The same network built twice shares its features; other weights, another size or preprocessing do not."""
    frozen = split_before_head(network()).frozen
    others = {"preprocessing": "tf"}

    name = hash_network(frozen, others)

    assert name == hash_network(split_before_head(network()).frozen, others)
    assert name != hash_network(split_before_head(network(seed=1)).frozen, others)
    assert name != hash_network(frozen, {"preprocessing": "caffe"})
    one = extractor(network(), tmp_path, recipe())
    one.compute(one.views(rows, 1))
    larger = extractor(network(), tmp_path, recipe(), size=40)
    assert not any(view.key in larger.store for view in one.views(rows, 1))


def test_features_depend_on_the_decoder_and_on_own_code(
    tmp_path: Path, rows: Sequence[ManifestRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is a part of Keras's description of a network."""
    classifier = network()
    name = extractor(classifier, tmp_path, recipe()).store.network
    assert name == extractor(classifier, tmp_path, recipe()).store.network
    own = [extractor(replace(classifier, source=code), tmp_path, recipe()).store.network for code in (b"1", b"2")]
    assert 3 == len({name, *own})

    monkeypatch.setattr(pixels_module, "package_version", lambda package: f"{version(package)}.1")
    assert name != extractor(classifier, tmp_path, recipe()).store.network


def test_batches_hold_every_view_once_an_epoch(tmp_path: Path, rows: Sequence[ManifestRow]) -> None:
    """Training sees all views in an order of its own each epoch, the same for the same seed; validation in order."""
    one = extractor(network(), tmp_path, recipe())
    views = one.views(rows, 3)
    one.compute(views)
    targets = [LABELS.index(view.row.label) for view in views]

    def epochs(seed: int | None, first: int, count: int) -> list[list[int]]:
        batches = FeatureBatches(views, LABELS, one.store, batch_size=10, seed=seed)
        assert 11 == len(batches)
        dataset = batches.dataset(first).take(count * len(batches))
        seen = [int(label) for _, labels in dataset.as_numpy_iterator() for label in labels]
        return [seen[i * len(views) : (i + 1) * len(views)] for i in range(count)]

    turning = FeatureBatches(views, LABELS, one.store, batch_size=10, seed=3, turns=3).dataset()
    assert len(views) == sum(len(labels) for _, labels in turning.take(3 * -(-len(views) // 30)))
    shuffled = epochs(3, 0, 3)
    assert [sorted(targets)] * 3 == [sorted(epoch) for epoch in shuffled]
    assert shuffled[0] != shuffled[1] != shuffled[2]
    assert shuffled[1:] == epochs(3, 1, 2)
    assert [targets] == epochs(None, 0, 1)


@pytest.mark.parametrize("unfreeze", [1, 2, 4])
def test_a_cut_before_the_last_blocks_is_the_same_network(unfreeze: int) -> None:
    """Trained layers are behind the split, also where shortcuts lead past it; the parts compute the whole."""
    classifier = network()
    trainable = classifier.backbone.last_blocks(classifier.backbone_layers, unfreeze)
    split = split_before_training(classifier, trainable)
    assert split is not None
    images = np.random.default_rng(0).uniform(0, 1, (3, 32, 32, 3)).astype(np.float32)

    assert not trainable & {layer.name for layer in split.frozen.layers}
    assert trainable <= {layer.name for layer in split.trainable.layers}
    np.testing.assert_allclose(split.trainable(split.frozen(images)), classifier.model(images), atol=1e-6)


def test_networks_inside_a_network_and_additions_written_out_are_no_obstacle() -> None:
    """ConvNeXt has both; its two parts are the classifier all the same."""
    settings = Model.model_validate({"backbone": "ConvNeXtTiny", "weights": "none", "input_size": 32})
    classifier = build_classifier(settings, Weights("none", None), num_classes=3, channels=3)
    images = np.random.default_rng(0).uniform(0, 1, (3, 32, 32, 3)).astype(np.float32)

    split = split_before_training(classifier, classifier.backbone.last_blocks(classifier.backbone_layers, 10))

    assert split is not None
    np.testing.assert_allclose(split.trainable(split.frozen(images)), classifier.model(images), atol=1e-6)
    assert split_before_training(classifier, classifier.backbone.last_blocks(classifier.backbone_layers, "all")) is None


def test_a_network_that_trains_whole_is_not_cut() -> None:
    """With every block unfrozen nothing lies before the split."""
    classifier = network()

    assert split_before_training(classifier, classifier.backbone.last_blocks(classifier.backbone_layers, "all")) is None


def test_fine_tuning_takes_features_that_the_head_stage_computed(
    tmp_path: Path, rows: list[ManifestRow], capsys: pytest.CaptureFixture[str]
) -> None:
    """The frozen part runs once for both stages; an epoch of the last blocks takes one view of each image."""
    classifier = network()
    settings = recipe("train.fine_tune={epochs: 1, unfreeze: 2, learning_rate: 1e-4}", "augment.views=3")
    manifest = Manifest(tuple(replace(r, split="val" if i % 3 == 0 else "train") for i, r in enumerate(rows)))

    def stage_data(classifier: Classifier) -> StageData:
        return StageData(
            classifier,
            manifest,
            labels=LABELS,
            pixels=pixels(tmp_path / "colors"),
            recipe=settings,
            features=tmp_path / "features",
        )

    first = stage_data(classifier)
    head = first.of_stage(frozenset())
    capsys.readouterr()
    blocks = first.of_stage(classifier.backbone.last_blocks(classifier.backbone_layers, 2))

    assert "; 0 to compute" in capsys.readouterr().err
    assert head.model.input.shape[1:] == split_before_head(classifier).frozen.output.shape[1:]
    images = len(manifest.of("train"))
    assert (len(head.training), len(blocks.training)) == (-(-3 * images // 8), -(-images // 8))
    stage_data(network()).of_stage(frozenset())  # layers have other names
    assert "; 0 to compute" in capsys.readouterr().err
    (features, targets), *_ = head.validation.dataset()
    (maps, same), *_ = blocks.validation.dataset()
    np.testing.assert_array_equal(targets, same)
    np.testing.assert_allclose(head.model(features), blocks.model(maps), atol=2e-3)  # float16 in between


@pytest.mark.slow
def test_run_on_a_frozen_backbone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run trains its head on features, fine-tunes, publishes one verified model; the next run computes none."""
    write_files(tmp_path / "colors", color_files())
    classifier = network(seed=5)
    backbone = keras.Model(classifier.model.input, classifier.feature_map)
    backbone.save_weights(tmp_path / "resnet.weights.h5")
    settings = load_recipe(
        "demo",
        [
            f"model.weights={tmp_path / 'resnet.weights.h5'}",
            "model.input_size=32",
            "train.freeze_backbone=true",
            "train.epochs=25",
            "train.learning_rate=0.02",
            "train.batch_size=16",
            "train.fine_tune={epochs: 1, unfreeze: 2, learning_rate: 1e-4}",
            "data.group='^(.*)_'",
        ],
    )
    store = ModelStore(tmp_path / "models")

    first = run(tmp_path / "colors", settings, store, name="colors", runs_dir=tmp_path / "runs")
    kept = set((tmp_path / "runs" / FOLDER).glob("*/*.npy"))
    assert "0 of them kept from before" in capsys.readouterr().err
    second = run(tmp_path / "colors", settings, store, name="colors", runs_dir=tmp_path / "runs", again=True)

    assert "; 0 to compute" in capsys.readouterr().err
    assert kept == set((tmp_path / "runs" / FOLDER).glob("*/*.npy"))
    assert first.test["accuracy"] >= 0.9
    assert first.test == second.test
    curves = json.loads((first.folder / "metrics.json").read_text())["training"]["curves"]
    assert ["head"] * 25 + ["fine-tune"] == [row["stage"] for row in curves]


def test_without_room_every_epoch_runs_the_network(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A limit below what the features need is no failure: the head trains on images, and a warning says why."""
    write_files(tmp_path / "colors", color_files())
    rows = rows_of(tmp_path / "colors")
    sides = tuple(replace(row, split="val" if i % 3 == 0 else "train") for i, row in enumerate(rows))
    classifier = network()

    def fitted(*overrides: str) -> bool:
        stage_data = StageData(
            classifier,
            Manifest(sides),
            labels=LABELS,
            pixels=pixels(tmp_path / "colors"),
            recipe=recipe(*overrides),
            features=tmp_path / "features",
        )
        return stage_data.of_stage(frozenset()).model is classifier.model

    assert fitted("cache.features=false")
    assert fitted("cache.max_gb=0.000001")
    assert "more than cache.max_gb=1e-06" in caplog.text
    assert set() == segments(tmp_path)
    assert not fitted()


def test_the_hash_of_a_network_does_not_depend_on_what_trains() -> None:
    """It is asked for before and after training; weights and architecture count."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    before = hash_network(model, {})
    model.trainable = False
    assert hash_network(model, {}) == before
    model.layers[-1].bias.assign([1.0, 0.0, 0.0])
    assert hash_network(model, {}) != before
