"""The sections `augment` and `cache` of a recipe: changes to training images, and caches of pixels and features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.recipe.settings_base import SettingsBase

_IN_THE_GRAPH = (
    "that arithmetic is inside the exported graph, chosen by the backbone, so that training and serving cannot differ"
)
_REFUSED = (
    "rescale",
    "preprocessing_function",
    "featurewise_center",
    "featurewise_std_normalization",
    "samplewise_center",
    "samplewise_std_normalization",
    "zca_whitening",
    "zca_epsilon",
)
_ELSEWHERE = {
    "validation_split": "use data.val_fraction, which keeps groups together",
    "data_format": "images are always [height, width, channels]",
    "dtype": "pixels are always float32 here",
    "interpolation_order": "it is 1 (bilinear)",
}

Range = Annotated[float, Field(ge=0.0)]
Factor = Annotated[float, Field(ge=0.0, le=100.0)]


class Augment(SettingsBase):
    """Random changes to training images, in ImageDataGenerator's own names, units and meanings.

    The classic four are on by default. Shifts below 1 are fractions of the size; rotation and shear are degrees;
    a zoom factor above 1 zooms out; brightness factors multiply. Validation and test images are never augmented.

    Attributes:
        engine: "fast" changes whole batches in tf.data; "keras" calls ImageDataGenerator itself, image by image.
        legacy_axis_swap: with "fast", repeat ImageDataGenerator's mistakes (width shift moves rows, height shift
            columns; images that are not square turn about a point beside their centre); "keras" always makes them.
        views: images that a frozen backbone is shown of each training image: the image itself and views - 1 changed
            ones, the same in every epoch, so that their features are computed once (see `cache`).
    """

    engine: Literal["keras", "fast"] = "fast"
    legacy_axis_swap: bool = False
    views: Annotated[int, Field(ge=1, le=64)] = 4
    rotation_range: Range = 20.0
    width_shift_range: Range = 0.2
    height_shift_range: Range = 0.2
    horizontal_flip: bool = True
    vertical_flip: bool = False
    shear_range: Range = 0.0
    zoom_range: Range | tuple[float, float] = 0.0
    brightness_range: tuple[Factor, Factor] | None = None
    channel_shift_range: Range = 0.0
    fill_mode: Literal["nearest", "constant", "reflect", "wrap"] = "nearest"
    cval: Annotated[float, Field(ge=0.0, le=255.0)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _say_why(cls, value: Any) -> Any:
        for key in value if isinstance(value, Mapping) else ():
            if key in _REFUSED:
                raise ValueError(f"{key} is not a setting: {_IN_THE_GRAPH}")
            if key in _ELSEWHERE:
                raise ValueError(f"{key} is not a setting: {_ELSEWHERE[key]}")
        return value

    @model_validator(mode="after")
    def _can_be_done(self) -> Augment:
        low, high = self.zoom_limits
        if not 0 < low <= high:
            raise ValueError(
                "augment.zoom_range: expected a number below 1, or two factors above 0, the smaller one first. "
                f"Received: {self.zoom_range}"
            )
        if self.shear_range >= 90:
            raise ValueError(f"augment.shear_range: expected degrees below 90. Received: {self.shear_range}")
        if self.engine == "fast" and self.fill_mode == "wrap":
            raise ValueError("augment.fill_mode: wrap needs augment.engine=keras; fast has nearest, reflect, constant")
        return self

    @property
    def changes_images(self) -> bool:
        """Whether any of the changes is on."""
        ranges = (self.rotation_range, self.width_shift_range, self.height_shift_range, self.shear_range)
        factors = (self.zoom_limits, self.brightness_range or (1.0, 1.0))
        return any((*ranges, self.channel_shift_range, self.horizontal_flip, self.vertical_flip)) or any(
            limits != (1, 1) for limits in factors
        )

    @property
    def zoom_limits(self) -> tuple[float, float]:
        """The smallest and the largest zoom factor."""
        if isinstance(self.zoom_range, tuple):
            return self.zoom_range
        return 1 - self.zoom_range, 1 + self.zoom_range


class Cache(SettingsBase):
    """Limits of the pixel cache and of the feature store.

    Attributes:
        features: compute what is frozen in a stage, the backbone or all but its last blocks, once per image and view
            and train the rest on that; it stays in RUNS_DIR/.cache/features for later runs. false: the whole network
            in every epoch.
        features_precision: of the arithmetic that computes features. auto: the fastest of this machine that keeps the
            gate's metric in validation (docs/train.md). float32 and bfloat16 pin one.
        max_gb: disk space for features, 10^9 bytes; the longest unused go first. A stage that needs more than that
            trains without them, and says so. As much for what audits measured, in RUNS_DIR/.cache/audit.
        memory_gb: memory for decoded images, 10^9 bytes; images that do not fit are decoded in every epoch.
    """

    omitted: ClassVar[frozenset[str]] = frozenset({"features_precision"})

    features: bool = True
    features_precision: Literal["auto", "float32", "bfloat16"] = "auto"
    max_gb: Annotated[float, Field(ge=0.0, le=100_000)] = 10.0
    memory_gb: Annotated[float, Field(ge=0.0, le=100_000)] = 4.0
