"""The `evaluate` section of a recipe: positive class, thresholds, model card."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from pipeline.errors import RecipeError, list_names
from pipeline.recipe.gate_settings import Gate
from pipeline.recipe.settings_base import Fraction, SettingsBase
from pipeline.recipe.spelt_yaml import Label


class OperatingPointRule(SettingsBase):
    """A threshold to choose on the validation images: one class, and either the sensitivity or the specificity wanted.

    Attributes:
        label: the class that is called from the threshold on.
        sensitivity: share of its images to find; the highest threshold that finds them is chosen.
        specificity: share of the other images to leave alone; the lowest threshold that does is chosen.
    """

    label: Label
    sensitivity: Fraction | None = None
    specificity: Fraction | None = None

    @model_validator(mode="after")
    def _wants_one(self) -> OperatingPointRule:
        if (self.sensitivity is None) == (self.specificity is None):
            raise ValueError("evaluate.operating_points: expected either sensitivity or specificity in each")
        return self


class Card(SettingsBase):
    """Texts of the model card.

    Attributes:
        medical: whether the images are medical: the report, the card and the page then say "not a medical device".
        use: the model's purpose, in words.
        limits: uses that are excluded, and cases that it does not know.
        definitions: what each class means; a mapping, or the path of a YAML file with one.
    """

    medical: bool = False
    use: str | None = None
    limits: str | None = None
    definitions: dict[Label, str] | str = Field(default_factory=dict)


class Evaluate(SettingsBase):
    """Settings of the evaluation on test images.

    Attributes:
        positive: the class to find; adds sensitivity at fixed specificities and the partial AUC.
        uncertain: a class between the others, counted once as negative and once as positive.
        order: all classes from least to most severe, the order of tables and drawings; adds the quadratic kappa, and is
            read as `positive` = its last where that is not given.
        operating_points: thresholds chosen on validation images and written into the contract.
        card: the model card.
        gate: when the version may replace the live one by itself.
        tta: views of each test image, itself included, over which predictions are averaged and measured beside plain
            ones (test-time augmentation). Gate, contract and service are without it. None: no such measurement.
    """

    omitted: ClassVar[frozenset[str]] = frozenset({"tta"})

    positive: Label | None = None
    uncertain: Label | None = None
    order: tuple[Label, ...] | None = None
    operating_points: tuple[OperatingPointRule, ...] = ()
    card: Card = Card()
    gate: Gate = Gate()
    tta: Annotated[int, Field(ge=2, le=64)] | None = None

    @property
    def found_class(self) -> str | None:
        """The class to find: `positive`, or the most severe of `order`."""
        return self.positive or (self.order[-1] if self.order else None)

    @model_validator(mode="after")
    def _makes_sense(self) -> Evaluate:
        if self.uncertain is not None and self.found_class is None:
            raise ValueError("evaluate.uncertain: expected evaluate.positive or evaluate.order beside it")
        if self.uncertain is not None and self.uncertain == self.found_class:
            raise ValueError(f"evaluate.uncertain: expected another class than the one to find, {self.uncertain!r}")
        return self


def _same_text(one: str, other: str) -> bool:
    return unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)


def check_classes(settings: Evaluate, labels: Sequence[str]) -> None:
    """Refuse class names that the set does not have.

    Raises:
        RecipeError: naming the key, the nearest class and all classes.
    """
    named = [("positive", settings.positive), ("uncertain", settings.uncertain)]
    named += [("order", label) for label in settings.order or ()]
    named += [("operating_points", rule.label) for rule in settings.operating_points]
    if isinstance(settings.card.definitions, dict):
        named += [("card.definitions", label) for label in settings.card.definitions]
    for key, label in named:
        if label is not None and label not in labels:
            near = difflib.get_close_matches(label, labels, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            if twins := [name for name in labels if _same_text(name, label)]:
                hint = f"; only the Unicode form differs: the class is {twins[0]!a}, not {label!a}"
            raise RecipeError(
                f"evaluate.{key}: expected one of the classes {list_names(labels)}. Received: {label!r}{hint}"
            )
    if settings.order is not None and sorted(settings.order) != sorted(labels):
        raise RecipeError(
            f"evaluate.order: expected each of {list_names(labels)} once. Received: {list_names(settings.order)}"
        )
