"""train.py and what it stands on: what moves and what does not, rates, weights of classes, records."""

import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pytest

from contract.model import InputSpec
from pipeline.data.ingest import ingest
from pipeline.data.pixels import Pixels
from pipeline.data.split import Manifest, ManifestRow
from pipeline.errors import TrainingError
from pipeline.networks.network import Classifier, build_classifier
from pipeline.networks.weights import Weights
from pipeline.recipe.recipe import Recipe, load_recipe
from pipeline.recipe.training_settings import Train
from pipeline.training.checkpoint import Checkpoints, TrainingState
from pipeline.training.schedule import Patience, Plateau, learning_rate
from pipeline.training.train import History, make_repeatable, train
from pipeline.training.unfreezing import Stage, plan_stages
from tests.helpers.image_sets import color_files, write_files

LABELS = ["blue", "green", "red"]
TINY = ["model.backbone=ResNet", "model.input_size=32", "train.batch_size=8", "train.learning_rate=0.01"]


class Bench:
    """A tiny set, a network for it, and a folder to train in."""

    def __init__(self, folder: Path, overrides: Sequence[str]) -> None:
        files = color_files(train=6, test=2)
        self.folder = folder / "runs" / "colors" / "run"
        self.folder.mkdir(parents=True)
        self.recipe: Recipe = load_recipe("default", [*TINY, *overrides])
        dataset = ingest(write_files(folder / "set", files))
        self.manifest = Manifest(
            tuple(
                ManifestRow(
                    path,
                    hashlib.sha256(files[path]).hexdigest(),
                    path.split("/")[1],
                    path,
                    "train" if "train" in path else "val",
                )
                for path in sorted(files)
            )
        )
        self.pixels = Pixels(dataset.source, InputSpec(32, 32, 3, "rgb"))
        make_repeatable(self.recipe.train.seed)
        self.classifier: Classifier = build_classifier(
            self.recipe.model, Weights("none", None), num_classes=3, channels=3
        )

    def train(self) -> History:
        return train(self.classifier, self.manifest, LABELS, self.pixels, self.recipe, self.folder)


def numbers(classifier: Classifier) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in classifier.model.layers}


@pytest.mark.parametrize("features", ["true", "false"], ids=["from-features", "whole-network"])
def test_frozen_weights_and_batch_norm_statistics_do_not_move(tmp_path: Path, features: str) -> None:
    """The first stage moves the head alone; the second its last convolutions, and no batch norm at all."""
    overrides = [
        f"cache.features={features}",
        "train.epochs=1",
        "train.fine_tune.epochs=1",
        "train.fine_tune.unfreeze=2",
    ]
    bench = Bench(tmp_path, [*overrides, "train.fine_tune.learning_rate=0.01"])
    before = numbers(bench.classifier)
    last = bench.classifier.backbone.last_blocks(bench.classifier.backbone_layers, 2)

    history = bench.train()

    assert ["head", "fine-tune"] == [row["stage"] for row in history.curves]
    after = numbers(bench.classifier)
    moved = {name for name in before if any((a != b).any() for a, b in zip(before[name], after[name], strict=True))}
    convolutions = {name for name in last if before[name]}
    assert len(convolutions) == 2
    assert moved == {"logits"} | convolutions or (history.best["stage"] == "head" and moved == {"logits"})


def test_a_step_is_traced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stage's training step is run as Python once, whatever variables its optimizer and metrics have."""
    overrides = ["train.epochs=2", "train.fine_tune.epochs=1", "train.fine_tune.unfreeze=1"]
    bench = Bench(tmp_path, [*overrides, "train.optimizer={name: sgd, momentum: 0.9}"])
    traced = []
    own = keras.Model.train_step
    monkeypatch.setattr(keras.Model, "train_step", lambda model, data: traced.append(model) or own(model, data))

    bench.train()

    assert 2 == len(traced)


@pytest.mark.slow
def test_whole_network_trains_from_the_first_step(tmp_path: Path) -> None:
    """Without freezing, convolutions and batch norm statistics move; rare classes, smoothing and rates are heard."""
    overrides = ["model.weights=none", "train.freeze_backbone=false", "train.epochs=3", "train.fine_tune.epochs=0"]
    extras = ["train.class_weight=balanced", "train.label_smoothing=0.1", "train.tensorboard=true", "model.dropout=0.3"]
    bench = Bench(tmp_path, [*overrides, *extras, "train.schedule=cosine", "train.warmup_epochs=1"])
    before = numbers(bench.classifier)

    history = bench.train()

    after = numbers(bench.classifier)
    for layer in bench.classifier.model.layers:
        if before[layer.name]:
            assert any((a != b).any() for a, b in zip(before[layer.name], after[layer.name], strict=True)), layer.name
    assert math.isclose(0.01, history.curves[0]["learning_rate"], rel_tol=1e-6)
    assert history.curves[2]["learning_rate"] < 0.005
    bench.classifier.model.save(tmp_path / "model.keras")
    keras.models.load_model(tmp_path / "model.keras")  # needs no loss of ours
    assert set(tags(bench.folder / "tensorboard")) >= {"network/loss", "network/val_accuracy", "network/learning_rate"}
    scopes = {
        re.sub(r"_\d+$", "", part) for name in graph_nodes(bench.folder / "tensorboard") for part in name.split("/")
    }
    assert {layer.name for layer in bench.classifier.model.layers if layer.weights} <= scopes  # Keras counts uses


def tags(folder: Path) -> dict[str, list[int]]:
    """Read event files as TensorBoard does: steps by tag."""
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    found: dict[str, list[int]] = {}
    for path in folder.iterdir():
        for record in tf.data.TFRecordDataset(str(path)):
            event = event_pb2.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert "scalars" == value.metadata.plugin_data.plugin_name
                found.setdefault(value.tag, []).append(event.step)
    return found


def graph_nodes(folder: Path) -> list[str]:
    """Return the operations of the one graph among the event files."""
    import tensorflow as tf
    from tensorflow.core.framework.graph_pb2 import GraphDef
    from tensorflow.core.util import event_pb2

    records = [record.numpy() for path in folder.iterdir() for record in tf.data.TFRecordDataset(str(path))]
    (graph,) = [event.graph_def for event in map(event_pb2.Event.FromString, records) if event.graph_def]
    return [node.name for node in GraphDef.FromString(graph).node]


STAGE = Stage("network", 4, 0.1, frozenset())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"schedule": "constant"}, [0.1] * 8, id="constant"),
        pytest.param(
            {"schedule": "cosine"}, [0.05 * (1 + math.cos(math.pi * step / 8)) for step in range(8)], id="cosine"
        ),
        pytest.param({"warmup_epochs": 2}, [0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.1, 0.1], id="warm-up"),
        pytest.param(
            {"schedule": "cosine", "warmup_epochs": 1},
            [0.05, 0.1, *(0.05 * (1 + math.cos(math.pi * step / 6)) for step in range(6))],
            id="warm-up-cosine",
        ),
        pytest.param({"schedule": "plateau"}, [0.03] * 8, id="plateau"),
        pytest.param({"schedule": "plateau", "plateau": {"min_learning_rate": 0.07}}, [0.07] * 8, id="plateau-floor"),
    ],
)
def test_learning_rates_step_by_step(settings: dict[str, object], expected: list[float]) -> None:
    """Two steps an epoch, four epochs; the plateau has reduced once."""
    train_settings = Train.model_validate(settings)

    actual = [learning_rate(STAGE, train_settings, step, steps_per_epoch=2, scale=0.3) for step in range(8)]

    assert np.allclose(expected, actual)


def test_plateau_reduces_after_its_patience() -> None:
    """Two epochs without a better loss reduce the rate once; a better loss starts the count anew."""
    settings = Train.model_validate({"plateau": {"patience": 2, "factor": 0.5}})
    plateau = Plateau(Patience())
    scales = []
    for loss in (1.0, 1.1, 0.9, 0.95, 0.91, 0.92, 0.93):
        plateau.update(loss, settings)
        scales.append(plateau.scale)

    assert [1, 1, 1, 1, 0.5, 0.5, 0.25] == scales


@pytest.mark.slow
def test_early_stopping_ends_the_stage_and_keeps_the_best(tmp_path: Path) -> None:
    """A rate that spoils what was learned ends training after `patience` worse epochs; the best weights are kept."""
    overrides = ["model.weights=none", "train.freeze_backbone=false", "train.epochs=30", "train.fine_tune.epochs=0"]
    bench = Bench(tmp_path, [*overrides, "train.learning_rate=0.5", "train.early_stopping.patience=2"])

    history = bench.train()

    losses = [row["val_loss"] for row in history.curves]
    assert len(losses) < 30
    assert min(losses) == history.best["val_loss"] == losses[-3]


def test_class_weights_balance_the_classes(tmp_path: Path) -> None:
    """Each class weighs the same in sum, an image 1 on average."""
    from pipeline.training.train import _class_weights

    rows = [ManifestRow(f"{i}", "", "red" if i < 2 else "blue", "", "train") for i in range(8)]

    weights = _class_weights(Manifest(tuple(rows)), LABELS, Train(class_weight="balanced"))

    assert {2: 2.0, 0: 8 / 12} == weights


def test_stages_follow_the_recipe(tmp_path: Path) -> None:
    """Frozen or not, one stage or two; batch norm trains in the whole network only."""
    classifier = build_classifier(load_recipe("default", TINY).model, Weights("none", None), num_classes=2, channels=3)
    batch_norms = {
        layer.name for layer in classifier.backbone_layers if isinstance(layer, keras.layers.BatchNormalization)
    }

    first, second = plan_stages(classifier, Train.model_validate({"fine_tune": {"epochs": 2, "unfreeze": "all"}}))
    (only,) = plan_stages(classifier, Train(freeze_backbone=False))

    assert ("head", frozenset()) == (first.name, first.trainable)
    assert batch_norms.isdisjoint(second.trainable)
    assert len(classifier.backbone_layers) == len(second.trainable) + len(batch_norms)
    assert batch_norms < only.trainable


def tiny_model() -> keras.Model:
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dropout(0.5)])


def test_checkpoint_restores_variables_generators_and_state(tmp_path: Path) -> None:
    """A fresh model with the checkpoint drops the same units next; only the newest checkpoint is kept."""
    model, checkpoints = tiny_model(), Checkpoints(tmp_path)
    model(np.ones((1, 3)), training=True)
    checkpoints.save(TrainingState(epoch=1), model)
    (tmp_path / "checkpoints" / ".writing-torn").mkdir()
    checkpoints.save(TrainingState(epoch=2, curves=[{"val_loss": 0.5}], stopping=Patience(0.5, 3)), model)
    expected = np.asarray(model(np.ones((4, 3)), training=True))

    fresh = tiny_model()
    state, optimizer = checkpoints.load(fresh) or pytest.fail("no checkpoint")

    assert np.array_equal(expected, fresh(np.ones((4, 3)), training=True))
    assert (2, 3, []) == (state.epoch, state.stopping.waited, optimizer)
    assert ["000002"] == [path.name for path in (tmp_path / "checkpoints").iterdir()]
    checkpoints.remove()
    assert checkpoints.load(fresh) is None


@pytest.mark.parametrize("damage", ["state.json", "variables.npz"])
def test_damaged_checkpoint_is_refused(tmp_path: Path, damage: str) -> None:
    """Half a file is an error that says what to do, not a wrong start."""
    Checkpoints(tmp_path).save(TrainingState(), tiny_model())
    path = tmp_path / "checkpoints" / "000001" / damage
    path.write_bytes(path.read_bytes()[:20])

    with pytest.raises(TrainingError, match="Start the run anew"):
        Checkpoints(tmp_path).load(tiny_model())


def test_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    """Shapes are compared before anything is assigned."""
    Checkpoints(tmp_path).save(TrainingState(), tiny_model())

    with pytest.raises(TrainingError, match="variables of the network's shapes"):
        Checkpoints(tmp_path).load(keras.Sequential([keras.Input((3,)), keras.layers.Dense(5)]))
