"""Draws a contact sheet of augmentation: each row an image, first unchanged, then as the first epochs change it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from contract.errors import ImageError
from pipeline.augmentation.augment import make_augmentation
from pipeline.augmentation.captions import write_caption
from pipeline.data.ingest import Dataset, Example
from pipeline.data.pixels import Pixels
from pipeline.errors import DatasetError
from pipeline.recipe.recipe import Recipe

_LARGEST = 224  # pixels that one picture takes on the sheet, at most
_GAP = 4
_CAPTION = 14
_BACKGROUND, _INK = (255, 255, 255), (60, 60, 60)


def draw_preview(dataset: Dataset, pixels: Pixels, recipe: Recipe, *, rows: int, columns: int) -> Image.Image:
    """Draw training images and what happens to them in the first epochs of a run with this recipe.

    Args:
        dataset: the images; those of its test and validation folders are left out, as they are never changed.
        pixels: decodes them.
        recipe: augmentation and seed.
        rows: images, taken from all classes in turn.
        columns: pictures of each, the image itself included.

    Raises:
        DatasetError: if there is no training image, or one cannot be read.
    """
    augmentation = make_augmentation(recipe.augment, recipe.train.seed)
    chosen = _choose(dataset.examples, rows)
    if not chosen:
        raise DatasetError("expected training images to draw. Received: none")
    sheet: list[list[NDArray[np.uint8]]] = []
    for example in chosen:
        image, key = _read(dataset, pixels, example)
        line = [image]
        for epoch in range(columns - 1):
            changed = augmentation.finish(*augmentation.prepare(image[None], [key], epoch))
            line.append(np.clip(np.rint(np.asarray(changed)[0]), 0, 255).astype(np.uint8))
        sheet.append(line)
    return _lay_out(sheet, [example.label for example in chosen])


def _choose(examples: Sequence[Example], count: int) -> list[Example]:
    classes = defaultdict(list)
    for example in examples:
        if example.split in (None, "train"):
            classes[example.label].append(example)
    turns = range(max(map(len, classes.values()), default=0))
    return [images[turn] for turn in turns for images in classes.values() if turn < len(images)][:count]


def _read(dataset: Dataset, pixels: Pixels, example: Example) -> tuple[NDArray[np.uint8], str]:
    try:
        return pixels[example.path], hashlib.sha256(dataset.source.read(example.path)).hexdigest()
    except (ImageError, OSError) as err:
        raise DatasetError(f"{example.path} cannot be read: {err}") from err


def _lay_out(sheet: Sequence[Sequence[NDArray[np.uint8]]], labels: Sequence[str]) -> Image.Image:
    height, width, _ = sheet[0][0].shape
    scale = min(1.0, _LARGEST / max(height, width))
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    step_x, step_y = width + _GAP, height + _GAP + _CAPTION
    canvas = Image.new("RGB", (_GAP + step_x * len(sheet[0]), _GAP + step_y * len(sheet)), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for row, (line, label) in enumerate(zip(sheet, labels, strict=True)):
        for column, image in enumerate(line):
            x, y = _GAP + column * step_x, _GAP + row * step_y
            caption = label if column == 0 else f"epoch {column}"
            text, font = write_caption(caption)
            draw.text((x, y), text, fill=_INK, font=font)
            picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
            canvas.paste(picture.resize((width, height), Image.Resampling.BILINEAR), (x, y + _CAPTION))
    return canvas
