"""`python -m service predict IMAGE...`: classify image files with a running service."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from service.client import DEFAULT_URL, FoveaClient, FoveaError, PredictResult


def main(argv: Sequence[str]) -> int:
    """Send images, print what the service says.

    Returns:
        0 done, 1 an image refused or the request failed (the reason is the last line of stderr), 2 wrong use.
    """
    try:
        options = _build_parser().parse_args(argv)
    except SystemExit as err:  # argparse has already printed the usage and the reason
        return int(err.code or 0)
    try:
        with FoveaClient(options.url) as client:
            result = client.predict(options.images, model=options.model, top=options.top)
    except OSError as err:
        print(f"predict: {err.filename}: {err.strerror}", file=sys.stderr)
        return 1
    except FoveaError as err:
        print(f"predict: {err}", file=sys.stderr)
        return 1
    print(json.dumps(result.document, indent=2) if options.json else format_table(result))
    num_refused = sum(prediction.error is not None for prediction in result.predictions)
    if num_refused:
        print(f"predict: {num_refused} of {len(result.predictions)} images were refused", file=sys.stderr)
    return 1 if num_refused else 0


def format_table(result: PredictResult) -> str:
    """Return a reply as a table for people: a line for each image and class."""
    width = max(len(prediction.name) for prediction in result.predictions)
    lines = [f"{result.model} version {result.version}"]
    for prediction in result.predictions:
        name = prediction.name.ljust(width)
        if prediction.error is not None:
            lines.append(f"{name}  refused: {prediction.error}")
        for item in prediction.top:
            lines.append(f"{name}  {100 * item.probability:6.2f} %  {item.label}")
            name = " " * width
    return "\n".join(lines)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m service predict", description=__doc__, allow_abbrev=False)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--url", default=DEFAULT_URL, help="where the service is (default: %(default)s)")
    parser.add_argument("--model", help="the model; may be left out when exactly one is served")
    parser.add_argument("--top", type=int, help="classes an image, best first (default: 3)")
    parser.add_argument("--json", action="store_true", help="print the reply's JSON")
    return parser
