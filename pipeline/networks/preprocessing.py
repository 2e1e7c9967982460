"""The arithmetic between pixels of 0-255 and a network, on numpy arrays, tensors and nodes of a graph alike."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecipeError

if TYPE_CHECKING:  # the recipe brings pydantic
    from pipeline.recipe.preprocessing_modes import ColorOrder, Mode
    from pipeline.recipe.preprocessing_settings import Arithmetic, Preprocessing

Operation = Literal["Reverse", "Mul", "AddV2", "RealDiv", "Sub"]  # "Reverse" turns RGB into BGR
Step = tuple[Operation, Any]

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB in [0, 1]
_BGR_MEAN = (103.939, 116.779, 123.68)  # of ImageNet, in [0, 255]

_STEPS: dict[Mode, list[Step]] = {
    "none": [],
    "unit": [("RealDiv", 255.0)],
    "tf": [("RealDiv", 127.5), ("Sub", 1.0)],
    "caffe": [("Reverse", None), ("Sub", _BGR_MEAN)],
    "torch": [("RealDiv", 255.0), ("Sub", _MEAN), ("RealDiv", _DEVIATION)],
}
_WORDS: dict[Mode, str] = {
    "none": "inside the network",
    "unit": "[0, 1]",
    "tf": "[-1, 1]",
    "caffe": "BGR minus the ImageNet mean",
    "torch": "ImageNet mean and deviation",
}
_FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "Mul": operator.mul,
    "AddV2": operator.add,
    "RealDiv": operator.truediv,
    "Sub": operator.sub,
}


def choose_preprocessing(
    mode: Mode | None,
    scale: tuple[float, ...] | None = None,
    offset: tuple[float, ...] | None = None,
    color_order: ColorOrder | None = None,
) -> Preprocessing | None:
    """Return the preprocessing that flags describe; None if they say nothing.

    Raises:
        RecipeError: if they contradict each other.
    """
    from pipeline.recipe.preprocessing_settings import Arithmetic

    if scale is None and offset is None:
        if color_order is None or (color_order == "rgb" and mode not in ("caffe", None)):
            return mode
        if mode == "caffe":
            raise RecipeError("--preprocessing caffe gives BGR: expected no --color-order beside it")
        return _reversed(mode or "none") if color_order == "bgr" else "none"
    if mode is not None:
        raise RecipeError(f"--preprocessing {mode}: expected neither --scale nor --offset beside it")
    return Arithmetic(scale=scale or (1.0,), offset=offset or (0.0,), color_order=color_order or "rgb")


def _reversed(mode: Mode) -> Arithmetic:
    """Return a mode of RGB as numbers for a network that takes BGR."""
    from pipeline.recipe.preprocessing_settings import Arithmetic

    numbers: dict[Mode, tuple[tuple[float, ...], tuple[float, ...]]] = {
        "none": ((1.0,), (0.0,)),
        "unit": ((1 / 255,), (0.0,)),
        "tf": ((1 / 127.5,), (-1.0,)),
        "torch": (
            tuple(1 / (255 * deviation) for deviation in reversed(_DEVIATION)),
            tuple(-mean / deviation for mean, deviation in zip(_MEAN[::-1], _DEVIATION[::-1], strict=True)),
        ),
    }
    scale, offset = numbers[mode]
    return Arithmetic(scale=scale, offset=offset, color_order="bgr")


def check_channels(preprocessing: Preprocessing, channels: int) -> None:
    """Check that a preprocessing suits so many channels.

    Raises:
        RecipeError: if it has numbers for another count, or reverses the colours of grey images.
    """
    if isinstance(preprocessing, str):
        if channels == 1 and preprocessing in ("caffe", "torch"):
            raise RecipeError(f"preprocessing: {preprocessing} is for 3 channels. Received: 1 channel")
        return
    for name, numbers in (("scale", preprocessing.scale), ("offset", preprocessing.offset)):
        if len(numbers) not in (1, channels):
            raise RecipeError(
                f"preprocessing {name}: expected one number, or {channels} for {channels} channels. "
                f"Received: {len(numbers)}"
            )
    if channels == 1 and preprocessing.color_order == "bgr":
        raise RecipeError("preprocessing color_order: bgr is for 3 channels. Received: 1 channel")


def preprocessing_steps(preprocessing: Preprocessing) -> list[Step]:
    """Return what a preprocessing does to float pixels of 0-255, step by step."""
    if isinstance(preprocessing, str):
        return _STEPS[preprocessing]
    steps: list[Step] = [("Reverse", None)] if preprocessing.color_order == "bgr" else []
    steps += [("Mul", preprocessing.scale)] if preprocessing.scale != (1.0,) else []
    return steps + ([("AddV2", preprocessing.offset)] if preprocessing.offset != (0.0,) else [])


def apply_preprocessing(images: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return what the steps give, by numpy: float32, the shape of `images`."""
    return np.ascontiguousarray(_take_steps(images.astype(np.float32), preprocessing))


def preprocess(images: Any, preprocessing: Preprocessing) -> Any:
    """Return pixels as a network takes them, on numpy arrays and tensors alike; Keras's modes by its own function.

    Args:
        images: float32, shape (batch, height, width, channels), values 0-255, RGB or grey; a numpy array may be
            changed in place.
        preprocessing: the network's.
    """
    if preprocessing in ("tf", "caffe", "torch"):
        from keras.applications.imagenet_utils import preprocess_input

        return preprocess_input(images, mode=preprocessing)
    return _take_steps(images, preprocessing)


def _take_steps(values: Any, preprocessing: Preprocessing) -> Any:
    for operation, operand in preprocessing_steps(preprocessing):
        if operation == "Reverse":
            values = values[..., ::-1]
        else:
            values = _FUNCTIONS[operation](values, np.asarray(operand, np.float32))
    return values


def summarize_preprocessing(preprocessing: Preprocessing) -> str:
    """Return a few words for a table."""
    if isinstance(preprocessing, str):
        return _WORDS[preprocessing]
    scale, offset = (",".join(f"{number:g}" for number in row) for row in (preprocessing.scale, preprocessing.offset))
    return f"{preprocessing.color_order.upper()} times {scale} plus {offset}"


def describe_preprocessing(preprocessing: Preprocessing) -> Any:
    """Return what provenance says of it: a mode's name or an object."""
    return preprocessing if isinstance(preprocessing, str) else preprocessing.model_dump(mode="json")


def parse_numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of a flag such as "0.5", "1/127.5" or "1/58.4,1/57.1,1/57.4".

    Raises:
        ValueError: if it is not one to three finite numbers.
    """
    numbers = []
    for part in text.split(","):
        above, slash, below = part.partition("/")
        numbers.append(float(above) / float(below) if slash else float(above))
    if not 1 <= len(numbers) <= 3 or not all(math.isfinite(number) for number in numbers):
        raise ValueError(text)
    return tuple(numbers)
