"""Recipes: every setting of a run, checked before anything else happens.

A recipe is YAML; `extends: NAME` starts from a shipped one. Shipped recipes are the files in recipes/; each opens with
its command and what it reaches. `--set train.epochs=5` overrides one key. Unknown keys are errors.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import ErrorDetails

from contract.files.regular import read_regular
from engine.precision_names import FLOAT32, Precision
from pipeline.errors import RecipeError
from pipeline.recipe.augment_settings import Augment, Cache
from pipeline.recipe.data_settings import Data
from pipeline.recipe.evaluate_settings import Evaluate
from pipeline.recipe.optimizer_settings import OPTIMIZERS
from pipeline.recipe.preprocessing_settings import UNION_TAGS
from pipeline.recipe.recipe_files import RECIPES, shipped_recipes
from pipeline.recipe.settings_base import SettingsBase
from pipeline.recipe.spelt_yaml import explain_unquoted, load_yaml
from pipeline.recipe.training_settings import LAYERS, Model, Train

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Export(SettingsBase):
    """The published artifact.

    Attributes:
        precisions: those that may be served by default where they prove equivalent to float32, which is always among
            them; int8 is a model of its own, which NNCF makes. "auto": all, int8 where NNCF is installed.
        tolerance: how far a faster precision may move the probabilities of 95 % of the images.
        int8_minutes: in which layers that hurt are looked for, where the plain int8 model is not equivalent; 0: no
            search.
    """

    tolerance: Fraction = 0.02
    precisions: Literal["auto"] | list[Precision] = "auto"
    int8_minutes: Annotated[float, Field(ge=0.0, le=1440.0)] = 10.0

    def allows(self, precision: str) -> bool:
        """Return whether a precision may be served by default."""
        return self.precisions == "auto" or precision in (FLOAT32, *self.precisions)


class Recipe(SettingsBase):
    """Every setting of a run."""

    data: Data = Data()
    model: Model = Model()
    augment: Augment = Augment()
    cache: Cache = Cache()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    # Where `load_recipe` found it: the settings of shipped recipes, and those of the user's files and overrides.
    _shipped: dict[str, Any] | None = PrivateAttr(None)
    _named: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def is_from_scratch(self) -> bool:
        """True if the shipped recipe that it extends trains from scratch."""
        return bool((self._shipped or {}).get("model", {}).get("weights") == "none")

    def names(self, key: str) -> bool:
        """Return whether the user's own file or override names a key, such as "model.weights", or a part of it."""
        value: Any = self._named
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return False
            value = value[part]
        return True

    @model_validator(mode="after")
    def _trains_something_useful(self) -> Recipe:
        if self.model.weights == "none" and self.train.freeze_backbone:
            raise ValueError(
                "model.weights is none and train.freeze_backbone is true: a frozen backbone with random weights learns "
                "nothing. Set train.freeze_backbone=false, or give model.weights"
            )
        return self

    @model_validator(mode="after")
    def _has_views_to_average(self) -> Recipe:
        if self.evaluate.tta is not None and not self.augment.changes_images:
            raise ValueError(
                f"evaluate.tta is {self.evaluate.tta} and augment changes no images: all views would be the same. "
                "Leave evaluate.tta out, or turn an augmentation on"
            )
        return self


def load_recipe(name_or_file: str = "default", overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        name_or_file: a shipped recipe's name, or the path of a YAML file.
        overrides: "section.key=value" texts, values in YAML; later ones win.

    Raises:
        RecipeError: naming the key, the expected and the received value.
    """
    shipped, named = _read(name_or_file)
    settings = copy.deepcopy(_merged(shipped, named))
    named = copy.deepcopy(named)
    for override in overrides:
        _apply(settings, override)
        _apply(named, override)
    _choose_network(settings, named)
    recipe = _validated(name_or_file, shipped, named, settings)
    if any(override.startswith("model.layers") for override in overrides):
        recipe.model._lines = ()
    return recipe


def _choose_network(settings: dict[str, Any], named: Mapping[str, Any]) -> None:
    """Let the user's network replace a shipped recipe's, and one of random weights train whole."""
    model, train = named.get("model"), named.get("train")
    if not isinstance(model, Mapping):
        return
    if model.get("layers") is not None and model.get("backbone", LAYERS) != LAYERS:
        raise RecipeError(f"model.backbone: expected none beside model.layers. Received: {model['backbone']!r}")
    if "backbone" in model and "layers" not in model:
        settings["model"].pop("layers", None)
    names_freezing = isinstance(train, Mapping) and "freeze_backbone" in train
    if "backbone" in model and model.get("weights") == "none" and not names_freezing:
        section = settings.setdefault("train", {})
        if isinstance(section, dict):
            section["freeze_backbone"] = False


def restart(recipe: Recipe, base: str, *, leave_out: Sequence[str]) -> Recipe:
    """Return a recipe with the settings of a shipped one, but for those that the user's file or overrides name.

    Args:
        recipe: as `load_recipe` gave it; others stay as they are.
        base: the shipped recipe.
        leave_out: its keys that are not taken, such as "model.backbone".

    Raises:
        RecipeError: if the two contradict each other.
    """
    if recipe._shipped is None:
        return recipe
    over = copy.deepcopy(_read(base)[0])
    for key in leave_out:
        section = over
        *sections, last = key.split(".")
        for name in sections:
            section = section[name]
        section.pop(last, None)
    shipped = _merged(recipe._shipped, over)
    settings = copy.deepcopy(_merged(shipped, recipe._named))
    _choose_network(settings, recipe._named)
    restarted = _validated(base, shipped, recipe._named, settings)
    restarted.model._lines = recipe.model._lines
    return restarted


def _validated(name: str, shipped: dict[str, Any], named: dict[str, Any], settings: dict[str, Any]) -> Recipe:
    try:
        recipe = Recipe.model_validate(settings)
    except ValidationError as err:
        raise RecipeError(_with_lines(_explain(err, name), _layer_lines(name, named))) from err
    recipe._shipped, recipe._named = shipped, named
    recipe.model._lines = _layer_lines(name, named)
    return recipe


def _with_lines(message: str, lines: tuple[str, ...]) -> str:
    """Return a message that names the line of a layer in place of its number, where the line is known."""

    def place(found: re.Match[str]) -> str:
        number = int(found[1])
        return f"model.layers, {lines[number - 1] if number <= len(lines) else f'layer {number}'}:"

    return re.sub(r"model\.layers, layer (\d+):", place, message)


def _layer_lines(name: str, named: Mapping[str, Any]) -> tuple[str, ...]:
    """Return where the layers of `model.layers` stand in the user's file; nothing where they are not in it."""
    path = Path(name)
    if name in shipped_recipes() or not path.is_file() or "layers" not in (named.get("model") or {}):
        return ()
    node: Any = yaml.compose(read_regular(path).decode("utf-8"), yaml.SafeLoader)
    for key in ("model", "layers"):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for found, value in pairs if found.value == key), None)
    entries = node.value if isinstance(node, yaml.SequenceNode) else []
    return tuple(f"{path.name} line {entry.start_mark.line + 1}" for entry in entries)


def _read(name_or_file: str, depth: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of shipped recipes, and those of the user's own files."""
    path = RECIPES / f"{name_or_file}.yaml" if name_or_file in shipped_recipes() else Path(name_or_file)
    if not path.is_file():
        near = difflib.get_close_matches(name_or_file, shipped_recipes(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        known = ", ".join(shipped_recipes())
        raise RecipeError(f"recipe: expected one of {known}, or a file. Received: {name_or_file!r}{hint}")
    try:
        settings = load_yaml(read_regular(path).decode("utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as err:
        raise RecipeError(f"recipe {path.name} cannot be read as YAML: {err}") from err
    if not isinstance(settings, dict):
        raise RecipeError(f"recipe {path.name}: expected sections. Received: {type(settings).__name__}")
    base = settings.pop("extends", None)
    is_shipped = name_or_file in shipped_recipes()
    if base is None:
        return ({}, settings) if not is_shipped else (settings, {})
    if not isinstance(base, str) or depth > 4:
        raise RecipeError(f"recipe {path.name}: extends: expected a recipe's name. Received: {base!r}")
    shipped, named = _read(base, depth + 1)
    return (_merged(shipped, settings), named) if is_shipped else (shipped, _merged(named, settings))


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        both = both and key != "optimizer"  # another one has other settings
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
        section[last] = load_yaml(text)
    except yaml.YAMLError as err:
        raise RecipeError(f"--set {override}: the value is not YAML: {err}") from err


def _explain(error: ValidationError, name: str) -> str:
    lines = []
    for item in error.errors():
        path = _path_of(item)
        if item["type"] == "extra_forbidden":
            lines.append(_unknown_key(path))
        elif item["type"] == "value_error":  # raised above, in words that need nothing added
            lines.append(item["msg"].removeprefix("Value error, "))
        else:
            lines.append(_explain_value(path, item))
    return f"recipe {name}: " + "; ".join(lines)


def _path_of(item: ErrorDetails) -> list[str]:
    """Return the keys of a value in error, without the names that Pydantic puts in for members of unions."""
    loc = [str(part) for part in item["loc"]]
    return [
        part
        for i, part in enumerate(loc)
        if part not in UNION_TAGS and not (part in OPTIMIZERS and i > 0 and loc[i - 1] == "optimizer")
    ]


def _explain_value(path: Sequence[str], item: ErrorDetails) -> str:
    key = ".".join(part for part in path if "[" not in part)  # "[key]", and Pydantic's name of a member of a union
    is_entry = any(part.isdigit() or part == "[key]" for part in path)
    hint = explain_unquoted(None if is_entry else key, item["input"]) if item["type"] == "string_type" else ""
    return f"{key}: {item['msg']}. Received: {item['input']!r}{f' ({hint})' if hint else ''}"


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that a field's type names, in unions and annotations too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)


def _inner_sections(section: type[BaseModel], key: str) -> list[type[BaseModel]]:
    field = section.model_fields.get(key)
    return [] if field is None else list(_sections(field.annotation))


def _unknown_key(path: Sequence[str]) -> str:
    sections: list[type[BaseModel]] = [Recipe]
    for part in path[:-1]:
        sections = [inner for section in sections for inner in _inner_sections(section, part)]
    known = list(dict.fromkeys(name for section in sections for name in section.model_fields))
    near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
    return f"unknown key {'.'.join(path)}: {hint}"
