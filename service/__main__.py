"""`python -m service up|gateway|modelserver|predict`: a word, then that program's own flags."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

# Loaded only when asked for: the gateway must never import the model server's runtime, nor `predict` either of them.
COMMANDS = {
    "up": ("service.up", "model server and gateway on this machine, without Docker"),
    "gateway": ("service.gateway.cli", "the gateway alone"),
    "modelserver": ("service.modelserver.cli", "the embedded model server alone"),
    "key": ("service.key", "make, list and remove API keys"),
    "predict": ("service.predict", "classify image files with a running service"),
}
_SERVERS = ("up", "gateway", "modelserver")


def main(argv: Sequence[str]) -> int:
    """Run one of the commands.

    Returns:
        0 done, 1 refused or failed (the reason is the last line of stderr), 2 wrong use.
    """
    command, rest = (argv[0], argv[1:]) if argv else ("", [])
    if command in ("-h", "--help"):
        print(_usage())
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1, cutoff=0.7)
        hint = f"; did you mean {near[0]}?" if near else ""
        reason = f"expected a command. Received: {command or 'none'}{hint}"
        print(_usage(), f"service: {reason}", sep="\n", file=sys.stderr)
        return 2
    if command in _SERVERS:
        from service.logs import prepare_log

        prepare_log(rest, {} if command == "modelserver" else os.environ)
    status: int = importlib.import_module(COMMANDS[command][0]).main(rest)
    return status


def _usage() -> str:
    lines = [f"  {name:12} {meaning}" for name, (_, meaning) in COMMANDS.items()]
    return "\n".join(["usage: python -m service COMMAND ...", "", *lines])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
