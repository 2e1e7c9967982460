"""The parts of docs/benchmarks.md that come from the curves, batch scoring, the demo and what else was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.report.tables import number, table

Results = Mapping[str, Mapping[str, Any]]
_LATENCY = ("p50, ms", "p99, ms")


def curve_sections(curves: Mapping[str, Any]) -> Iterator[str]:
    """Yield the cost curves."""
    yield (
        f"## Cost curves\n\n`python -m benchmarks curves --size {curves['size']}`, {curves['measured'][:10]}, "
        f"{curves['window_s']:g} s a window, on Fovea at {curves['precision']} (embedded model server and gateway, in "
        "two processes).\n\n"
        "![Cost curves](benchmarks/curves.svg)"
    )
    rows = [(str(p["callers"]), number(p["rate"]), *_latency(p)) for p in curves["concurrency"]]
    yield "### Callers at a time\n\n" + table(("callers", "requests/s", *_LATENCY), rows)
    rows = [(str(p["images"]), number(p["images_per_s"]), *_latency(p)) for p in curves["images"]]
    yield "### Images in a request, one caller\n\n" + table(("images", "images/s", *_LATENCY), rows)
    rows = [
        (
            str(p["side"]),
            number(p["bytes"] / 1e3, 0),
            number(p["rate"]),
            number(p["cpu_ms"]["gateway"], 2),
            *_latency(p),
        )
        for p in curves["sides"]
    ]
    header = ("side, pixels", "JPEG, KB", "requests/s", "gateway CPU ms a request", *_LATENCY)
    yield "### Size of the image, 8 callers\n\n" + table(header, rows)
    yield _models(curves["models"])


def _models(points: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            str(p["models"]),
            number(p["rate"]),
            *_latency(p),
            number(sum(p["memory_mb"].values()), 0),
            number(p["start_s"]),
        )
        for p in points
    ]
    header = ("models", "requests/s", *_LATENCY, "memory, MB", "start, s")
    return "### Models served at a time, asked in turn by 8 callers\n\n" + table(header, rows)


def _latency(point: Mapping[str, Any]) -> tuple[str, str]:
    latency = point.get("latency_ms", {})
    return number(latency.get("p50")), number(latency.get("p99"))


def batch_section(scoring: Mapping[str, Any]) -> str:
    """Return the section on batch scoring."""
    rows = [
        (f"{p['images']:,}", number(p["seconds"]), number(p["images_per_s"]), number(p["cpu_ms_per_image"]))
        for p in scoring["points"]
    ]
    header = ("images", "seconds", "images/s", "CPU ms an image")
    return (
        f"## Batch scoring\n\n`python -m benchmarks batch_scoring --size {scoring['size']}`, "
        f"{scoring['measured'][:10]}: "
        f"`pipeline score` from command to finished CSV, JPEGs of {scoring['picture_side']} x "
        f"{scoring['picture_side']} "
        f"pixels, ResNet50 at {scoring['precision']}.\n\n{table(header, rows)}"
    )


def start_section(results: Results) -> str:
    """Return the section on how long things take to start."""
    rows = []
    if found := results.get("gateway_start"):
        rows.append(("gateway, from start to first answer", f"{found['median_ready_s']:.2f} s", _where(found)))
        rows.append(("gateway, resident memory then", f"{found['median_resident_mb']:.0f} MB", _where(found)))
    if found := results.get("make_demo"):
        rows.append(("`make demo` with its environment built", f"{found['median_s']} s", _where(found)))
    if found := results.get("demo"):
        text = "recipe `demo`, from images to published version"
        rows.append((text, f"{found['median_train_s']:.0f} s", _where(found)))
    return "## Starting\n\n" + table(("what", "measured", "machine, date"), rows) if rows else ""


def _where(result: Mapping[str, Any]) -> str:
    return f"{result['machine']['cpu']}, {result['measured'][:10]}"


def other_section(results: Results, shown: tuple[str, ...]) -> str:
    """Return a list of what else was measured, with the single numbers of each."""
    lines = []
    for name, result in sorted(results.items()):
        if name not in shown:
            numbers = [f"{key} {value:g}" for key, value in result.items() if _is_number(value)]
            told = f": {', '.join(numbers)}" if numbers else ""
            lines.append(f"- [{name}](../benchmarks/results/{name}.json), {result['measured'][:10]}{told}")
    return "## More measurements\n\n" + "\n".join(lines) if lines else ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
