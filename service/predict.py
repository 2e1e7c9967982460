"""`python -m service predict IMAGE...`: classify image files with a running service."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from contract.commands import spell_command
from service.client import DEFAULT_URL, FoveaClient, FoveaError, PredictResult
from service.client.calls import Options
from service.results import ImagePrediction

PROG = "python -m service predict"
_DESCRIPTION = "Classifies image files with a running service."


def main(argv: Sequence[str], prog: str = PROG) -> int:
    """Send images and print the predictions.

    Args:
        argv: the command line.
        prog: the command as it was typed, for the usage.

    Returns:
        0 done, 1 an image refused or the request failed (the reason is the last line of stderr), 2 wrong use.
    """
    parser = build_parser(prog)
    try:
        options = parser.parse_args(argv)
        _check(parser, options)
    except SystemExit as err:  # argparse has already printed the usage and the reason
        return int(err.code or 0)
    try:
        result = _ask(options)
    except OSError as err:
        hint = f"; of a whole folder: {spell_command('score')}" if isinstance(err, IsADirectoryError) else ""
        print(f"predict: {err.filename or options.ca_file}: {err.strerror}{hint}", file=sys.stderr)
        return 1
    except FoveaError as err:
        print(f"predict: {err}{_next_step(err)}", file=sys.stderr)
        return 1
    print(json.dumps(result.document, indent=2) if options.json else format_table(result))
    num_refused = sum(prediction.error is not None for prediction in result.predictions)
    if num_refused:
        print(f"predict: {num_refused} of {len(result.predictions)} images were refused", file=sys.stderr)
    return 1 if num_refused else 0


def _next_step(err: FoveaError) -> str:
    """Return what to do if nothing answers."""
    if err.code != "unreachable":
        return ""
    return f"; start a service with: {spell_command('serve')}, or name another one with --url"


def _ask(options: argparse.Namespace) -> PredictResult:
    """Send the images, and write the heat map if one is wanted."""
    key = options.key_file.read_text(encoding="utf-8").strip() if options.key_file else options.key
    with FoveaClient(options.url, key=key, timeout_s=options.timeout, ca_file=options.ca_file) as client:
        asked = {name: getattr(options, name) for name in ("model", "version", "label", "top")}
        chosen: Options = {name: value for name, value in asked.items() if value is not None}  # type: ignore[assignment]
        result = client.predict(options.images, **chosen)
        if options.explain is not None:
            # By number: the version that has just answered, whatever is live by now.
            heat_map = client.heat_map(
                options.images[0], class_=options.explain_class, model=result.model, version=result.version
            )
            options.explain.write_bytes(heat_map.png)
    return result


def format_table(result: PredictResult) -> str:
    """Return a reply as a table for people: a line for each image and class."""
    width = max(len(prediction.name) for prediction in result.predictions)
    lines = [f"{result.model} version {result.version}"]
    for prediction in result.predictions:
        lines += _format_image(prediction, width)
    return "\n".join(lines)


def _format_image(prediction: ImagePrediction, width: int) -> list[str]:
    name, blank = prediction.name.ljust(width), " " * width
    if prediction.error is not None:
        return [f"{name}  refused: {prediction.error}"]
    texts = [f"{_percent(item.probability):>8}  {item.label}" for item in prediction.top]
    texts += [
        f"{item.label}: {'called' if item.called else 'not called'}, threshold {100 * item.threshold:.2f} %"
        for item in prediction.decisions
    ]
    texts += [f"warning: {warning.replace('_', ' ')}" for warning in prediction.warnings]
    return [f"{name if number == 0 else blank}  {text}" for number, text in enumerate(texts)]


def _percent(probability: float) -> str:
    """Return a probability as a percentage that never rounds doubt away."""
    if 0 < probability < 1e-4:
        return "<0.01 %"
    if 1 - 1e-4 < probability < 1:
        return ">99.99 %"
    return f"{100 * probability:.2f} %"


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.explain is not None and len(options.images) > 1:
        parser.error(f"--explain: expected one image. Received: {len(options.images)}")
    if options.explain_class is not None and options.explain is None:
        parser.error("--class: expected --explain OUT.png too")


def build_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog, description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--url", default=DEFAULT_URL, help="where the service is (default: %(default)s)")
    parser.add_argument("--model", help="the model; may be left out when exactly one is served")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=int, help="exactly this version")
    which.add_argument("--label", help="live (the default), previous or candidate")
    parser.add_argument("--top", type=int, help="classes an image, best first (default: 3)")
    parser.add_argument("--explain", type=Path, metavar="OUT.png", help="write where in the image the class was seen")
    parser.add_argument(
        "--class", dest="explain_class", metavar="CLASS", help="the class to explain: id, name or index"
    )
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--key", help="API key; other users of this machine see it in the list of processes")
    keys.add_argument("--key-file", type=Path, metavar="FILE", help="file with the API key")
    parser.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="certificates (PEM) to trust instead of the system's"
    )
    parser.add_argument("--timeout", type=float, default=60.0, help="longest wait, seconds (default: %(default)g)")
    parser.add_argument("--json", action="store_true", help="print the reply's JSON")
    return parser
