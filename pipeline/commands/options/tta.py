"""The option --tta of commands that measure predictions: test-time augmentation."""

from __future__ import annotations

import argparse

_LEAST, _MOST = 2, 64


def add_tta(parser: argparse.ArgumentParser) -> None:
    """Add --tta."""
    parser.add_argument(
        "--tta",
        type=_count,
        metavar="N",
        help="also measure test-time augmentation: predictions averaged over N views of each image, itself and N - 1 "
        "as the training's augmentation draws them, beside plain ones; the gate and the service are without it",
    )


def tta_overrides(arguments: argparse.Namespace) -> list[str]:
    """Return the recipe's overrides of --tta."""
    return [] if arguments.tta is None else [f"evaluate.tta={arguments.tta}"]


def _count(text: str) -> int:
    if not text.isdecimal() or not _LEAST <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"expected {_LEAST} to {_MOST} views. Received: {text}")
    return int(text)
