"""The `data` section of a recipe: which images, and how they are split."""

from __future__ import annotations

import codecs
import re
from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from pipeline.recipe.settings_base import SettingsBase
from pipeline.recipe.spelt_yaml import Label

NEAR_DUPLICATES = "near-duplicates"
DEEP_FILES = 20_000  # largest set that is searched whole without `deep`
Column = Literal["path", "label", "group", "split"]
Split = Literal["train", "val", "test"]
Shortcut = Literal["format", "compression", "size", "shape", "mode", "metadata"]
Side = Literal["train", "val", "test", "any"]


class Data(SettingsBase):
    """Settings of the images and of their split.

    Attributes:
        val_fraction: share of the training images that validates, when the set has no val/ folder.
        test_fraction: share that tests, when the set has no test/ folder.
        group: what stays on one side of every split. A regular expression is searched in an image's path below its
            class folder; images with the same match (its first group, if it has one) belong together.
            "near-duplicates": images that look the same belong together, for sets that do not name the patient.
            None: the group column of a table that has one, else every image is its own group.
        color: "rgb" or "grey".
        on_unreadable: "refuse" stops before training when a file cannot be decoded, "skip" leaves it out and says so.
        validate_on_test: validate on the test images, as some lectures do: no validation images are taken out of the
            training images, and no honest test is left.
        allow_leakage: let test images be copies of training images, or of their groups; the numbers are worth nothing
            then.
        allow_shortcuts: facts of the files that may tell the classes, such as [format, size]: a model may go by them,
            and its numbers then say nothing about images that are stored in another way.
        near_distance: two images are near copies when at most this many of the 256 bits of their perceptual hashes
            differ. 16 finds what was resized or compressed again; 40 also what was turned by a hair. Copies that were
            mirrored, turned by quarters or cropped are found whatever it is.
        deep: also do the searches of the audit that grow with the set where it has more than 20,000 files; smaller
            sets are always searched whole.
        columns: for tables, the names of the columns, such as {path: file, label: diagnosis}.
        folder: for tables, the folder of the images, below the table's own.
        suffix: for tables, what the paths lack, such as ".png".
        splits: what each top folder is (or each value of a table's split column): train, val, test, or any, which is
            split as a whole; such as {fold1: train, fold2: test}. {}: the top folders are the classes, whatever their
            names. None: folders with known names are splits.
        zip_encoding: of names in a zip that are not marked as UTF-8, such as gbk, shift_jis or cp437.
    """

    omitted: ClassVar[frozenset[str]] = frozenset({"validate_on_test"})

    val_fraction: Annotated[float, Field(gt=0.0, lt=0.9)] = 0.15
    test_fraction: Annotated[float, Field(gt=0.0, lt=0.9)] = 0.2
    group: str | None = None
    color: Literal["rgb", "grey"] = "rgb"
    on_unreadable: Literal["refuse", "skip"] = "refuse"
    allow_leakage: bool = False
    allow_shortcuts: tuple[Shortcut, ...] = ()
    near_distance: Annotated[int, Field(ge=0, le=40)] = 16
    deep: bool = False
    columns: dict[Column, Label] = Field(default_factory=dict)
    folder: str | None = None
    suffix: str | None = None
    splits: dict[Label, Side] | None = None
    zip_encoding: str | None = None
    validate_on_test: bool = False

    def is_deep(self, num_files: int) -> bool:
        """Return whether the audit of so many files does its expensive searches."""
        return self.deep or num_files <= DEEP_FILES

    @field_validator("group")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as err:
            raise ValueError(f"expected a regular expression or {NEAR_DUPLICATES}: {err}") from err
        return value

    @field_validator("folder")
    @classmethod
    def _is_below(cls, value: str | None) -> str | None:
        path = PurePosixPath((value or "").replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"data.folder: expected a folder below the table's own. Received: {value!r}")
        return value and str(path)

    @field_validator("suffix")
    @classmethod
    def _begins_with_a_dot(cls, value: str | None) -> str | None:
        if value and ("/" in value or "\\" in value):
            raise ValueError(f"data.suffix: expected a suffix, such as .png. Received: {value!r}")
        return value and f".{value.removeprefix('.')}"

    @field_validator("zip_encoding")
    @classmethod
    def _is_an_encoding(cls, value: str | None) -> str | None:
        try:
            "".encode(value or "utf-8")
        except (LookupError, ValueError) as err:
            raise ValueError(
                f"data.zip_encoding: expected an encoding, such as gbk, shift_jis or cp437. Received: {value!r}"
            ) from err
        return value and codecs.lookup(value).name
