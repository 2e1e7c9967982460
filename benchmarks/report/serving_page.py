"""The part of docs/benchmarks.md that comes from `python -m benchmarks serving`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.report.tables import number, table
from benchmarks.report.targets import OVERHEAD_MS, find_targets, split_cpu
from benchmarks.systems.pairs import fovea_at, precision_of

_CONCURRENCIES = ("1", "8", "32")


def serving_sections(serving: Mapping[str, Any]) -> Iterator[str]:
    """Yield the sections."""
    yield _setup(serving)
    yield _limit(serving)
    yield _systems(serving)
    if in_turns := _in_turns(serving):
        yield in_turns
    for precision, targets in find_targets(serving):
        rows = [(t.text, number(t.measured, t.digits), number(t.wanted, t.digits), t.unit, t.verdict) for t in targets]
        yield f"## Targets at {precision}\n\n" + table(("target", "measured", "wanted", "unit", "verdict"), rows)
        yield _profile(serving, precision)
        if alone := _profile_alone(serving, precision):
            yield alone
    if missing := _not_measured(serving):
        yield missing


def _setup(serving: Mapping[str, Any]) -> str:
    machine = serving["machine"]
    units = ", ".join(machine["vector_units"]) or "none of AVX2, AVX-512, AMX"
    facts = [
        f"`python -m benchmarks serving --size {serving['size']}`, {serving['measured'][:10]}",
        f"{machine['cpu']}, {machine['cores']} cores ({units}), Python {machine['python']}, {machine['system']}",
        f"{serving['rounds']} rounds, {serving['windows']} windows of {serving['window_s']:g} s in each "
        f"({serving['pairs']} where a limit is measured in turns, {serving['turns']} at concurrency 8 where a "
        f"peer is measured in turns with Fovea), {serving['took_s'] / 60:.0f} minutes in all",
        f"a JPEG of {serving['picture_bytes'] / 1e3:.0f} KB",
    ]
    lines = "\n".join(f"- {fact}" for fact in facts)
    prose = Path(__file__).with_name("serving.md").read_text(encoding="utf-8").strip()
    return f"## Serving\n\n{lines}\n\n{prose}"


def _limit(serving: Mapping[str, Any]) -> str:
    rows = [
        (
            precision,
            f"{limit['best']['streams']} streams, batch {limit['best']['batch']}",
            number(limit["raw_images_per_s"]),
            number(limit["inference_cpu_ms"], 2),
            number(limit["decode_cpu_ms"], 2),
            f"**{number(limit['images_per_s'])}**",
            number(limit["engine_ms"]),
        )
        for precision, limit in serving["limit"].items()
    ]
    header = (
        "precision",
        "best setting of `benchmark_app`",
        "raw images/s",
        "inference, CPU ms",
        "decode, CPU ms",
        "limit, images/s",
        "one image alone, ms",
    )
    text = (
        "### The limit\n\nNo server can do better than cores / (CPU seconds of raw inference + CPU seconds of "
        "decoding) "
        "an image. Raw inference is OpenVINO's own queue at the setting that its `benchmark_app` found best. It is "
        "measured in turns with Fovea's windows at that precision, since the machine's speed changes within minutes."
    )
    return f"{text}\n\n{table(header, rows)}\n\n{_settings(serving['limit'])}"


def _settings(limits: Mapping[str, Any]) -> str:
    """Tell what benchmark_app found at each setting: servers reach the best only where callers fill its batches."""
    batches = sorted({setting["batch"] for limit in limits.values() for setting in limit["settings"]})
    rows = []
    for precision, limit in limits.items():
        rates = {(setting["streams"], setting["batch"]): setting["images_per_s"] for setting in limit["settings"]}
        rows += [
            (precision, str(streams), *(number(rates.get((streams, batch))) for batch in batches))
            for streams in sorted({streams for streams, _ in rates})
        ]
    text = (
        "What `benchmark_app` found, images a second. A server comes near the best of them only where its callers fill "
        "such batches: of 8 callers on two streams some are at the gateway and most batches hold two or three images."
    )
    settings = table(("precision", "streams", *(f"batch {batch}" for batch in batches)), rows)
    return f"{text}\n\n{settings}\n\n{_finalists(limits)}"


def _finalists(limits: Mapping[str, Any]) -> str:
    """Tell by what the best setting was chosen."""
    told = [
        f"{precision} {number(setting['images_per_s'])} (streams: {setting['streams']}, batch: {setting['batch']})"
        for precision, limit in limits.items()
        for setting in limit["finalists"]
    ]
    return (
        "The fastest setting of each number of streams was measured again, these in turns; the best median decides: "
        f"{', '.join(told)}."
    )


def _systems(serving: Mapping[str, Any]) -> str:
    header = (
        "system",
        *(f"requests/s at {c}" for c in _CONCURRENCIES),
        "range of windows at 8",
        "p50 at 1, ms",
        "p50 at 8",
        "p99 at 8",
        "CPU ms a request at 8",
        "memory, MB",
        "start, s",
        "errors",
    )
    measured = [system for system in serving["systems"].values() if "concurrency" in system]
    rows = [_row(system) for system in sorted(measured, key=lambda one: -one["concurrency"]["8"]["rate"])]
    generator = max(
        window["generator_cpu_ms"]
        for system in measured
        for window in system["concurrency"].values()
        if "generator_cpu_ms" in window
    )
    others = max(window.get("others_cores", 0.0) for system in measured for window in system["concurrency"].values())
    text = (
        f"### Systems\n\n![Requests a second](benchmarks/serving.svg)\n\n{table(header, rows)}\n\nThe load "
        "generator took at "
        f"most {generator:.2f} ms of CPU a request, programs that have no part in this at most {others:.2f} cores."
    )
    if failures := _failures(serving):
        text += f"\n\n{failures}"
    return text


def _in_turns(serving: Mapping[str, Any]) -> str:
    """Tell how Fovea compares with each peer; nothing where none was measured in turns with it."""
    compared = [
        (precision_of(fovea), system["title"], one)
        for system in serving["systems"].values()
        for fovea, one in system.get("against", {}).items()
    ]
    if not compared:
        return ""
    header = ("peer", "Fovea's precision", "Fovea / peer", "middle half of the turns", "turns", "left out")
    rows = [
        (title, precision, number(one["ratio"], 2), _span(one), str(one["turns"]), str(one["left_out"]))
        for precision, title, one in sorted(compared, key=lambda row: (row[0], row[2]["ratio"] or 0.0))
    ]
    text = (
        "### In turns with its peers\n\nRequests a second at concurrency 8, Fovea's over the peer's in the same turn; "
        f"the median of all turns. In a turn each has a window of {serving['window_s']:g} s, one after the other, "
        "the peer first in one turn and last in the next. These Foveas stay up for the whole run, idle while it is not "
        "their turn. A turn in which one of the two answered nothing is left out."
    )
    failed = [
        f"- {fovea}, which stays up: failed {len(failures)} times ({failures[0].splitlines()[0]})"
        for fovea, failures in serving["rival_failures"].items()
        if failures
    ]
    return "\n\n".join(part for part in (text, table(header, rows), "\n".join(failed)) if part)


def _span(compared: Mapping[str, Any]) -> str:
    return f"{number(compared['low'], 2)}–{number(compared['high'], 2)}" if compared["turns"] else "–"


def _row(system: Mapping[str, Any]) -> tuple[str, ...]:
    windows = system["concurrency"]
    busy, quiet = windows["8"], windows["1"]
    errors = sum(window["errors"] for window in windows.values())
    return (
        system["title"],
        *(number(windows[c]["rate"]) for c in _CONCURRENCIES),
        _range(system, "8"),
        number(quiet.get("latency_ms", {}).get("p50")),
        number(busy.get("latency_ms", {}).get("p50"), 0),
        number(busy.get("latency_ms", {}).get("p99"), 0),
        number(sum(busy["cpu_ms"].values()), 1) if busy.get("cpu_ms") else "–",
        number(sum(system["memory_mb"].values()), 0) if system["memory_mb"] else "–",
        number(system["start_s"]),
        str(errors),
    )


def _range(system: Mapping[str, Any], concurrency: str) -> str:
    rates = [window["rate"] for one in system["rounds"] for window in one["concurrency"][concurrency]]
    return f"{min(rates):.1f}–{max(rates):.1f}"


def _failures(serving: Mapping[str, Any]) -> str:
    lines = [
        f"- {system['title']}: {len(system['failures'])} of {serving['rounds']} starts failed "
        f"({system['failures'][0].splitlines()[0]})"
        for system in serving["systems"].values()
        if system["failures"]
    ]
    return "\n".join(lines)


def _profile(serving: Mapping[str, Any], precision: str) -> str:
    own, limit = serving["systems"][fovea_at(precision)]["concurrency"], serving["limit"][precision]
    parts = split_cpu(own, limit, serving["machine"]["cores"])
    whole = sum(parts.values())
    rows = [(part, number(value, 2), f"{value / whole:.1%}") for part, value in parts.items()]
    beyond = {part: value for part, value in parts.items() if not part.endswith("as in the limit")}
    largest = max(beyond, key=lambda part: beyond[part])
    return (
        f"### Where the time goes at {precision}\n\nAt concurrency 8 the machine's cores spend {whole:.1f} ms on "
        "a request; "
        f"{limit['inference_cpu_ms'] + limit['decode_cpu_ms']:.1f} ms of it are in the limit. The largest part "
        "beyond it: "
        f"{largest}, {beyond[largest]:.1f} ms. A negative part is noise.\n\n"
        f"{table(('part', 'core ms a request', 'share'), rows)}"
    )


def _profile_alone(serving: Mapping[str, Any], precision: str) -> str:
    """Tell where the time of a call goes that is the only one; nothing if its parts were not measured."""
    parts = serving["systems"][fovea_at(precision)]["concurrency"]["1"].get("parts_ms")
    if parts is None:
        return ""
    limit = serving["limit"][precision]
    alone = {"gateway: decoding": limit["decode_ms"], "model server: inference": limit["engine_ms"]}
    rows = [(part, number(value, 2), number(alone.get(part), 2)) for part, value in parts.items()]
    beside = {part: value for part, value in parts.items() if part not in alone}
    largest = max(beside, key=lambda part: beside[part])
    return (
        f"### One caller at {precision}\n\nOf the {sum(parts.values()):.1f} ms that a call takes in the mean "
        f"{sum(beside.values()):.1f} ms are neither decoding nor inference; {OVERHEAD_MS:g} ms are allowed. The "
        f"largest part of them: {largest}, {beside[largest]:.1f} ms.\n\n"
        f"{table(('part', 'ms a call', 'by itself, ms'), rows)}"
    )


def _not_measured(serving: Mapping[str, Any]) -> str:
    titles = {n: s["title"] for n, s in serving["systems"].items()}
    lines = [f"- {titles.get(name, name)}: {reason}" for name, reason in serving["skipped"].items()]
    return "### Not measured here\n\n" + "\n".join(lines) if lines else ""
