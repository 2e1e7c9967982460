"""`show`: one image as a published network sees it, as an HTML page."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path
from typing import Any

from contract.commands import spell_command
from contract.errors import StoreError
from contract.store import ModelStore
from pipeline.commands.options.folders import existing_store
from pipeline.commands.options.paths import check_file, check_output
from pipeline.errors import PipelineError


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    command = commands.add_parser("show", help="draw what a version does with one image, layer by layer")
    command.add_argument("image", type=Path, metavar="IMAGE", help="a file that the service would take")
    command.add_argument(
        "--model", metavar="NAME[/VERSION]", help="such as eyes or eyes/3; may be left out when the store has one model"
    )
    command.add_argument(
        "--layers", type=_names, default=[], metavar="A,B", help="whose feature maps are drawn; default: a few"
    )
    command.add_argument("--top", type=_count, default=5, help="classes, the most probable first")
    command.add_argument(
        "--out", type=Path, metavar="FILE.html", help="replaced if it exists; default: IMAGE's name with .html, here"
    )
    command.add_argument("--open", action="store_true", help="open it in a browser")
    command.add_argument("--models-dir", type=Path, default=Path("models"), help="the model store")
    command.set_defaults(command=_show)


def _show(arguments: argparse.Namespace) -> None:
    check_file(arguments.image, "IMAGE")
    out = arguments.out or Path(arguments.image.with_suffix(".html").name)
    if out.exists() and out.samefile(arguments.image):
        raise PipelineError(f"--out: expected another file than the image. Received: {out}")
    check_output(out)
    store = existing_store(arguments)
    reference = arguments.model or _only_model(store)
    store.resolve(reference)
    from pipeline.report.show import show_image

    shown = show_image(store, reference, arguments.image, out, layers=arguments.layers, top=arguments.top)
    print(f"layers: {', '.join(shown) or 'none'}")
    print(f"written: {out}")
    if arguments.open and not webbrowser.open(out.resolve().as_uri()):
        raise PipelineError(f"no browser can be started here; open {out.resolve()}")


def _only_model(store: ModelStore) -> str:
    names = sorted(store.read_index())
    if not names:
        raise StoreError(f"no models in {store.root}: train one with {spell_command('train FOLDER')}")
    if len(names) > 1:
        raise StoreError(f"--model: expected one of {', '.join(names)}. Received: none")
    return names[0]


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"expected names of layers with commas between them. Received: {text!r}")
    return names


def _count(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if not 1 <= value <= 100_000:
        raise argparse.ArgumentTypeError(f"expected a number of classes from 1 to 100000. Received: {text!r}")
    return value
