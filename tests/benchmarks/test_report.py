"""docs/benchmarks.md: what the generator makes of the results, and its arithmetic."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks.machine_limit.measure import summarize_limit
from benchmarks.report.memory_page import memory_section
from benchmarks.report.page import build_page, read_results
from benchmarks.report.plots import draw_curves, draw_serving
from benchmarks.report.precisions_page import precisions_section
from benchmarks.report.reruns_page import reruns_section
from benchmarks.report.targets import Target, find_targets, split_cpu
from benchmarks.serving import summarize, summarize_windows
from benchmarks.systems.rivals import compare
from tests.repository.project import ROOT

MACHINE = {"cpu": "A CPU", "cores": 2, "vector_units": ["avx2"], "python": "3.11", "system": "Linux"}


def window(rate: float, *, p50: float = 100.0, p99: float = 200.0, **cpu_s: float) -> dict[str, Any]:
    """Return what the load generator tells of ten seconds."""
    return {
        "requests": int(10 * rate),
        "seconds": 10.0,
        "rate": rate,
        "errors": {},
        "latency_ms": {"p50": p50, "p90": p99, "p99": p99, "max": p99, "mean": p50},
        "cpu_s": cpu_s,
        "generator_cpu_s": 0.1,
        "machine_cpu_s": sum(cpu_s.values()) + 1.1,
        "stolen_cpu_s": 0.0,
    }


def measured(
    title: str, rate: float, *, name: str = "", times: tuple[float, ...] = (), **cpu_s: float
) -> dict[str, Any]:
    """Return a system's results: two rounds, the second a tenth faster; in each Fovea is so many times as fast."""
    turns = [{name: rate, "fovea-float32": factor * rate} for factor in times]
    rounds = [
        {
            "start_s": 1.0,
            "memory_mb": dict.fromkeys(cpu_s, 100.0),
            "concurrency": {c: [window(factor * rate, **cpu_s)] for c in ("1", "8", "32")},
            "turns": turns,
        }
        for factor in (1.0, 1.1)
    ]
    return {"title": title, **summarize(name, rounds, ["fovea-float32"] if turns else [])}


def results() -> dict[str, Any]:
    """Return the results of a whole serving run."""
    turns = {
        "full": [{"images_per_s": 36.0, "inference_cpu_ms": 55.0, "decode_cpu_ms": 5.0}],
        "alone": [{"engine_ms": 40.0, "decode_ms": 5.0}],
    }
    return {
        "benchmark": "serving",
        "measured": "2026-01-01T00:00:00+00:00",
        "machine": MACHINE,
        "size": "standard",
        "rounds": 2,
        "windows": 1,
        "pairs": 1,
        "turns": 3,
        "window_s": 10.0,
        "took_s": 600,
        "picture_bytes": 40_000,
        "limit": {
            "float32": {
                "precision": "float32",
                "settings": [{"streams": 2, "batch": 4, "images_per_s": 36.0}],
                "finalists": [{"streams": 2, "batch": 4, "images_per_s": 35.0}],
                "best": {"streams": 2, "batch": 4, "images_per_s": 35.0},
                **summarize_limit(turns, cores=2),
            }
        },
        "systems": {
            "fovea-float32": measured("Fovea, float32", 20.0, gateway=2.0, modelserver=12.0),
            "fastapi": measured("FastAPI", 8.0, name="fastapi", times=(2.0, 3.0, 9.0), server=15.0),
            "litserve": measured("LitServe", 11.0, name="litserve", times=(1.8,), server=15.0),
            "mosec": measured("mosec", 10.0, name="mosec", times=(1.4, 1.2, 1.3), server=15.0),
            "mosec-engine-float32": measured(
                "mosec on Fovea's engine, float32", 24.0, name="mosec-engine-float32", times=(0.98,), server=15.0
            ),
            "ray": {"title": "Ray Serve", "failures": ["did not start:\nlog"], "rounds": []},
        },
        "rival_failures": {"fovea-float32": ["fovea-float32 has ended:\nlog"]},
        "skipped": {"tfserving-rest": "there is no docker command"},
    }


def test_the_limit_is_cores_over_cpu_seconds() -> None:
    """Two cores, 60 ms an image: 33.3 images a second."""
    assert 33.333 == results()["limit"]["float32"]["images_per_s"]


def test_medians_are_over_windows_and_cpu_is_a_request() -> None:
    """Rates of 20 and 22 have the median 21; 14 CPU seconds for 200 and 220 requests are 66.8 ms."""
    busy = results()["systems"]["fovea-float32"]["concurrency"]["8"]
    assert 21.0 == busy["rate"]
    assert sum(busy["cpu_ms"].values()) == pytest.approx((14e3 / 200 + 14e3 / 220) / 2, rel=0.001)
    assert 0.1 == busy["others_cores"]


def test_a_window_without_answers_has_no_latency() -> None:
    """A system that only fails has a rate of zero and its errors."""
    failed = {"requests": 0, "seconds": 5.0, "rate": 0.0, "errors": {"503": 7}}
    assert {"rate": 0.0, "errors": 7} == summarize_windows([failed])


def test_targets_are_judged_both_ways() -> None:
    """More requests are better, more milliseconds worse; a miss says how far."""
    assert "met" == Target("", 25.0, 25.0, "requests/s").verdict
    assert "missed by 20%" == Target("", 20.0, 25.0, "requests/s").verdict
    assert "missed by 50%" == Target("", 60.0, 40.0, "ms", at_least=False).verdict


def test_targets_come_from_the_results() -> None:
    """0.85 of 33.3; ratios to FastAPI, a Python peer and one on our engine; 40 + 5 + 3 ms; three times p50."""
    ((precision, targets),) = find_targets(results())
    assert "float32" == precision
    assert [28.33, 2.5, 1.5, 1.0, 48.0, 300.0] == [round(target.wanted, 2) for target in targets]
    assert [21.0, 3.0, 1.3, 0.98, 100.0, 200.0] == [target.measured for target in targets]
    assert [False, True, False, False, False, True] == [target.is_met for target in targets]
    assert "1.5 times the best Python peer: mosec (10.5)" == targets[2].text


def test_no_turns_no_target() -> None:
    """Peers that took no turns with Fovea, or answered in none of them, are no target's."""
    run = results()
    for system in run["systems"].values():
        system.pop("against", None)
    run["systems"]["mosec"]["against"] = {"fovea-float32": compare([{"mosec": 9.0}], "mosec", "fovea-float32")}
    ((_, targets),) = find_targets(run)
    assert ["requests/s", "ms", "ms"] == [target.unit for target in targets]


def test_a_ratio_is_of_one_turn() -> None:
    """The machine's speed falls by four from turn to turn; turns in which one of the two was silent are left out."""
    turns = [
        {"peer": 40.0, "fovea": 80.0, "other": 7.0},
        {"fovea": 60.0, "peer": 20.0},
        {"peer": 10.0, "fovea": 40.0},
        {"peer": 0.0, "fovea": 40.0},
        {"peer": 10.0},
    ]
    assert {"ratio": 3.0, "low": 2.5, "high": 3.5, "turns": 3, "left_out": 2} == compare(turns, "peer", "fovea")
    assert {"ratio": 0.175, "low": 0.175, "high": 0.175, "turns": 1, "left_out": 4} == compare(turns, "peer", "other")
    assert {"ratio": None, "low": None, "high": None, "turns": 0, "left_out": 1} == compare(turns[-1:], "peer", "fovea")


def test_the_parts_of_a_request_add_up() -> None:
    """Every millisecond of both cores is somewhere."""
    run = results()
    parts = split_cpu(run["systems"]["fovea-float32"]["concurrency"], run["limit"]["float32"], cores=2)
    assert sum(parts.values()) == pytest.approx(2000 / 21)
    assert 55.0 == parts["inference, as in the limit"]


def test_the_page_names_every_system_and_what_was_skipped() -> None:
    """Also those that failed or are missing."""
    page = build_page({"serving": results()})
    for text in ("Fovea, float32", "mosec on Fovea's engine", "1 of 2 starts failed (did not start:)", "no docker"):
        assert text in page
    assert "missed by" in page
    assert "| LitServe | float32 | 1.80 | 1.80–1.80 | 2 | 0 |" in page
    assert "failed 1 times (fovea-float32 has ended:)" in page
    assert "float32 35.0 (streams: 2, batch: 4)" in page


def test_the_page_is_what_the_generator_writes() -> None:
    """`python -m benchmarks.report` makes it from the results, without edits by hand."""
    expected = build_page(read_results(ROOT / "benchmarks/results"))
    assert expected == (ROOT / "docs/benchmarks.md").read_text()


def test_plots_are_small_and_repeatable(tmp_path: Path) -> None:
    """The same numbers give the same SVG."""
    point = {"rate": 10.0, "images_per_s": 10.0}
    curves = {
        "concurrency": [{"callers": 1, **point}, {"callers": 8, **point}],
        "images": [{"images": 1, **point}],
        "sides": [{"side": 224, **point}],
        "models": [{"models": 1, **point}],
    }
    for draw, numbers in ((draw_serving, results()), (draw_curves, curves)):
        first, second = tmp_path / "first.svg", tmp_path / "second.svg"
        draw(numbers, first)
        draw(numbers, second)
        assert first.read_bytes() == second.read_bytes()
        assert first.stat().st_size < 200_000
        assert ET.parse(first).getroot().tag.endswith("svg")


def test_precisions_are_told_with_what_they_miss() -> None:
    """A row for each verdict; without an int8 model there is no speed of it."""
    equal = {"equivalent": True, "reasons": [], "images": 2000, "changed_predictions": 3, "deviation_95": 0.0042}
    other = {**equal, "equivalent": False, "reasons": ["95% of images move by up to 0.03; the tolerance is 0.02"]}
    network = {
        "test_accuracy": 0.8765,
        "verdicts": {"bfloat16": equal, "int8": other},
        "layers_in_floating_point": 2,
        "ms_an_image": {"times_faster_than_float32": {"bfloat16": [1.5, 1.2, 1.75]}},
        "taken": "bfloat16",
    }
    section = precisions_section(
        {
            "measured": "2026-01-01T00:00:00+00:00",
            "machine": {"cpu": "a processor"},
            "input_size": 48,
            "networks": {"ResNet50": network},
        }
    )

    assert "Served by default on that machine: ResNet50 at bfloat16." in section
    assert "| ResNet50 (0.876) | bfloat16 | 3 of 2000 | 0.004 | 1.50 (1.20 to 1.75) | equivalent |" in section
    reason = "95% of images move by up to 0.03; the tolerance is 0.02"
    assert f"| ResNet50 (0.876) | int8, 2 layers in floating point | 3 of 2000 | 0.004 | – | {reason} |" in section


def test_memory_is_what_versions_add() -> None:
    """Two versions that add 50 MB to the base take 25 each; with an explanation by each they add 90."""
    server = {
        "resident_mb": 180.0,
        "mb_a_version": 25.0,
        "resident_mb_after_predict": 182.0,
        "resident_mb_after_explain": 220.0,
        "first_explain_ms": 1234.5,
    }
    network = {"weights_mb": 9.1, "version_mb": 9.6, "version_by_weights": 1.061, "limit_mb_a_version": 80.0}
    result = {
        "measured": "2026-01-01T00:00:00+00:00",
        "resident_mb_of_the_base": 130.0,
        "networks": {"MobileNetV2": {**network, "servers": {"2": server}}},
    }
    assert "| MobileNetV2 | 9.1 | 9.6 | 1.061 | 2 | 25.0 | 80.0 | 26.0 | 45.0 | 1,234 |" in memory_section(result)


def test_reruns_have_shares_of_the_first_run() -> None:
    """Each command has a row with the pictures that it saw; the first run has neither a share nor a limit."""
    commands = {
        "first": {"cpu_s": 100.0, "seconds": 61.0},
        "rerun": {"cpu_s": 40.0, "share": 0.4, "seconds": 30.0},
        "warm_start": {"cpu_s": 31.0, "share": 0.31, "seconds": 20.0},
    }
    measured_set = {"images": {"first": 3000, "second": 3150}, "networks": {"MobileNetV2": commands}}
    limits = {"rerun": 0.6, "warm_start": 0.35}
    page = reruns_section({"measured": "2026-11-28T00:00:00", "limits": limits, "sets": {"ordinary": measured_set}})
    assert "| MobileNetV2 | 3,000 | first run | 100.0 | – | – | 61 |" in page
    assert "| MobileNetV2 | 3,150 | the same with `--warm-start` | 31.0 | 0.31 | 0.35 | 20 |" in page
