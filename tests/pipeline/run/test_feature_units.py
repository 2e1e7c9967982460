"""`features`: a run on the same set finds every feature that it asks for, and ends as one that computes them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.store import ModelStore
from pipeline.__main__ import main
from pipeline.errors import DatasetError
from pipeline.features.exact_features import ExactFeatures
from pipeline.features.features import FeatureExtractor
from pipeline.recipe.recipe import Recipe
from pipeline.run.feature_units import UnitFeatures
from pipeline.run.run import RunResult, run
from pipeline.units.parts import is_done
from pipeline.units.plan import read_plan
from tests.helpers.image_sets import png, write_files
from tests.helpers.killed_command import kill_after_parts
from tests.pipeline.run.test_reruns import NAME, fixture_first, frozen_recipe, published, small

__all__ = ["fixture_first"]
TUNED = ("train.fine_tune.epochs=1", "train.fine_tune.unfreeze=1")


@pytest.fixture(name="images")
def fixture_images(tmp_path: Path) -> Path:
    return write_files(tmp_path / "set", {**small(), "train/red/cut.png": png(size=64)[:-300]})


def recipe_file(folder: Path, first: RunResult, *settings: str) -> tuple[Recipe, Path]:
    """A recipe that trains the head of another run's network, as the command reads it."""
    recipe = frozen_recipe(first, "data.on_unreadable=skip", *settings)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return recipe, path


def features(images: Path, folder: Path, recipe: Path, *options: str) -> list[str]:
    """The command line, with units of 9 images."""
    fixed = [f"--recipe={recipe}", f"--name={NAME}", f"--out={folder / 'units'}", "--unit-rows=9"]
    return ["features", str(images), *fixed, f"--models-dir={folder / 'models'}", f"--runs-dir={folder / 'runs'}",
            *options]  # fmt: skip


def train(images: Path, folder: Path, recipe: Recipe) -> RunResult:
    return published(run(images, recipe, ModelStore(folder / "models"), name=NAME, runs_dir=folder / "runs"))


@pytest.fixture(name="computed")
def fixture_computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many views each batch has computed."""
    counts: list[int] = []
    compute = FeatureExtractor._compute_batch

    def counting(self: FeatureExtractor, batch: list[Any]) -> Any:
        counts.append(len(batch))
        return compute(self, batch)

    monkeypatch.setattr(FeatureExtractor, "_compute_batch", counting)
    return counts


@pytest.mark.parametrize("settings", [(), pytest.param(TUNED, marks=pytest.mark.slow)], ids=["head", "fine-tuned"])
def test_run_finds_all_features(
    images: Path, tmp_path: Path, first: RunResult, computed: list[int], settings: tuple[str, ...]
) -> None:
    """By two shards, a cut picture among the images; predictions are those of a run that computes, byte by byte."""
    recipe, path = recipe_file(tmp_path, first, *settings)
    ahead, alone = tmp_path / "ahead", tmp_path / "alone"
    for shard in ("1/2", "0/2"):
        assert 0 == main(features(images, ahead, path, f"--shard={shard}"))
    assert sum(computed) > 0
    computed.clear()

    found = train(images, ahead, recipe)
    assert 0 == sum(computed)
    plain = train(images, alone, recipe)
    assert sum(computed) > 0
    assert (plain.folder / "predictions.csv").read_bytes() == (found.folder / "predictions.csv").read_bytes()
    assert plain.test == found.test


def test_references_are_found_too(
    images: Path, tmp_path: Path, first: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras's float32 features of validation and test images, which the evaluation asks for."""
    recipe, path = recipe_file(tmp_path, first)
    assert 0 == main(features(images, tmp_path, path))
    asked: list[tuple[str, str]] = []
    compute = ExactFeatures._of_batch

    def noting(self: ExactFeatures, rows: list[Any]) -> Any:
        asked.extend((self.store.network, row.split) for row in rows)
        return compute(self, rows)

    monkeypatch.setattr(ExactFeatures, "_of_batch", noting)
    train(images, tmp_path, recipe)
    assert "test" not in {split for _, split in asked}


def test_rerun_computes_what_is_missing(
    images: Path, tmp_path: Path, first: RunResult, computed: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """A unit without a part finds its features in the store; without both it computes them again."""
    _, path = recipe_file(tmp_path, first)
    assert 0 == main(features(images, tmp_path, path))
    assert "units: 8 computed, 0 were there, 0 of 8 left to other shards" in capsys.readouterr().out
    whole = sum(computed)
    computed.clear()
    (tmp_path / "units" / "part-000003.parquet").unlink()
    assert 0 == main(features(images, tmp_path, path))
    assert "units: 1 computed, 7 were there" in capsys.readouterr().out
    assert 0 == sum(computed)
    shutil.rmtree(tmp_path / "runs" / ".cache" / "features")
    for part in (tmp_path / "units").glob("part-*"):
        part.unlink()
    assert 0 == main(features(images, tmp_path, path))
    assert whole == sum(computed)


def test_kill_loses_at_most_the_unit_under_way(images: Path, tmp_path: Path, first: RunResult) -> None:
    """Kill -9 in the middle: what is there is whole, and the rerun makes the rest."""
    recipe, path = recipe_file(tmp_path, first)
    out = tmp_path / "units"
    kill_after_parts(features(images, tmp_path, path, "--unit-rows=1"), out)
    plan = read_plan(out)
    assert plan is not None
    there = [unit for unit in range(plan.num_units) if is_done(out, plan, unit)]
    assert 3 <= len(there) < plan.num_units
    assert len(there) == len(list(out.glob("part-*")))

    assert 0 == main(features(images, tmp_path, path, "--unit-rows=1"))
    assert train(images, tmp_path, recipe).test["accuracy"] >= 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("image", "these differ: images (67 there, 68 now), the images"),
        ("views", "these differ: the views"),
        ("network", "these differ: the network"),
    ],
)
def test_changed_plan_is_refused(
    images: Path,
    tmp_path: Path,
    first: RunResult,
    capsys: pytest.CaptureFixture[str],
    change: str,
    words: str,
) -> None:
    """The message names what differs."""
    _, path = recipe_file(tmp_path, first)
    assert 0 == main(features(images, tmp_path, path, "--shard=0/8"))
    options = {"views": ["--set=augment.rotation_range=7"], "network": ["--set=cache.features_precision=float32"]}
    if change == "image":
        write_files(images, {"train/red/new.png": png(seed=5)})
    if change == "network":
        options["network"] = ["--set=model.resize=bicubic"]
    assert 1 == main(features(images, tmp_path, path, "--shard=0/8", *options.get(change, [])))
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["cache.features=false"], "expected a recipe that trains the head on features at first"),
        (["train.freeze_backbone=false"], "expected a recipe that trains the head on features at first"),
        (["cache.max_gb=0.000001"], "the features need more than cache.max_gb=1e-06. Allow more here and in the run"),
    ],
)
def test_recipes_without_kept_features_are_refused(
    images: Path,
    tmp_path: Path,
    first: RunResult,
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    words: str,
) -> None:
    _, path = recipe_file(tmp_path, first, *settings)
    assert 1 == main(features(images, tmp_path, path))
    assert words in capsys.readouterr().err


def test_worker_that_would_compute_others_is_refused(images: Path, tmp_path: Path, first: RunResult) -> None:
    """As one without the command's precision."""
    recipe, path = recipe_file(tmp_path, first)
    assert 0 == main(features(images, tmp_path, path, "--shard=0/8"))
    folder = tmp_path / "units" / "manifest"
    function = UnitFeatures(images, recipe, tmp_path / "models", tmp_path / "runs", folder, "another")
    with pytest.raises(DatasetError, match=r"--set cache\.features_precision=float32"):
        function.for_worker(1).load()
