"""Settings of the arithmetic that turns pixels of 0-255 into the numbers that a network takes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator

from pipeline.recipe.preprocessing_modes import ColorOrder, Mode
from pipeline.recipe.settings_base import SettingsBase

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
UNION_TAGS = ("mode", "numbers", "a rate", "a search")  # stand in the place of an error, which does not need them
PreprocessingSetting = Annotated[
    Annotated[Mode, Tag("mode")] | Annotated[Arithmetic, Tag("numbers")],
    Discriminator(lambda value: "mode" if isinstance(value, str) else "numbers"),
]
