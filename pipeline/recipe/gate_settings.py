"""The `evaluate.gate` section of a recipe: when a new version may replace the live one by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipeline.metrics.table import metric_names
from pipeline.recipe.settings_base import Fraction, SettingsBase

MIN_IMAGES = 30  # fewer say too little about which of two versions is better

if TYPE_CHECKING:
    GateMetric = str
else:
    GateMetric = Literal[metric_names("gate")]


class Gate(SettingsBase):
    """A new version becomes live when it is not worse than the live one by more than `margin`, nor worse for certain.

    Attributes:
        metric: compares both, on test images that neither was trained on.
        margin: how much worse the new version may be, in the metric's own unit. The paired interval decides; where it
            is undecided, the difference itself counts.
    """

    metric: GateMetric = "balanced_accuracy"
    margin: Fraction = 0.02
