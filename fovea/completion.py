"""`completion`: scripts that complete commands, options and files in bash, zsh and fish."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import shtab

from fovea.cli import describe_command
from fovea.commands import COMMANDS, Command
from fovea.extras import MissingExtraError, check_extras

SHELLS = ("bash", "zsh", "fish")


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    completion = commands.add_parser("completion")
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(command=_completion)


def _completion(arguments: argparse.Namespace) -> None:
    print(shtab.complete(build_parser(), arguments.shell))


# Types of arguments that are paths; by name, for the second one needs an extra. It takes addresses of storage too.
_OF_FILES = (Path.__name__, "parse_location")


def build_parser() -> argparse.ArgumentParser:
    """Return a parser of every command; one whose extras are missing here has no options in it."""
    parser = argparse.ArgumentParser(prog="fovea")
    parser.add_argument("--version", action="store_true", help="print the version")
    subparsers = parser.add_subparsers()
    for command in COMMANDS.values():
        try:
            check_extras(command.name, command.extras)
        except MissingExtraError:
            subparsers.add_parser(command.name, help=command.summary)
            continue
        if command.source is not None:
            describe_command(subparsers, command)
        else:
            parents = [_service_parser(command)]
            subparsers.add_parser(command.name, help=command.summary, parents=parents, add_help=False)
    for one in subparsers.choices.values():
        for action in one._actions:
            if getattr(action.type, "__name__", None) in _OF_FILES:  # shtab reads this attribute
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return parser


def _service_parser(command: Command) -> argparse.ArgumentParser:
    """Return the parser of a command of `service`; the gateway reads its flags by its settings."""
    if command.name in ("serve", "gateway"):
        return _settings_parser(own=command.name == "serve")
    module = {"modelserver": "service.modelserver.options"}.get(command.name, command.module)
    parser: argparse.ArgumentParser = importlib.import_module(module).build_parser(f"fovea {command.name}")
    return parser


def _settings_parser(*, own: bool) -> argparse.ArgumentParser:
    from service.gateway.context.settings import Settings, flag_name
    from service.up import OWN_FLAGS, build_engine_parser

    parser = build_engine_parser() if own else argparse.ArgumentParser(add_help=False)
    parser.add_argument("-h", "--help", action="help")
    for name, field in Settings.model_fields.items():
        if not own or name not in (*OWN_FLAGS, "models_dir"):
            parser.add_argument(flag_name(name), help=field.description)
    if own:
        parser.add_argument("--models-dir", type=Path, help="the model store")
    return parser
