"""`preview`: draw augmented images of a set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.options.data import add_zip_encoding, data_overrides
from pipeline.commands.options.paths import check_dataset, check_output
from pipeline.commands.options.recipe import add_recipe
from pipeline.errors import PipelineError


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    preview = commands.add_parser("preview", help="draw training images as augmentation changes them")
    preview.add_argument("dataset", type=Path, help="as for run")
    preview.add_argument("--out", type=Path, required=True, metavar="FILE.png", help="the picture to write")
    add_recipe(preview, example="augment.zoom_range=0.2")
    add_zip_encoding(preview)
    preview.add_argument("--rows", type=_count, default=6, help="images")
    preview.add_argument("--columns", type=_count, default=7, help="pictures of each, the image itself included")
    preview.set_defaults(command=_preview)


def _preview(arguments: argparse.Namespace) -> None:
    check_dataset(arguments.dataset)
    check_output(arguments.out)
    from pipeline.recipe.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, data_overrides(arguments))
    from pipeline.augmentation.preview import draw_preview
    from pipeline.data.ingest import describe_reading, ingest
    from pipeline.data.pixels import Pixels
    from pipeline.networks.from_scratch import settle
    from pipeline.run.prepare import input_spec

    recipe = settle(recipe)
    dataset = ingest(arguments.dataset, recipe.data)
    pixels = Pixels(dataset.source, input_spec(recipe), cache_bytes=0)
    for line in describe_reading(dataset):
        print(line)
    sheet = draw_preview(dataset, pixels, recipe, rows=arguments.rows, columns=arguments.columns)
    try:
        sheet.save(arguments.out)
    except (OSError, ValueError) as err:
        raise PipelineError(f"{arguments.out} cannot be written as a picture: {err}") from err
    print(f"written: {arguments.out}")


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100:
        raise ValueError(text)
    return value
