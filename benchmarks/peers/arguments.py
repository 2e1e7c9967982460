"""The command line that every server here has: MODEL PORT."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

HOST = "127.0.0.1"
MAX_BATCH = 8
BATCH_WAIT_S = 0.01


class Arguments(NamedTuple):
    """The command-line arguments of a peer's server.

    Attributes:
        model: a .keras file, or a version's folder.
        port: TCP port to listen on.
    """

    model: Path
    port: int


def read_arguments() -> Arguments:
    """Return them; a server that re-imports its main module in workers finds them there too."""
    return Arguments(Path(sys.argv[1]), int(sys.argv[2]))
