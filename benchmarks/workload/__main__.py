"""`python -m benchmarks.workload DIR BACKBONE`: write picture and network, in a process of its own for TensorFlow."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.workload.network import build_workload
from benchmarks.workload.picture import write_picture

SIDE = 512  # pixels


def main(folder: Path, backbone: str) -> int:
    """Write everything into a folder that exists."""
    build_workload(folder, write_picture(folder / "picture.jpg", SIDE), backbone)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
