"""Measures latency and throughput over callers, images a request, image size and number of models."""

from __future__ import annotations

import functools
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.load.plan import Plan
from benchmarks.load.process import run_load
from benchmarks.serving import say, summarize_windows
from benchmarks.systems.bodies import form
from benchmarks.systems.choice import precisions
from benchmarks.systems.fovea import PATH, fovea_apart
from benchmarks.systems.program import wait_until
from benchmarks.systems.running import BrokenSystemError, Running, started
from benchmarks.systems.system import System
from benchmarks.workload.models import publish_copies
from benchmarks.workload.picture import write_picture
from benchmarks.workload.shared import VERSION, shared_workload

_LOAD_TIMEOUT_S = 120.0  # for one more model
_CALLERS = 8  # where it is not what changes


@dataclass(frozen=True)
class Size:
    """The size of a measurement.

    Attributes:
        seconds: of each window.
        concurrencies: callers at a time.
        images: in a request, sent by one caller.
        sides: of the picture, pixels.
        models: served at a time, asked in turn.
    """

    seconds: float
    concurrencies: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    images: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    sides: tuple[int, ...] = (224, 512, 1024, 2048, 4000)
    models: tuple[int, ...] = (1, 2, 5, 10)


SIZES = {
    "quick": Size(1.0, concurrencies=(1, 64), images=(1, 32), sides=(224, 4000), models=(1, 2)),
    "standard": Size(3.0),
    "full": Size(15.0),
}


def run(size: str = "standard") -> dict[str, Any]:
    """Measure all curves on Fovea at the fastest precision of this machine."""
    chosen, began = SIZES[size], time.monotonic()
    system = _system()
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        workload = shared_workload()
        with started(system, workload, folder / "one") as running:
            _measure(running, [running.system.payload(workload / "picture.jpg", running.place.folder)], chosen)
            curves = {"concurrency": _over_concurrency(running, chosen)}
            say("concurrency", began)
            curves["images"] = _over_images(running, chosen)
            say("images a request", began)
            curves["sides"] = _over_sides(running, chosen)
            say("sides", began)
        curves["models"] = [_with_models(workload, folder, count, chosen) for count in chosen.models]
    about = {"size": size, "precision": precisions()[-1], "window_s": chosen.seconds}
    return {**about, "took_s": round(time.monotonic() - began), **curves}


def _system() -> System:
    precision = precisions()[-1]
    return fovea_apart("fovea", f"Fovea, {precision}", f"--precision={precision}")


def _over_concurrency(running: Running, size: Size) -> list[dict[str, Any]]:
    payload = running.system.payload(running.place.workload / "picture.jpg", running.place.folder)
    return [
        {"callers": callers, **_measure(running, [payload], size, callers=callers)} for callers in size.concurrencies
    ]


def _over_images(running: Running, size: Size) -> list[dict[str, Any]]:
    forms = replace(running.system, wrap=form("file"))
    picture, points = running.place.workload / "picture.jpg", []
    for count in size.images:
        payload = forms.payload(picture, running.place.folder, copies=count)
        measured = _measure(running, [payload], size, callers=1)
        points.append({"images": count, "images_per_s": round(count * measured["rate"], 3), **measured})
    return points


def _over_sides(running: Running, size: Size) -> list[dict[str, Any]]:
    points = []
    for side in size.sides:
        picture = write_picture(running.place.folder / f"side-{side}.jpg", side)
        payload = running.system.payload(picture, running.place.folder)
        points.append({"side": side, "bytes": picture.stat().st_size, **_measure(running, [payload], size)})
    return points


def _with_models(workload: Path, folder: Path, count: int, size: Size) -> dict[str, Any]:
    """Serve `count` models and ask them in turn."""
    several = folder / f"models-{count}"
    several.mkdir()
    for name in ("picture.jpg", "expected.json"):
        shutil.copyfile(workload / name, several / name)
    if (workload / "tuning").is_dir():  # measured when the one model was loaded
        shutil.copytree(workload / "tuning", several / "tuning")
    names = publish_copies(workload / VERSION, several / "models", count)
    # The gateway is ready with its first model, so the models themselves are asked.
    system = replace(_system(), path=f"{PATH}?model={names[-1]}", ready=None)
    with started(system, several, folder / f"serving-{count}") as running:
        picture = several / "picture.jpg"
        payloads = [system.payload(picture, running.place.folder, path=f"{PATH}?model={name}") for name in names]
        for payload in payloads:
            if not wait_until(functools.partial(running.is_ready, payload), timeout_s=_LOAD_TIMEOUT_S):
                raise BrokenSystemError(f"{payload.path} is not answered after {_LOAD_TIMEOUT_S:.0f} s")
        measured = _measure(running, payloads, size)
        memory = running.memory_mb()
    return {"models": count, "start_s": round(running.start_s, 2), "memory_mb": memory, **measured}


def _measure(running: Running, payloads: list[Any], size: Size, *, callers: int = _CALLERS) -> dict[str, Any]:
    plan = Plan(
        running.address,
        tuple(payloads),
        concurrency=callers,
        seconds=size.seconds,
        warm_up_s=min(1.0, size.seconds / 2),
        groups=running.groups(),
    )
    return summarize_windows([run_load(plan)])
