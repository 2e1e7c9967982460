"""Flags of the geometry and the arithmetic that turn pictures into a model's input."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, get_args

from pipeline.recipe.preprocessing_modes import ColorOrder, Mode

if TYPE_CHECKING:  # the recipe brings pydantic
    from pipeline.recipe.preprocessing_settings import Preprocessing


def add_geometry(command: Any, *, fit: str) -> None:
    """Add --resize, --fit and --crop-fraction.

    Args:
        command: an argparse parser.
        fit: the default of --fit.
    """
    command.add_argument("--resize", choices=("nearest", "bilinear", "bicubic", "area"), default="bilinear")
    command.add_argument("--fit", choices=("stretch", "crop", "pad"), default=fit)
    command.add_argument(
        "--crop-fraction",
        type=_fraction,
        default=1.0,
        metavar="SHARE",
        help="share of each side that is kept, around the centre: 0.875 with --fit crop is the standard of ImageNet "
        "models, a shorter side of 256 cut to 224 (default: 1)",
    )


def add_arithmetic(command: Any, *, default: str) -> None:
    """Add --preprocessing, --scale, --offset and --color-order.

    Args:
        command: an argparse parser.
        default: what happens without them, for the help.
    """
    command.add_argument(
        "--preprocessing",
        choices=get_args(Mode),
        help="what the model takes: none (0 to 255), unit (0 to 1), or Keras's modes tf (-1 to 1), caffe, torch; "
        f"default: {default}",
    )
    numbers = "one number or one for each channel, in the model's order"
    command.add_argument(
        "--scale", type=_numbers, metavar="S[,S,S]", help=f"pixels of 0 to 255 times this, such as 1/127.5; {numbers}"
    )
    command.add_argument(
        "--offset", type=_numbers, metavar="O[,O,O]", help=f"plus this, after --scale, such as --offset=-1; {numbers}"
    )
    command.add_argument(
        "--color-order", choices=get_args(ColorOrder), help="the model's order of channels; default: rgb"
    )


def chosen_preprocessing(arguments: argparse.Namespace) -> Preprocessing | None:
    """Return the preprocessing that the flags describe; None without any.

    Raises:
        RecipeError: if they contradict each other.
    """
    from pipeline.networks.preprocessing import choose_preprocessing

    return choose_preprocessing(arguments.preprocessing, arguments.scale, arguments.offset, arguments.color_order)


def _numbers(text: str) -> tuple[float, ...]:
    from pipeline.networks.preprocessing import parse_numbers

    try:
        return parse_numbers(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(
            f"expected one to three numbers, such as 1/127.5 or 0.017,0.018,0.017. Received: {text!r}"
        ) from None


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0.01 to 1, such as 0.875. Received: {text!r}")
    return value
