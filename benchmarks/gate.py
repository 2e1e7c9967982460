"""The publishing gate, simulated: how often a worse version goes live and a good one does not.

Images are drawn one by one and are right or wrong; a group is one image. `old` is the margin alone (0.02), `new` the
paired interval, with the margin where it is undecided; drift and `new` also know the first version as anchor. The
interval over resampled images is drawn from its exact distribution, a multinomial over the images that only one of two
versions has right, instead of being resampled image by image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.bootstrap import LEVEL, RESAMPLES, exact_interval
from pipeline.evaluation.fitness import find_chance
from pipeline.evaluation.paired import Comparison
from pipeline.metrics.table import Predictions
from pipeline.recipe.gate_settings import Gate

IMAGES = (100, 1_000, 10_000)
DIFFERENCES = (0.0, -0.005, -0.02, -0.05, 0.01)
ACCURACY = 0.95  # of the live version
DISAGREEMENT = 0.04  # share of images that only one of two equally good versions has right
STEPS = 10  # of drift
STEP = -0.005  # in each
CHANCE = ((6, 2), (12, 2), (30, 2), (60, 2), (120, 2), (12, 3), (60, 3), (100, 10))  # test images, classes
GOOD = 0.85  # accuracy of a version that has learned
_MARGIN = Gate().margin
_TRIALS = {"quick": 100, "standard": 2_000, "full": 10_000}


def run(size: str = "standard") -> dict[str, Any]:
    """Simulate promotions, drift and first versions."""
    trials, rng = _TRIALS[size], np.random.default_rng(0)
    return {
        "trials": trials,
        "margin": _MARGIN,
        "accuracy": ACCURACY,
        "disagreement": DISAGREEMENT,
        "went_live": [
            {"images": images, "difference": difference, **_promote(rng, images, difference, trials)}
            for images in IMAGES
            for difference in DIFFERENCES
        ],
        "drift": [{"images": images, "steps": STEPS, "step": STEP, **_drift(rng, images, trials)} for images in IMAGES],
        "first_versions": [
            {"images": images, "classes": classes, **_begin(rng, images, classes, max(100, trials // 5))}
            for images, classes in CHANCE
        ],
    }


def compare(rng: np.random.Generator, before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Comparison:
    """Compare two versions by the images that each has right."""
    images = len(before)
    only = np.array([(before & ~after).sum(), (after & ~before).sum()]) / images
    lost, won, _ = rng.multinomial(images, [*only, 1 - only.sum()], RESAMPLES).T
    outside = (1 - LEVEL) / 2
    low, high = np.quantile((won - lost) / images, [outside, 1 - outside])
    if low == high:
        low, high = exact_interval(float(low), images, (-1.0, 1.0))
    return Comparison(
        before=float(before.mean()),
        after=float(after.mean()),
        images=images,
        groups=images,
        margin=_MARGIN,
        gain=float(after.mean() - before.mean()),
        interval=(float(low), float(high)),
    )


def passes_margin(compared: Comparison) -> bool:
    """Decide by the margin alone."""
    return compared.gain >= -compared.margin - 1e-9


def _promote(rng: np.random.Generator, images: int, difference: float, trials: int) -> dict[str, float]:
    """Return the shares of trials in which a version of this true difference went live, and what the interval said."""
    old = new = undecided = 0
    for _ in range(trials):
        before = rng.random(images) < ACCURACY
        compared = compare(rng, before, _retrain(rng, before, ACCURACY, difference))
        old += passes_margin(compared)
        new += compared.passes
        undecided += compared.evidence == "undecided"
    return {"old": old / trials, "new": new / trials, "undecided": undecided / trials}


def _drift(rng: np.random.Generator, images: int, trials: int) -> dict[str, float]:
    """Return how much worse than the first the live version is after the last step, in the mean."""
    losses: dict[str, list[float]] = {"old": [], "new": []}
    for _ in range(trials):
        versions = list(_versions(rng, images))
        for rule in losses:
            live = 0
            for step in range(1, len(versions)):
                compared = compare(rng, versions[live], versions[step])
                if rule == "old":
                    live = step if passes_margin(compared) else live
                elif compared.passes and (live == 0 or compare(rng, versions[0], versions[step]).passes):
                    live = step
            losses[rule].append(live * STEP)
    return {
        f"{rule}_{name}": round(float(value), 4)
        for rule, values in losses.items()
        for name, value in (
            ("mean_loss", -np.mean(values)),
            ("beyond_margin", np.mean(np.array(values) < -_MARGIN - 1e-9)),
        )
    }


def _versions(rng: np.random.Generator, images: int) -> Iterator[NDArray[np.bool_]]:
    """Yield the first version and those after it, each worse than the one before by STEP."""
    right, accuracy = rng.random(images) < ACCURACY, ACCURACY
    yield right
    for _ in range(STEPS):
        right = _retrain(rng, right, accuracy, STEP)
        accuracy += STEP
        yield right


def _retrain(
    rng: np.random.Generator, right: NDArray[np.bool_], accuracy: float, difference: float
) -> NDArray[np.bool_]:
    """Return the images that a version has right whose true accuracy differs from another's."""
    lost = DISAGREEMENT / 2 + max(0.0, -difference)
    won = DISAGREEMENT / 2 + max(0.0, difference)
    drawn = rng.random(len(right))
    return np.where(right, drawn >= lost / accuracy, drawn < won / (1 - accuracy))


def _begin(rng: np.random.Generator, images: int, classes: int, trials: int) -> dict[str, float]:
    """Return the shares of first versions that go live: of those that guess, and of those that have learned."""
    targets = np.arange(images) % classes
    groups = [str(i) for i in range(images)]
    live = {"guessing": 0, "learned": 0}
    for _ in range(trials):
        guesses = rng.integers(0, classes, images)
        wrong = (targets + 1 + rng.integers(0, classes - 1, images)) % classes
        answers = {"guessing": guesses, "learned": np.where(rng.random(images) < GOOD, targets, wrong)}
        for kind, said in answers.items():
            predictions = Predictions(np.eye(classes, dtype=np.float32)[said], targets)
            live[kind] += find_chance(predictions, groups) is None
    return {kind: count / trials for kind, count in live.items()}
