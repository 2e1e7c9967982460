"""Builds the model card: purpose, meaning of the classes, limits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from contract.files.regular import read_regular
from pipeline.errors import RecipeError, list_names
from pipeline.recipe.evaluate_settings import Card
from pipeline.recipe.spelt_yaml import Label, explain_unquoted, load_yaml

NOT_A_DEVICE = "Not a medical device: not for diagnosis, nor for decisions about a person's care."
_DEFINITIONS = TypeAdapter(dict[Label, str])
_CLOSED_SET = "It names one of its classes for every image, also for one of something else."
_OTHER_ORIGINS = "Images of other origin than the training images, such as another camera, may give other numbers."
_OTHER_PATIENTS = "Other cameras, sites and patients than those in the training images may give other numbers."


def read_card(card: Card, labels: Sequence[str]) -> dict[str, Any]:
    """Return the card's texts, definitions read from their file if they are in one.

    Args:
        card: from the recipe.
        labels: class names.

    Returns:
        medical, use, limits (a list) and definitions by label; a class without a definition has None.

    Raises:
        RecipeError: if the file cannot be read, is no mapping of texts, or defines an unknown class.
    """
    found = card.definitions if isinstance(card.definitions, dict) else _read_file(Path(card.definitions))
    if unknown := sorted(set(found) - set(labels)):
        raise RecipeError(
            f"evaluate.card.definitions: expected the classes {list_names(labels)}. Received: {list_names(unknown)}"
        )
    own = [card.limits] if card.limits else []
    limits = [*own, _CLOSED_SET, _OTHER_PATIENTS if card.medical else _OTHER_ORIGINS]
    return {
        "medical": card.medical,
        "use": card.use,
        "limits": [NOT_A_DEVICE, *limits] if card.medical else limits,
        "definitions": {label: found.get(label) for label in labels},
    }


def _read_file(path: Path) -> dict[str, str]:
    try:
        found = load_yaml(read_regular(path).decode("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as err:
        raise RecipeError(f"evaluate.card.definitions: {path.name} cannot be read as YAML: {err}") from err
    try:
        return _DEFINITIONS.validate_python(found)
    except ValidationError as err:
        hint = next((words for item in err.errors() if (words := explain_unquoted(None, item["input"]))), "")
        raise RecipeError(
            f"evaluate.card.definitions: expected {path.name} to map class names to texts{f' ({hint})' if hint else ''}"
        ) from err
