"""Finds test images that are of another kind than the training images: their test figures are of other pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.audit.separability import Classes, Feature, measure_separation

_FALSE_ALARMS = 0.005  # share of honest splits that each of the two tests may warn of
_CLEAR = 0.6  # balanced accuracy, of which a half is guessing; less is true of many honest sets and harmless
_MEANING = "The test figures are of other pictures than the model has learned from"


def find_unlike(alarms: NDArray[np.bool_], groups: Sequence[str], calibrated_on: int, wanted: float) -> str | None:
    """Return a warning if more test images are unlike the training images than the rule allows.

    The rule's threshold comes from a number of images, so its rate of false alarms is itself uncertain: the count of
    alarms follows a beta-binomial distribution. Every group counts once.

    Args:
        alarms: of each test image.
        groups: of each test image.
        calibrated_on: images that the threshold was chosen on.
        wanted: share of ordinary images that the threshold lets through as unlike.
    """
    if not len(alarms):
        return None
    numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    shares = np.bincount(numbers, alarms) / np.bincount(numbers)
    beyond = max(1, round((calibrated_on + 1) * wanted))
    chance = stats.betabinom.sf(int(shares.sum() + 1e-9) - 1, len(shares), beyond, calibrated_on + 1 - beyond)
    if chance >= _FALSE_ALARMS:
        return None
    expected = f"{wanted * len(alarms):.2g}"
    counted = f"{int(alarms.sum())} of {len(alarms)} test images are unlike the training images"
    return f"{counted}, where {expected} are expected. {_MEANING}"


def find_difference(
    train: NDArray[np.float32], test: NDArray[np.float32], train_groups: Sequence[str], test_groups: Sequence[str]
) -> str | None:
    """Return a warning if a classifier tells training from test images.

    Args:
        train: statistics of training images, float32, shape (images, statistics).
        test: of test images.
        train_groups: of each training image.
        test_groups: of each test image.
    """
    sides = ["train"] * len(train) + ["test"] * len(test)
    classes = Classes(sides, [*train_groups, *test_groups])
    if len(classes.labels) < 2:
        return None
    statistics = np.concatenate([train, test]).T
    features = [Feature(str(i), values.tolist(), numeric=True) for i, values in enumerate(statistics)]
    columns = [column for feature in features if (column := classes.column(feature)) is not None]
    if not columns:
        return None
    (found,) = measure_separation(columns, classes)
    if found.p_value >= _FALSE_ALARMS or found.low <= found.chance or found.accuracy < _CLEAR:
        return None
    figure = f"balanced accuracy {found.accuracy:.2f} [{found.low:.2f}, {found.high:.2f}], chance {found.chance:.2f}"
    return f"Training and test images can be told apart by brightness, colour and contrast ({figure}). {_MEANING}"
