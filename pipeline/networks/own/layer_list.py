"""Builds a straight network from a recipe's list of Keras layers; Keras checks every setting."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.errors import RecipeError
from pipeline.networks.own.keras_message import keras_message, spell_shape

# They run code, read files, or need another layer or model.
_REFUSED = {
    "Lambda": "it runs code; a network of your own code is a file: model.backbone=path/to/net.py:build",
    "TFSMLayer": "it loads a SavedModel, which is code",
    "TorchModuleWrapper": "it runs code",
    "JaxLayer": "it runs code",
    "FlaxLayer": "it runs code",
    "InputLayer": "the input is model.input_size and data.color",
    "Hashing": "its output is categories, not numbers",
    "StringLookup": "its input is text",
    "IntegerLookup": "its input is integers",
    "TextVectorization": "its input is text",
}
_OBJECTS = {"_regularizer": "regularizers", "_initializer": "initializers", "_constraint": "constraints"}


def build_layers(
    entries: Sequence[Mapping[str, Mapping[str, Any]]], shape: tuple[int, int, int], num_classes: int, places: list[str]
) -> Any:
    """Return a Keras model: the listed layers, then Dense(num_classes) and softmax where the list does not end so.

    Args:
        entries: one layer each: its name in keras.layers, and its settings.
        shape: of the input.
        num_classes: units of the last layer.
        places: where each entry stands, such as "net.yaml line 4".

    Raises:
        RecipeError: naming the place and the layer.
    """
    import keras

    images = x = keras.Input(shape)
    pixels: Any = np.zeros((1, *shape), np.float32)
    named: dict[str, str] = {}
    for i, (entry, place) in enumerate(zip(entries, places, strict=True)):
        ((name, settings),) = entry.items()
        where = f"model.layers, {place}: {name}"
        layer = _make(name, settings, where)
        is_last = i + 1 == len(entries)
        if is_last and isinstance(layer, keras.layers.Dense) and _activation(layer) == "softmax":
            _check_classes(layer.units, num_classes, where)
        if layer.name in named:
            raise RecipeError(
                f"{where}: name: expected another than that of {named[layer.name]}. Received: {layer.name}"
            )
        named[layer.name] = place
        x = _apply(layer, x, where)
        pixels = _run(layer, pixels, where)
    if not (isinstance(layer, keras.layers.Dense) and _activation(layer) == "softmax"):
        if len(x.shape) != 2:
            raise RecipeError(
                f"{where}: expected an output of shape (batch, numbers) before the layer of classes, which is added. "
                f"Received: {spell_shape(x.shape)}; add Flatten or GlobalAveragePooling2D"
            )
        x = keras.layers.Dense(num_classes, activation="softmax")(x)
    return keras.Model(images, x, name="layers")


def _make(name: str, settings: Mapping[str, Any], where: str) -> Any:
    kind = _find(name, where)
    known = _parameters(kind)
    for key, value in settings.items():
        if key not in known and key not in ("name", "dtype", "trainable"):
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            raise RecipeError(f"{where}: unknown setting {key}: {hint}")
        if isinstance(value, Mapping) and not key.endswith(tuple(_OBJECTS)):
            raise RecipeError(f"{where}: {key}: expected a number, a text or a list. Received: {dict(value)!r}")
    try:
        return kind(**{key: _value(key, value, where) for key, value in settings.items()})
    except RecipeError:
        raise
    except Exception as err:  # Keras raises ValueError, TypeError, AttributeError and more
        raise RecipeError(f"{where}: {keras_message(err)}") from err


def _find(name: str, where: str) -> Any:
    import keras

    if name in _REFUSED:
        raise RecipeError(f"{where} is not allowed: {_REFUSED[name]}")
    kinds = {key: kind for key, kind in vars(keras.layers).items() if _is_layer(kind)}
    if name not in kinds:
        lower = {key.lower(): key for key in kinds if key not in _REFUSED}
        near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
        hint = f"did you mean {lower[near[0]]}?" if near else "see https://keras.io/api/layers"
        raise RecipeError(f"{where}: there is no layer of this name in keras.layers: {hint}")
    return kinds[name]


def _is_layer(kind: Any) -> bool:
    import keras

    return inspect.isclass(kind) and issubclass(kind, keras.layers.Layer) and kind is not keras.layers.Layer


def _parameters(kind: Any) -> list[str]:
    return [
        name
        for name, parameter in inspect.signature(kind.__init__).parameters.items()
        if name != "self" and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]


def _value(key: str, value: Any, where: str) -> Any:
    """Return a setting for a constructor; `{L2: 0.001}` and `{HeNormal: {seed: 1}}` become Keras's objects."""
    import keras

    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, Mapping):
        return value
    if len(value) != 1:
        raise RecipeError(f"{where}: {key}: expected one name with its settings, such as {{L2: 0.001}}")
    ((name, settings),) = value.items()
    module = getattr(keras, next(room for end, room in _OBJECTS.items() if key.endswith(end)))
    kinds: dict[str, Any] = vars(module)
    if not inspect.isclass(kinds.get(str(name))):
        names = [other for other, found in kinds.items() if inspect.isclass(found)]
        near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
        raise RecipeError(f"{where}: {key}: unknown name {name}: {hint}")
    kind = kinds[str(name)]
    if isinstance(settings, Mapping):
        return kind(**settings)
    return kind() if settings is None else kind(settings)


def _apply(layer: Any, x: Any, where: str) -> Any:
    try:
        output = layer(x)
    except Exception as err:  # as above
        raise RecipeError(
            f"{where} cannot follow, on an input of shape {spell_shape(x.shape)}: {keras_message(err)}"
        ) from err
    if not hasattr(output, "shape") or any(size is not None and size < 1 for size in output.shape[1:]):
        received = spell_shape(output.shape) if hasattr(output, "shape") else type(output).__name__
        raise RecipeError(f"{where} leaves nothing of an input of shape {spell_shape(x.shape)}. Received: {received}")
    return output


def _run(layer: Any, values: Any, where: str) -> Any:
    """Run a layer on numbers: Keras checks some settings there alone."""
    try:
        return layer(values)
    except Exception as err:  # as above
        raise RecipeError(f"{where} cannot be run: {keras_message(err)}") from err


def _check_classes(units: int, num_classes: int, where: str) -> None:
    if units != num_classes:
        raise RecipeError(
            f"{where}: expected {num_classes} units, one for each class of the set. Received: {units}; "
            "without this layer Fovea adds it"
        )


def _activation(layer: Any) -> str:
    return getattr(layer.activation, "__name__", "")
