"""The command line: `python -m pipeline COMMAND`. Thin: parses, calls one function, prints what it returned.

Exit status: 0 done (warnings allowed), 1 refused or failed (the reason is the last line of stderr), 2 wrong use.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from contract.errors import ContractError
from engine.errors import EngineError
from engine.runtimes.tensorflow_start import quiet_tensorflow
from pipeline.commands import MODULES
from pipeline.errors import PipelineError, describe_os_error
from pipeline.interrupt import describe_interrupt, remembering_interrupts
from pipeline.temporary_files import temporary_files


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    return run_command(_parser(argv[0] if argv else "").parse_args(argv))


def run_command(arguments: argparse.Namespace) -> int:
    """Run a parsed command and return its exit status; the reason of a failure is the last line of stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that the console cannot show
    quiet_tensorflow()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        with remembering_interrupts(), temporary_files():
            arguments.command(arguments)
    except PipelineError as err:
        return _refuse(err.message, err.details)
    except (ContractError, EngineError) as err:
        return _refuse(str(err))
    except OSError as err:
        return _refuse(describe_os_error(err))
    except MemoryError:
        return _refuse("there is not enough memory")
    except KeyboardInterrupt:
        return _refuse(describe_interrupt())
    return 0


def _refuse(reason: str, details: Sequence[str] = ()) -> int:
    """Print the reason as the last line of stderr, after the details, and return the exit status."""
    lines = [line.strip() for line in reason.splitlines()]
    print(*details, f"error: {' '.join(line for line in lines if line)}", sep="\n", file=sys.stderr)
    return 1


def leave(status: int) -> None:
    """End the process without tearing the interpreter down.

    After Ctrl-C in training, TensorFlow's threads may still wait for it, and then the process never ends.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class _Parser(argparse.ArgumentParser):
    """Takes options by their whole names; gives the reason of a wrong command line in one line."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Print usage and reason, and exit with status 2."""
        super().error(" ".join(message.splitlines()))


def _parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of one command, or of all if there is no such command."""
    parser = _Parser(prog="python -m pipeline", description="A folder of images in, a model out.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    modules = [MODULES[command]] if command in MODULES else list(dict.fromkeys(MODULES.values()))
    for module in modules:
        importlib.import_module(f"pipeline.commands.{module}").add(commands)
    if command and command not in MODULES and not command.startswith("-"):
        near = difflib.get_close_matches(command, MODULES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        parser.error(f"argument COMMAND: invalid choice: {command!r} (choose from {', '.join(MODULES)}){hint}")
    return parser


if __name__ == "__main__":
    leave(main())
