"""`python -m pipeline score` over folders of 100 to 10,000 pictures: seconds from command to finished CSV."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.serving import say
from benchmarks.systems.choice import precisions
from benchmarks.systems.program import ROOT
from benchmarks.workload.picture import write_picture
from benchmarks.workload.shared import MODEL, shared_workload

COUNTS = {"quick": (20,), "standard": (100, 1000, 10_000), "full": (100, 1000, 10_000, 50_000)}
SIDE = 512  # pixels
_TIMEOUT_S = 7200.0


def run(size: str = "standard") -> dict[str, Any]:
    """Score each number of pictures once, in a fresh process."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        workload = shared_workload()
        points = []
        for count in COUNTS[size]:
            points.append(_score(workload, folder / str(count), count))
            say(f"{count} pictures", began)
    return {"size": size, "picture_side": SIDE, "precision": precisions()[-1], "points": points}


def _score(workload: Path, folder: Path, count: int) -> dict[str, Any]:
    images = folder / "images"
    images.mkdir(parents=True)
    picture = write_picture(folder / "picture.jpg", SIDE)
    for number in range(count):
        os.link(picture, images / f"{number:06}.jpg")
    command = [sys.executable, "-m", "pipeline", "score", MODEL, str(images), "--out", str(folder / "out.csv")]
    command.append(f"--precision={precisions()[-1]}")
    command += [f"--models-dir={workload / 'models'}", f"--runs-dir={folder / 'runs'}"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, cwd=ROOT, timeout=_TIMEOUT_S, capture_output=True)
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "images": count,
        "seconds": round(seconds, 2),
        "images_per_s": round(count / seconds, 2),
        "cpu_ms_per_image": round(1e3 * cpu_s / count, 2),
    }
