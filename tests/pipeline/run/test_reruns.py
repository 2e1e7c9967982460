"""Reruns on a set that has grown: old files are neither decoded, embedded nor compared again; warm starts."""

import io
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.model import InputSpec
from contract.store import ModelStore
from pipeline.audit.checking import Checker
from pipeline.errors import WeightsError
from pipeline.features.exact_features import ExactFeatures
from pipeline.features.features import FeatureExtractor
from pipeline.publishing import gate
from pipeline.recipe.recipe import Recipe, load_recipe
from pipeline.run.run import RunResult, run
from pipeline.run.unchanged import Unchanged
from pipeline.training.live_start import find_live
from tests.helpers.image_sets import color_files, write_files
from tests.pipeline.run.test_run import QUICK

NAME, VIEWS = "colors", 2
NEW = ["train/red/Nr000_0.png", "train/blue/Nb000_0.png"]
FILES = 66  # of small(); 30 of them are test images, as the gate asks for


def small() -> dict[str, bytes]:
    return color_files(test=10)


def grown() -> dict[str, bytes]:
    """The set with two more training images."""
    more = color_files(train=14)
    return {**small(), NEW[0]: more["train/red/Rr006_0.png"], NEW[1]: more["train/blue/Br006_0.png"]}


def frozen_recipe(start: RunResult, *settings: str) -> Recipe:
    """Trains the head alone on the backbone of another run."""
    frozen = [f"model.weights={start.folder / 'model.keras'}", "train.freeze_backbone=true"]
    frozen += ["train.fine_tune.epochs=0", "train.epochs=3", f"augment.views={VIEWS}"]
    return load_recipe("demo", [*QUICK, *frozen, *settings])


def train(folder: Path, files: dict[str, bytes], recipe: Recipe, **options: bool) -> RunResult | Unchanged:
    shutil.rmtree(folder / "set", ignore_errors=True)
    location = write_files(folder / "set", files)
    return run(location, recipe, ModelStore(folder / "models"), name=NAME, runs_dir=folder / "runs", **options)


def published(result: RunResult | Unchanged) -> RunResult:
    assert isinstance(result, RunResult)
    return result


@pytest.fixture(name="first", scope="module")
def fixture_first(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A network trained whole on the small set; its version is live."""
    recipe = load_recipe("demo", [*QUICK, "train.epochs=8", "train.fine_tune.epochs=0"])
    return published(train(tmp_path_factory.mktemp("first"), small(), recipe))


@pytest.fixture(name="counted")
def fixture_counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """How many images each of the costly steps was given, call by call."""
    return count_steps(monkeypatch)


def count_steps(patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Let each of the costly steps say how many images it was given, call by call."""
    counts: dict[str, list[int]] = {"measured": [], "embedded": [], "exact": [], "gate": []}

    def count(owner: Any, method: str, name: str, size: Callable[..., int]) -> None:
        original = getattr(owner, method)

        def counting(*arguments: Any) -> Any:
            counts[name].append(size(*arguments))
            return original(*arguments)

        patch.setattr(owner, method, counting)

    count(Checker, "_take", "measured", lambda *_: 1)
    count(FeatureExtractor, "_compute_batch", "embedded", lambda _, batch: len(batch))
    count(ExactFeatures, "_of_batch", "exact", lambda _, rows: len(rows))
    count(gate, "predict_files", "gate", lambda *arguments: len(arguments[-1]))
    return counts


def totals(counts: dict[str, list[int]]) -> dict[str, int]:
    found = {name: sum(calls) for name, calls in counts.items()}
    for calls in counts.values():
        calls.clear()
    return found


@dataclass(frozen=True)
class Kept:
    """A run on the small set that keeps what it computes.

    Attributes:
        folder: of its set, its runs and its store.
        result: its version is live.
        counts: how many images each of the costly steps was given.
        output: what the run wrote to stderr.
    """

    folder: Path
    result: RunResult
    counts: dict[str, int]
    output: str


@pytest.fixture(name="kept", scope="module")
def fixture_kept(tmp_path_factory: pytest.TempPathFactory, first: RunResult) -> Kept:
    """To be copied: a test goes on in a folder of its own."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()) as output:
        counts = count_steps(patch)
        result = published(train(folder, small(), frozen_recipe(first)))
    return Kept(folder, result, totals(counts), output.getvalue())


def test_a_rerun_computes_new_images_alone(
    tmp_path: Path, first: RunResult, kept: Kept, counted: dict[str, list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The audit, the search for copies, features and the gate; the results are those of a run without any cache."""
    recipe = frozen_recipe(first)
    work = Path(shutil.copytree(kept.folder, tmp_path / "work"))
    assert f"Copies: {FILES} pictures, 0 of them compared" in kept.output
    assert kept.counts["measured"] == FILES
    assert kept.counts["gate"] == 0

    two = published(train(work, grown(), recipe))

    after = totals(counted)
    assert f"Copies: {FILES + 2} pictures, {FILES} of them compared" in capsys.readouterr().err
    assert after["measured"] == len(NEW)
    assert after["embedded"] <= len(NEW) * VIEWS
    assert after["exact"] <= 2 * len(NEW)
    assert after["gate"] == 0
    assert two.gate.live_version == kept.result.version
    assert two.gate.live_value is not None

    shutil.rmtree(work / "runs" / ".cache")
    anew = published(train(work, grown(), recipe, again=True))
    assert totals(counted)["measured"] == FILES + 2
    assert anew.test["accuracy"] == two.test["accuracy"]
    scores = [
        np.loadtxt(r.folder / "predictions.csv", delimiter=",", skiprows=1, usecols=(3, 4, 5)) for r in (two, anew)
    ]
    np.testing.assert_allclose(*scores, atol=1e-5)


def test_another_input_or_network_reuses_nothing(
    tmp_path: Path, first: RunResult, kept: Kept, counted: dict[str, list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every key holds what its values depend on: the input's size, the weights."""
    work = Path(shutil.copytree(kept.folder, tmp_path / "work"))

    train(work, small(), frozen_recipe(first, "model.resize=bicubic"))
    assert f"Copies: {FILES} pictures, 0 of them compared" in capsys.readouterr().err
    assert totals(counted) | {"gate": 0} == kept.counts

    other = tmp_path / "other.keras"
    import keras

    network = keras.models.load_model(first.folder / "model.keras")
    network.layers[1].set_weights([1.01 * weights for weights in network.layers[1].get_weights()])
    network.save(other)
    train(work, small(), frozen_recipe(first, f"model.weights={other}"))
    changed = totals(counted)
    assert changed["measured"] == 0
    assert (changed["embedded"], changed["exact"]) == (kept.counts["embedded"], kept.counts["exact"])


def store_of(result: RunResult) -> tuple[ModelStore, Path]:
    runs = result.folder.parent.parent
    return ModelStore(result.directory.parent.parent), runs


def warm_recipe(*settings: str) -> Recipe:
    return load_recipe("demo", [*QUICK, "train.epochs=8", "train.fine_tune.epochs=0", *settings])


@pytest.mark.parametrize(
    ("settings", "spec", "labels", "words"),
    [
        (["model.backbone=LeNet"], {}, (), "model.backbone is LeNet, not ResNet"),
        ([], {"width": 48, "height": 48}, (), "the input is 48 x 48 pixels, not 32 x 32"),
        ([], {"color": "grey", "channels": 1}, (), "the input's color is grey, not rgb"),
        ([], {}, ("blue", "green", "pink", "red"), "classes added: pink"),
        ([], {}, ("blue", "green"), "classes removed: red"),
        (["model.last_layer=stack1_block1_out"], {}, (), "model.last_layer is stack1_block1_out, not None"),
        (["model.head=flatten-dense"], {}, (), "model.head is flatten-dense, not gap"),
        (["model.preprocessing=tf"], {}, (), "model.preprocessing is tf, not None"),
    ],
)
def test_a_warm_start_names_what_differs(
    first: RunResult, settings: Sequence[str], spec: dict[str, Any], labels: Sequence[str], words: str
) -> None:
    """Another network, input or classes are refused before an image is read."""
    store, runs = store_of(first)
    recipe = warm_recipe(*settings)
    wanted = InputSpec(**{"height": 32, "width": 32, **spec})

    with pytest.raises(WeightsError, match="--warm-start: expected the network and classes of colors/1") as refused:
        find_live(recipe.model, wanted, labels or ("blue", "green", "red"), name=NAME, store=store, runs_dir=runs)

    assert words in str(refused.value)


def test_a_warm_start_needs_a_live_version(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="--warm-start: colors has no live version to start from"):
        train(tmp_path, small(), warm_recipe(), warm_start=True)
    assert not (tmp_path / "runs").exists()


def copied(first: RunResult, folder: Path) -> Path:
    """The folder of the first run and its version, to add to."""
    return Path(shutil.copytree(first.folder.parents[2], folder / "work"))


def test_a_warm_start_trains_for_a_quarter_of_the_epochs(tmp_path: Path, first: RunResult) -> None:
    """It begins as good as the live version, passes the gate as any version, and is recorded."""
    work = copied(first, tmp_path)

    result = published(train(work, grown(), warm_recipe("train.learning_rate=0.0001"), warm_start=True))

    metrics = json.loads((result.folder / "metrics.json").read_text())
    provenance = json.loads((result.directory / "assets.extra" / "contract.json").read_text())["provenance"]
    started = metrics["warm_start"]
    assert ("colors/1", 2) == (started["version"], started["epochs"])
    assert len(metrics["training"]["curves"]) == 2
    assert started["val_loss"] == metrics["training"]["best"]["val_loss"]
    assert provenance["warm_start"] == started
    assert [first.folder.name] == provenance["ancestors"]
    assert "those of colors/1 (validation loss" in (result.folder / "report.html").read_text()
    assert result.gate.live_version == 1
    worse = started["val_loss"] > started["val_loss_before"] + 1e-6
    assert worse == any("after the warm start" in fault for fault in result.gate.faults)

    again = train(work, grown(), warm_recipe("train.learning_rate=0.0001"), warm_start=True)
    assert isinstance(again, RunResult) != result.gate.becomes_live  # the live version was trained on these images


def test_a_warm_start_that_makes_it_worse_is_not_taken(tmp_path: Path, first: RunResult) -> None:
    """A version with a higher validation loss than what it started from stays a candidate, and the reason says why."""
    work = copied(first, tmp_path)
    settings = ["train.optimizer=sgd", "train.learning_rate=3.0", "train.epochs=1", "train.weights_of=last"]

    result = published(train(work, grown(), warm_recipe(*settings), warm_start=True))

    assert not result.gate.becomes_live
    assert "after the warm start the validation loss is" in result.gate.reason
    assert ModelStore(work / "models").read_index()[NAME].live == 1


@pytest.mark.slow
def test_faster_precisions_are_judged_by_kept_float32_features(
    tmp_path: Path, first: RunResult, counted: dict[str, list[int]]
) -> None:
    """The verdicts are those of a run that keeps nothing; a rerun computes float32 for new images alone."""
    files = color_files(train=104)
    settings = ["export.precisions=[float32, bfloat16]", "train.epochs=1", "augment.views=1"]
    kept = published(train(tmp_path / "kept", files, frozen_recipe(first, *settings)))
    assert totals(counted)["exact"] >= 312
    without = published(train(tmp_path / "without", files, frozen_recipe(first, *settings, "cache.features=false")))
    assert totals(counted)["exact"] == 0
    verdicts = [result.verification.equivalences or [] for result in (kept, without)]
    assert [found.images for found in verdicts[0]] == [found.images for found in verdicts[1]]
    for one, other in zip(*verdicts, strict=True):
        assert (one.engine, one.precision, one.equivalent) == (other.engine, other.precision, other.equivalent)

    grown_files = {**files, NEW[0]: color_files(train=106)["train/red/Rr052_0.png"]}
    train(tmp_path / "kept", grown_files, frozen_recipe(first, *settings))
    assert totals(counted)["exact"] <= 2
