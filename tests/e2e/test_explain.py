"""Explanations of a trained model, over HTTP: they are about the optic disc, since the class is."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import httpx2
import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr

from contract.image import decode_image
from contract.model import ModelContract
from contract.store import ModelStore
from pipeline.networks.network import build_classifier
from pipeline.networks.saved_model import ExportedFunctions
from pipeline.networks.weights import Weights
from pipeline.recipe.recipe import load_recipe
from pipeline.run.run import run
from pipeline.sample.sample import EyePlan, plan_glaucoma_set
from tests.e2e.conftest import Demo
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.optic_discs import disc_mask

pytestmark = pytest.mark.timeout(3000)

SEED = 7  # of the demo's sample set
NUM_IMAGES = 50


def right_ones(sample: Path, predictions: Path) -> list[EyePlan]:
    """Return fifty test images that the run classified correctly, of all classes alike."""
    with predictions.open() as file:
        right = {row["path"] for row in csv.DictReader(file) if row["label"] == row["predicted"]}
    plans = [plan for plan in plan_glaucoma_set(seed=SEED) if str(plan.path) in right]
    assert all((sample / plan.path).is_file() for plan in plans)
    by_class = sorted(plans, key=lambda plan: (plan.patient, plan.side))
    return by_class[:NUM_IMAGES]


def ask(url: str, sample: Path, plans: list[EyePlan], model: str) -> list[dict[str, Any]]:
    """Return the entries of /v1/explain, in the order of the plans."""
    entries: list[dict[str, Any]] = []
    with httpx2.Client(base_url=url, timeout=120) as client:
        for start in range(0, len(plans), 10):
            files = [("file", (str(p.path), (sample / p.path).read_bytes())) for p in plans[start : start + 10]]
            reply = client.post("/v1/explain", files=files, params={"model": model}).raise_for_status()
            entries += reply.json()["explanations"]
    return entries


def shares(maps: list[NDArray[Any]], plans: list[EyePlan], size: int) -> NDArray[np.float64]:
    """Return, for each map, the share of it that lies in the disc, over the disc's share of the area."""
    found = []
    for saliency, plan in zip(maps, plans, strict=True):
        mask = disc_mask(seed=SEED, patient=plan.patient, side=plan.side, size=size)
        enlarged = Image.fromarray(np.asarray(saliency, np.float32)).resize((size, size), Image.Resampling.BILINEAR)
        values = np.asarray(enlarged).clip(0)
        found.append((values * mask).sum() / max(float(values.sum()), 1e-9) / mask.mean())
    return np.array(found)


def maps_of(entries: list[dict[str, Any]]) -> list[NDArray[Any]]:
    return [np.array(entry["saliency"]["values"]) for entry in entries]


def test_the_demos_explanations_are_about_the_disc(demo: Demo, served: str) -> None:
    """On 50 correctly classified test images the disc has more of the map than its share (80 pixels, a 5 x 5 map)."""
    sample = demo.project / "datasets/glaucoma-sample"
    plans = right_ones(sample, demo.run_folder / "predictions.csv")
    entries = ask(served, sample, plans, "glaucoma")

    assert [plan.label for plan in plans] == [entry["class"]["id"] for entry in entries]
    assert shares(maps_of(entries), plans, 80).mean() >= 1.5


@pytest.fixture(name="at_112", scope="module")
def fixture_at_112(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelStore, Path]:
    """The demo's recipe trained at 112 pixels, from scratch; its store and its run's folder."""
    folder = tmp_path_factory.mktemp("at112")
    recipe = load_recipe("demo", ["model.input_size=112", r"data.group=^(P\d+)_"])
    store = ModelStore(folder / "models")
    result = run(demo.project / "datasets/glaucoma-sample", recipe, store, name="eyes", runs_dir=folder / "runs")
    return store, result.folder


def random_maps(contract: ModelContract, pictures: NDArray[np.uint8], seed: int) -> list[NDArray[Any]]:
    """Return what `explain` gives for the same network with random weights."""
    keras.utils.set_random_seed(seed)
    recipe = load_recipe("demo", ["model.input_size=112", r"data.group=^(P\d+)_"])
    random = build_classifier(recipe.model, Weights("none", None), num_classes=3, channels=3)
    outputs = ExportedFunctions(random, contract)["explain"](pictures, np.full(len(pictures), -1, np.int32))
    return list(outputs["saliency"].numpy())


@pytest.mark.slow
def test_explanations_at_112_pixels_come_from_what_was_learnt(
    demo: Demo, at_112: tuple[ModelStore, Path], tmp_path: Path
) -> None:
    """At least twice the disc's share of the area when trained, at most 1.2 times with random weights; unlike maps."""
    sample = demo.project / "datasets/glaucoma-sample"
    store, run_folder = at_112
    contract = store.read_contract("eyes", 1)
    plans = right_ones(sample, run_folder / "predictions.csv")
    service = ServiceProcess(["up", "--port", "0", "--models-dir", str(store.root)], tmp_path)
    try:
        url = service.wait_for_url()
        service.wait_until_ready(url)
        trained = maps_of(ask(url, sample, plans, "eyes"))
    finally:
        assert 0 == service.stop()
    pictures = np.stack([decode_image((sample / plan.path).read_bytes(), contract.input) for plan in plans])

    assert (NUM_IMAGES, 112) == (len(plans), contract.input.height)
    assert shares(trained, plans, 112).mean() >= 2
    for seed in range(3):
        random = random_maps(contract, pictures, seed)
        ranks = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(trained, random, strict=True)]
        assert shares(random, plans, 112).mean() <= 1.2
        assert np.nanmean(ranks) < 0.5
