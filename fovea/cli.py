"""Runs the command `fovea`: finds a subcommand, imports its modules, calls it.

Exit status: 0 done, 1 refused or failed (the reason is the last line of stderr), 2 wrong use.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from contract.errors import ContractError
from fovea.commands import ALIASES, COMMANDS, Command
from fovea.extras import MissingExtraError, check_extras, explain_missing
from fovea.parsers import Parser, format_examples, suggest

_SERVERS = ("serve", "gateway", "modelserver")
_OWN_PACKAGES = ("contract", "engine", "fovea", "pipeline", "service")


def entry() -> None:
    """Run the command line and end the process."""
    status = main(sys.argv[1:])
    if "tensorflow" in sys.modules:
        from pipeline.__main__ import leave

        leave(status)
    sys.exit(status)


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    name, rest = (argv[0], argv[1:]) if argv else ("", [])
    if name == "help":
        return main([*rest[:1], "--help"])
    if name in ("-h", "--help"):
        print(_overview())
        return 0
    if name in ("-V", "--version"):
        from service import VERSION

        print(f"fovea {VERSION}")
        return 0
    command = COMMANDS.get(ALIASES.get(name, name))
    if command is None:
        hint = suggest(name, [*COMMANDS, *ALIASES]) or "; fovea --help lists them"
        print(f"fovea: expected a command. Received: {name or 'none'}{hint}", file=sys.stderr)
        return 2
    try:
        if command.name in _SERVERS:
            from service.logs import prepare_log

            prepare_log(rest, {} if command.name == "modelserver" else os.environ)
        check_extras(f"fovea {command.name}", command.extras)
        return _run(command, rest)
    except MissingExtraError as err:
        reason = str(err)
    except ModuleNotFoundError as err:
        module = (err.name or "").partition(".")[0]
        if not module or module in _OWN_PACKAGES:
            raise
        reason = explain_missing(f"fovea {command.name}", command.extras, [module])
    print(f"error: {reason}", file=sys.stderr)
    return 1


def describe_command(subparsers: Any, command: Command) -> None:
    """Add a command's parser, by its own module, to argparse's subparsers.

    Args:
        subparsers: what `add_subparsers` returned.
        command: one whose module has `add`.
    """
    importlib.import_module(command.module).add(_Described(subparsers, command))


class _Described:
    """Stands for argparse's subparsers, and takes one command under its name in `fovea`, with its examples."""

    def __init__(self, subparsers: Any, command: Command) -> None:
        self._subparsers = subparsers
        self._command = command

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        """Add the command's parser; that of another command of the same module is not kept."""
        command = self._command
        if name != command.source:
            return Parser(**{key: value for key, value in options.items() if key != "help"})
        texts = {"help": command.summary, "description": f"{command.summary[0].upper()}{command.summary[1:]}."}
        described: argparse.ArgumentParser = self._subparsers.add_parser(
            command.name, **{**options, **texts, "epilog": format_examples(command.examples)}
        )
        return described


def _parser_of(command: Command) -> argparse.ArgumentParser:
    subparsers = Parser(prog="fovea").add_subparsers()
    describe_command(subparsers, command)
    parser: argparse.ArgumentParser = subparsers.choices[command.name]
    return parser


def _run(command: Command, argv: Sequence[str]) -> int:
    try:
        if command.source is None:
            return _run_service(command, argv)
        arguments = _parser_of(command).parse_args(argv)
    except SystemExit as err:  # argparse has printed the usage and the reason
        return int(err.code or 0)
    if command.module.startswith("pipeline."):
        from pipeline.__main__ import run_command

        return run_command(arguments)
    try:
        arguments.command(arguments)
    except ContractError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    return 0


def _run_service(command: Command, argv: Sequence[str]) -> int:
    try:
        status: int = importlib.import_module(command.module).main(argv, prog=f"fovea {command.name}")
        return status
    finally:
        if argv and argv[0] in ("-h", "--help"):
            print(f"\n{format_examples(command.examples)}")


def _overview() -> str:
    lines = ["usage: fovea COMMAND ...", "", "Trains image classifiers and serves them over HTTP."]
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        lines += ["", f"{group}:"]
        lines += [f"  {c.name:12} {c.summary}" for c in COMMANDS.values() if c.group == group]
    lines += [
        "",
        "fovea COMMAND --help has the options, their defaults and examples; fovea --version the version.",
        "First steps: fovea train FOLDER, with a folder of images for each class; then fovea serve.",
    ]
    return "\n".join(lines)
