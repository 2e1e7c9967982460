"""The `data` section of a recipe: which images, and how they are split."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.recipe.settings_base import SettingsBase

NEAR_DUPLICATES = "near-duplicates"
Column = Literal["path", "label", "group", "split"]


class Data(SettingsBase):
    """Which images, and how they are split.

    Attributes:
        val_fraction: share of the training images that validates, when the set has no val/ folder.
        test_fraction: share that tests, when the set has no test/ folder.
        group: what stays on one side of every split. A regular expression is searched in an image's path below its
            class folder; images with the same match (its first group, if it has one) belong together.
            "near-duplicates": images that look the same belong together, for sets that do not name the patient.
            None: the group column of a table that has one, else every image is its own group.
        color: "rgb" or "grey".
        on_unreadable: "refuse" stops before training when a file cannot be decoded, "skip" leaves it out and says so.
        allow_leakage: let test images be copies of training images; the numbers are worth nothing then.
        near_distance: two images are near copies when at most this many of the 256 bits of their perceptual hashes
            differ. 16 finds what was resized or compressed again; 40 also what was cropped or turned by a hair.
        columns: for CSV and Parquet, the names of the columns, such as {path: file, label: diagnosis}.
    """

    val_fraction: Annotated[float, Field(gt=0.0, lt=0.9)] = 0.15
    test_fraction: Annotated[float, Field(gt=0.0, lt=0.9)] = 0.2
    group: str | None = None
    color: Literal["rgb", "grey"] = "rgb"
    on_unreadable: Literal["refuse", "skip"] = "refuse"
    allow_leakage: bool = False
    near_distance: Annotated[int, Field(ge=0, le=40)] = 16
    columns: dict[Column, str] = Field(default_factory=dict)

    @field_validator("group")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as err:
            raise ValueError(f"expected a regular expression or {NEAR_DUPLICATES}: {err}") from err
        return value
