"""Random changes to training images as one tensor operation a batch; ImageDataGenerator's settings and meanings.

What happens to an image is drawn from a hash of (seed, epoch, the image's content), so it depends neither on the order
of the images, nor on threads, nor on which other images there are. One projective resampling does rotation, shift,
shear, zoom and flips at once; channel shift and brightness follow. ImageDataGenerator (Keras 3.15) makes two mistakes
that are repeated only with `legacy_axis_swap`: its width shift moves rows and its height shift columns, and an image
that is not square turns about a point beside its centre.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.recipe.augment_settings import Augment

_FILL = {"nearest": "NEAREST", "reflect": "REFLECT", "constant": "CONSTANT"}
_DRAWS = 10
# Keras cuts to whole grey levels before brightness, and so does this; a level that float32 holds as 99.99999 is 100.
_ROUNDING = 1e-3

# Columns of the parameters of one image.
_MATRIX = slice(0, 8)
_CHANNEL_SHIFT = 8
_BRIGHTNESS = 9
NUM_PARAMETERS = 10


@dataclass(frozen=True, slots=True)
class Transform:
    """The changes to one image, in the names of ImageDataGenerator's `get_random_transform`.

    Attributes:
        theta: degrees.
        tx: drawn from `height_shift_range`, pixels.
        ty: drawn from `width_shift_range`, pixels.
        shear: degrees.
        zx: zoom from side to side; above 1 zooms out.
        zy: zoom from top to bottom.
        flip_horizontal: left and right change places.
        flip_vertical: top and bottom change places.
        channel_shift_intensity: grey levels; None: off.
        brightness: factor; None: off.
    """

    theta: float = 0.0
    tx: float = 0.0
    ty: float = 0.0
    shear: float = 0.0
    zx: float = 1.0
    zy: float = 1.0
    flip_horizontal: bool = False
    flip_vertical: bool = False
    channel_shift_intensity: float | None = None
    brightness: float | None = None


class FastAugmentation:
    """ImageDataGenerator's random transform for whole batches.

    Args:
        settings: which changes, how much.
        seed: of the run.
    """

    dtype = "uint8"

    def __init__(self, settings: Augment, seed: int) -> None:
        self._settings = settings
        self._seed = seed

    def prepare(
        self, images: NDArray[np.uint8], keys: Sequence[str], epoch: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Draw the changes to a batch.

        Args:
            images: uint8, shape (batch, height, width, channels).
            keys: what names each image's content, such as its sha256.
            epoch: counted from 0.

        Returns:
            The images as they are, and parameters for `finish`, float32, shape (batch, NUM_PARAMETERS).
        """
        _, height, width, _ = images.shape
        size, swap = (height, width), self._settings.legacy_axis_swap
        drawn = [draw_transform(self._settings, self._seed, epoch, key, size=size) for key in keys]
        return images, np.stack([encode_transform(one, size, legacy_axis_swap=swap) for one in drawn])

    def finish(self, images: Any, parameters: Any) -> Any:
        """Change a batch; traceable.

        Args:
            images: uint8 tensor, shape (batch, height, width, channels).
            parameters: from `prepare`.

        Returns:
            float32 tensor of the same shape, values 0-255.
        """
        settings = self._settings
        changed = tf.raw_ops.ImageProjectiveTransformV3(
            images=tf.cast(images, tf.float32),
            transforms=parameters[:, _MATRIX],
            output_shape=tf.shape(images)[1:3],
            fill_value=settings.cval,
            interpolation="BILINEAR",
            fill_mode=_FILL[settings.fill_mode],
        )
        changed = tf.ensure_shape(changed, images.shape)
        if settings.channel_shift_range:
            lowest = tf.reduce_min(changed, axis=[1, 2, 3], keepdims=True)
            highest = tf.reduce_max(changed, axis=[1, 2, 3], keepdims=True)
            shift = parameters[:, _CHANNEL_SHIFT, None, None, None]
            changed = tf.clip_by_value(changed + shift, lowest, highest)
        if settings.brightness_range is not None:
            factor = parameters[:, _BRIGHTNESS, None, None, None]
            # Pillow's arithmetic, as Keras uses it: whole grey levels in, whole grey levels out.
            bright = tf.floor(changed + _ROUNDING) * factor
            changed = tf.floor(tf.clip_by_value(bright, 0.0, 255.0) + _ROUNDING)
        return changed


def draw_transform(settings: Augment, seed: int, epoch: int, key: str, *, size: tuple[int, int]) -> Transform:
    """Return what happens to one image in one epoch.

    Args:
        settings: ranges.
        seed: of the run.
        epoch: counted from 0.
        key: of the image's content.
        size: height and width, pixels.
    """
    digest = hashlib.blake2b(f"{seed}/{epoch}/{key}".encode(), digest_size=4 * _DRAWS).digest()
    uniform = (np.frombuffer(digest, "<u4") / 2.0**32).tolist()

    def between(index: int, low: float, high: float) -> float:
        return float(low + (high - low) * uniform[index])

    def shift(index: int, largest: float, length: int) -> float:
        return between(index, -largest, largest) * (length if largest < 1 else 1)

    brightness, channel_shift = settings.brightness_range, settings.channel_shift_range
    return Transform(
        theta=between(0, -settings.rotation_range, settings.rotation_range),
        tx=shift(1, settings.height_shift_range, size[0]),
        ty=shift(2, settings.width_shift_range, size[1]),
        shear=between(3, -settings.shear_range, settings.shear_range),
        zx=between(4, *settings.zoom_limits),
        zy=between(5, *settings.zoom_limits),
        flip_horizontal=settings.horizontal_flip and uniform[6] < 0.5,
        flip_vertical=settings.vertical_flip and uniform[7] < 0.5,
        channel_shift_intensity=between(8, -channel_shift, channel_shift) if channel_shift else None,
        brightness=None if brightness is None else between(9, *brightness),
    )


def encode_transform(drawn: Transform, size: tuple[int, int], *, legacy_axis_swap: bool) -> NDArray[np.float32]:
    """Return a transform as the parameters that `FastAugmentation.finish` takes, shape (NUM_PARAMETERS,).

    Args:
        drawn: what happens.
        size: height and width of the image, pixels.
        legacy_axis_swap: repeat ImageDataGenerator's swapped shifts and wrong centre.
    """
    height, width = size
    # All matrices work on (column, row, 1) and lead from a pixel of the result to a point of the original.
    x, y = (drawn.tx, drawn.ty) if legacy_axis_swap else (drawn.ty, drawn.tx)
    centre = (height, width) if legacy_axis_swap else (width, height)
    turn, lean = math.radians(drawn.theta), math.radians(drawn.shear)
    matrix = _affine(math.cos(turn), -math.sin(turn), 0, math.sin(turn), math.cos(turn), 0)
    matrix = matrix @ _affine(1, 0, x, 0, 1, y)
    matrix = matrix @ _affine(1, -math.sin(lean), 0, 0, math.cos(lean), 0)
    matrix = matrix @ _affine(drawn.zx, 0, 0, 0, drawn.zy, 0)
    to_x, to_y = (length / 2 - 0.5 for length in centre)
    matrix = _affine(1, 0, to_x, 0, 1, to_y) @ matrix @ _affine(1, 0, -to_x, 0, 1, -to_y)
    if drawn.flip_horizontal:
        matrix = matrix @ _affine(-1, 0, width - 1, 0, 1, 0)
    if drawn.flip_vertical:
        matrix = matrix @ _affine(1, 0, 0, 0, -1, height - 1)
    return np.array([*matrix.ravel()[:8], drawn.channel_shift_intensity or 0.0, drawn.brightness or 0.0], np.float32)


def _affine(a: float, b: float, c: float, d: float, e: float, f: float) -> NDArray[np.float64]:
    return np.array([[a, b, c], [d, e, f], [0, 0, 1]], np.float64)
