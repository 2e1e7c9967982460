"""The command line: `python -m pipeline COMMAND`. Thin: parses, calls one function, prints what it returned.

Exit status: 0 done (warnings allowed), 1 refused or failed (the reason is the last line of stderr), 2 wrong use.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from contract.errors import ContractError
from engine.errors import EngineError
from pipeline.commands import (
    audit,
    backbones,
    evaluate,
    imagenet,
    imports,
    models,
    preview,
    prune,
    run,
    sample,
    score,
    verify,
    weights,
)
from pipeline.errors import PipelineError
from pipeline.interrupt import remembering_interrupts

# Modules of pipeline/commands/, in the order of --help.
_COMMANDS = (
    run,
    audit,
    preview,
    backbones,
    sample,
    weights,
    imagenet,
    imports,
    evaluate,
    score,
    verify,
    models,
    prune,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = _parser().parse_args(argv)
    # Before TensorFlow is imported: its start-up notes would bury what the user is to read.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # deprecations are for its developers, not its users
    try:
        with remembering_interrupts():
            arguments.command(arguments)
    except (PipelineError, ContractError, EngineError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; nothing was published", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description="A folder of images in, a model out.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in _COMMANDS:
        module.add(commands)
    return parser


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Without tearing the interpreter down: after Ctrl-C in training, TensorFlow's threads may still wait for it, and
    # then the process never ends.
    os._exit(status)
