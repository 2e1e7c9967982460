"""Draws a contact sheet of each class: some of its images, evenly over the set's order, as one JPEG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from contract.errors import ImageError
from pipeline.data.ingest import Example
from pipeline.data.pixels import Pixels

MAX_SHEETS = 60  # classes
_SHOWN = 24  # images of a class
_COLUMNS = 8
_SIDE = 96  # pixels of an image on the sheet
_GAP = 4
_GROUND = (11, 14, 19)


@dataclass(frozen=True, slots=True)
class ContactSheet:
    """Some images of one class.

    Attributes:
        label: the class.
        shown: images on the sheet.
        images: of the class.
        picture: data URL of a JPEG.
        width: pixels.
        height: pixels.
    """

    label: str
    shown: int
    images: int
    picture: str
    width: int
    height: int


def draw_contact_sheets(labels: Sequence[str], examples: Sequence[Example], pixels: Pixels) -> list[ContactSheet]:
    """Return a sheet of each of the first classes that has readable images.

    Args:
        labels: classes, in the order of the sheets.
        examples: readable images.
        pixels: decodes the images.
    """
    members: dict[str, list[str]] = {label: [] for label in labels[:MAX_SHEETS]}
    for example in examples:
        if example.label in members:
            members[example.label].append(example.path)
    return [_draw(label, paths, pixels) for label, paths in members.items() if paths]


def _draw(label: str, paths: Sequence[str], pixels: Pixels) -> ContactSheet:
    count = min(_SHOWN, len(paths))
    chosen = [paths[i * len(paths) // count] for i in range(count)]
    rows = -(-count // _COLUMNS)
    step = _SIDE + _GAP
    sheet = Image.new("RGB", (min(count, _COLUMNS) * step - _GAP, rows * step - _GAP), _GROUND)
    shown = 0
    for path in chosen:
        if (image := _decode(path, pixels)) is not None:
            left, top = shown % _COLUMNS * step, shown // _COLUMNS * step
            sheet.paste(image, (left + (_SIDE - image.width) // 2, top + (_SIDE - image.height) // 2))
            shown += 1
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=80)
    picture = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    return ContactSheet(label, shown, len(paths), picture, sheet.width, sheet.height)


def _decode(path: str, pixels: Pixels) -> Image.Image | None:
    """Return an image no larger than its place; None if its file has gone since the audit."""
    try:
        array = pixels[path]
    except (ImageError, OSError):
        return None
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).convert("RGB")
    image.thumbnail((_SIDE, _SIDE))
    return image
