"""A learning-rate range test on the images, the split and the network of a run; nothing is trained or published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from contract.store import ModelStore
from pipeline.data.ingest import ingest
from pipeline.data.split import check_validation
from pipeline.features.feature_store import FOLDER
from pipeline.interrupt import uncovered_interrupts
from pipeline.networks.from_scratch import settle
from pipeline.recipe.recipe import Recipe
from pipeline.run.algebra import single_threaded_algebra
from pipeline.run.prepare import input_spec, prepare_images
from pipeline.run.stages import build_network
from pipeline.run_folder import claimed, new_folder
from pipeline.training.rate_search import RateSearch
from pipeline.training.train import search_first_rate
from pipeline.training.unfreezing import default_rate, freeze_backbone, plan_stages
from pipeline.training.warm_start import find_start


@dataclass(frozen=True)
class FoundRate:
    """A range test for the first stage of a recipe.

    Attributes:
        stage: its name.
        search: the test.
        default: the rate of a recipe that names none.
        folder: has the audit.
    """

    stage: str
    search: RateSearch
    default: float
    folder: Path


def find_rate(location: Path, recipe: Recipe, store: ModelStore, *, name: str, runs_dir: Path, steps: int) -> FoundRate:
    """Test learning rates for the first stage of a recipe, as a run would.

    Args:
        location: the images.
        recipe: of the run.
        store: has the weights that `model.weights` may name.
        name: the model.
        runs_dir: gets a folder with the audit.
        steps: most steps.

    Raises:
        PipelineError, ContractError: with the reason, as of a run.
    """
    recipe = settle(recipe)
    spec, dataset = input_spec(recipe), ingest(location, recipe.data)
    check_validation(dataset.examples, recipe.data)
    weights = find_start(recipe.model, store, runs_dir)
    classifier = build_network(recipe.model, weights, spec, dataset.labels, recipe.train)
    folder = new_folder(runs_dir / name)
    with claimed(folder), uncovered_interrupts():
        images = prepare_images(dataset, recipe, spec, folder, keep_split=False)
        with single_threaded_algebra():
            frozen = freeze_backbone(classifier, images.pixels, recipe, runs_dir / FOLDER)
            search = search_first_rate(
                classifier, images.manifest, dataset.labels, images.pixels, recipe, folder, frozen, steps=steps
            )
    stage = plan_stages(classifier, recipe.train)[0]
    return FoundRate(stage.name, search, default_rate(stage), folder)
