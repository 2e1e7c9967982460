"""How pixels of 0-255 become the numbers that a network takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from pipeline.recipe.settings_base import SettingsBase

# "caffe", "tf" and "torch" are Keras's own (keras.applications.imagenet_utils.preprocess_input): BGR minus the ImageNet
# mean, [-1, 1], and ImageNet-normalised. "unit" is [0, 1]; "none" leaves pixels as they are.
Mode = Literal["none", "unit", "tf", "caffe", "torch"]
ColorOrder = Literal["rgb", "bgr"]
Numbers = Annotated[tuple[float, ...], Field(min_length=1, max_length=3)]


class Arithmetic(SettingsBase):
    """Pixels of 0-255 times `scale` plus `offset`.

    Attributes:
        scale: one number, or one for each channel in the network's order; not 0.
        offset: the same.
        color_order: the network's order of the channels; files are read as RGB.
    """

    scale: Numbers = (1.0,)
    offset: Numbers = (0.0,)
    color_order: ColorOrder = "rgb"

    @field_validator("scale", "offset", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("scale")
    @classmethod
    def _not_zero(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if 0 in value:
            raise ValueError("expected numbers other than 0")
        return value


Preprocessing = Mode | Arithmetic
UNION_TAGS = ("mode", "numbers")  # stand in the place of an error, which does not need them
PreprocessingSetting = Annotated[
    Annotated[Mode, Tag("mode")] | Annotated[Arithmetic, Tag("numbers")],
    Discriminator(lambda value: "mode" if isinstance(value, str) else "numbers"),
]
