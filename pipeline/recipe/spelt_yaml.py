"""Class names in YAML: numbers are taken as they are spelt, other values must be quoted."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator


class SpeltInt(int):
    """A whole number of a YAML text.

    Attributes:
        text: as it is written there, such as "007".
    """

    text: str


class SpeltFloat(float):
    """A number of a YAML text.

    Attributes:
        text: as it is written there, such as "1.50".
    """

    text: str


class _Loader(yaml.SafeLoader):
    """Reads YAML as `yaml.safe_load` does, and keeps the spelling of numbers."""


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    number = SpeltInt(loader.construct_yaml_int(node))
    number.text = node.value
    return number


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    number = SpeltFloat(loader.construct_yaml_float(node))
    number.text = node.value
    return number


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def load_yaml(text: str) -> Any:
    """Return the document of a YAML text.

    Raises:
        yaml.YAMLError: if it is not YAML.
    """
    return yaml.load(text, _Loader)


def explain_unquoted(key: str | None, value: Any) -> str:
    """Return what YAML made of a text that was not quoted, and what to do; "" for other values.

    Args:
        key: of the recipe, such as "evaluate.positive"; None for an entry of a list or a mapping.
        value: as YAML reads it.
    """
    if isinstance(value, bool):
        text, kind = "yes" if value else "no", "a truth value, as it does on, off, true and false"
    elif isinstance(value, int | float):
        text, kind = _spelling(value), f"the number {value}"
    elif isinstance(value, date):
        text, kind = str(value), "a date"
    elif value is None:
        text, kind = "null", "nothing, as it does ~ and an empty value"
    else:
        return ""
    quoted = f"'{text}'" if key is None else f"{key}=\"'{text}'\""
    return f"YAML reads {text} as {kind}; to name it, quote it: {quoted}"


def _spelling(value: float) -> str:
    return value.text if isinstance(value, SpeltInt | SpeltFloat) else str(value)


def _spell(value: Any) -> Any:
    """Return a whole number as its text, where that is its usual spelling; other values as they are."""
    if isinstance(value, int) and not isinstance(value, bool) and _spelling(value) == str(int(value)):
        return str(int(value))
    return value


Label = Annotated[str, BeforeValidator(_spell)]
"""A class, a column or a folder: text, or a whole number as it is spelt."""
