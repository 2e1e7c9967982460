"""Recipes: every setting of a run, checked before anything else happens.

A recipe is YAML; `extends: NAME` starts from a shipped one. Shipped recipes are the files in `pipeline/recipes/`; each
opens with its command and what it reaches. `--set train.epochs=5` overrides one key. Unknown keys are errors.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from pipeline.augment_settings import Augment, Cache
from pipeline.errors import RecipeError
from pipeline.evaluate_settings import Evaluate
from pipeline.section import Section

RECIPES = Path(__file__).parent / "recipes"

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
LearningRate = Annotated[float, Field(gt=0.0, le=10.0)]


class Data(Section):
    """Which images, and how they are split.

    Attributes:
        val_fraction: share of the training images that validates, when the set has no val/ folder.
        test_fraction: share that tests, when the set has no test/ folder.
        group: regular expression searched in an image's path below its class folder; images with the same match (its
            first group, if it has one) stay on one side of every split. None: every image is its own group.
        color: "rgb" or "grey".
        on_unreadable: "refuse" stops before training when a file cannot be decoded, "skip" leaves it out and says so.
    """

    val_fraction: Annotated[float, Field(gt=0.0, lt=0.9)] = 0.15
    test_fraction: Annotated[float, Field(gt=0.0, lt=0.9)] = 0.2
    group: str | None = None
    color: Literal["rgb", "grey"] = "rgb"
    on_unreadable: Literal["refuse", "skip"] = "refuse"

    @field_validator("group")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as err:
            raise ValueError(f"expected a regular expression: {err}") from err
        return value


class Model(Section):
    """The network.

    Attributes:
        backbone: a name that `python -m pipeline backbones` lists.
        weights: "imagenet", "none" or a weights file of the backbone (.h5 or .weights.h5).
        input_size: height and width of the input, pixels; None: the backbone's own.
        resize: interpolation, as in the contract.
        fit: what happens to the aspect ratio, as in the contract.
        head: "gap" (global average pooling, dropout, Dense) or "flatten-dense" (Flatten, Dense(1024, relu), Dense).
        dropout: share of the pooled features dropped while training.
    """

    backbone: str = "ResNet50"
    weights: str = "imagenet"
    input_size: Annotated[int, Field(ge=16, le=2048)] | None = None
    resize: Literal["nearest", "bilinear", "bicubic", "area"] = "bilinear"
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    head: Literal["gap", "flatten-dense"] = "gap"
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


class FineTune(Section):
    """The second stage, from the first one's best weights; batch norm stays frozen.

    Attributes:
        epochs: 0 leaves the stage out.
        unfreeze: how many of the backbone's last convolution layers train; "all" for every one.
        learning_rate: usually a tenth to a hundredth of the first stage's.
    """

    epochs: Annotated[int, Field(ge=0, le=10_000)] = 0
    unfreeze: Annotated[int, Field(ge=1)] | Literal["all"] = 10
    learning_rate: LearningRate = 1e-5


class EarlyStopping(Section):
    """Stop when the validation loss has not improved for `patience` epochs."""

    patience: Annotated[int, Field(ge=1, le=10_000)] = 5


class Train(Section):
    """How the network is trained: Adam on cross-entropy, best epoch by validation loss.

    Attributes:
        epochs: of the first stage.
        batch_size: images a step.
        learning_rate: at the start.
        schedule: "constant", or "cosine" decay to zero over each stage.
        freeze_backbone: whether the first stage trains the head alone.
        fine_tune: the second stage.
        early_stopping: None trains all epochs.
        seed: of initial weights, splits, order, augmentation and dropout.
    """

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 20
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    learning_rate: LearningRate = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    freeze_backbone: bool = True
    fine_tune: FineTune = FineTune()
    early_stopping: EarlyStopping | None = EarlyStopping()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class Export(Section):
    """The published artifact.

    Attributes:
        tolerance: how far a faster precision may move a probability.
    """

    tolerance: Fraction = 0.02


class Recipe(Section):
    """Every setting of a run."""

    data: Data = Data()
    model: Model = Model()
    augment: Augment = Augment()
    cache: Cache = Cache()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()

    @model_validator(mode="after")
    def _trains_something_useful(self) -> Recipe:
        if self.model.weights == "none" and self.train.freeze_backbone:
            raise ValueError(
                "model.weights is none and train.freeze_backbone is true: a frozen backbone with random weights learns "
                "nothing. Set train.freeze_backbone=false, or give model.weights"
            )
        return self


def shipped_recipes() -> list[str]:
    """Return the names of the recipes that come with Fovea, sorted."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(name_or_file: str = "default", overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        name_or_file: a shipped recipe's name, or the path of a YAML file.
        overrides: "section.key=value" texts, values in YAML; later ones win.

    Raises:
        RecipeError: naming the key, what was expected and what was received.
    """
    settings = _read(name_or_file)
    for override in overrides:
        _apply(settings, override)
    try:
        return Recipe.model_validate(settings)
    except ValidationError as err:
        raise RecipeError(_explain(err, name_or_file)) from err


def _read(name_or_file: str, depth: int = 0) -> dict[str, Any]:
    path = RECIPES / f"{name_or_file}.yaml" if name_or_file in shipped_recipes() else Path(name_or_file)
    if not path.is_file():
        shipped = ", ".join(shipped_recipes())
        raise RecipeError(f"recipe: expected one of {shipped}, or a file. Received: {name_or_file!r}")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as err:
        raise RecipeError(f"recipe {path.name} cannot be read as YAML: {err}") from err
    if not isinstance(settings, dict):
        raise RecipeError(f"recipe {path.name}: expected sections. Received: {type(settings).__name__}")
    base = settings.pop("extends", None)
    if base is None:
        return cast(dict[str, Any], settings)
    if not isinstance(base, str) or depth > 4:
        raise RecipeError(f"recipe {path.name}: extends: expected a recipe's name. Received: {base!r}")
    return _merged(_read(base, depth + 1), settings)


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else value
    return result


def _apply(settings: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or "." not in key:
        raise RecipeError(f"--set: expected section.key=value, such as train.epochs=5. Received: {override!r}")
    *sections, last = key.split(".")
    section = settings
    for name in sections:
        if not isinstance(section.get(name, {}), dict):
            raise RecipeError(f"--set {override}: {name} is a value, not a section")
        section = section.setdefault(name, {})
    try:
        section[last] = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise RecipeError(f"--set {override}: the value is not YAML: {err}") from err


def _explain(error: ValidationError, name: str) -> str:
    lines = []
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        if item["type"] == "extra_forbidden":
            lines.append(_unknown_key(path))
        elif item["type"] == "value_error":  # raised above, in words that need nothing added
            lines.append(item["msg"].removeprefix("Value error, "))
        else:
            lines.append(f"{'.'.join(path)}: {item['msg']}. Received: {item['input']!r}")
    return f"recipe {name}: " + "; ".join(lines)


def _unknown_key(path: Sequence[str]) -> str:
    section: type[BaseModel] = Recipe
    for part in path[:-1]:
        inner = section.model_fields[part].annotation
        options = [inner, *getattr(inner, "__args__", ())]
        section = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    known = list(section.model_fields)
    near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
    return f"unknown key {'.'.join(path)}: {hint}"
