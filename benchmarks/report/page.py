"""The whole of docs/benchmarks.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.report.curves_page import batch_section, curve_sections, other_section, start_section
from benchmarks.report.lectures_page import lectures_section
from benchmarks.report.memory_page import memory_section
from benchmarks.report.precisions_page import precisions_section
from benchmarks.report.reruns_page import reruns_section
from benchmarks.report.serving_page import serving_sections

_SHOWN = (
    "serving",
    "curves",
    "batch_scoring",
    "gateway_start",
    "make_demo",
    "demo",
    "version_memory",
    "precisions",
    "lectures",
    "reruns",
)
_HERE = Path(__file__).parent


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the results by benchmark."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def build_page(results: dict[str, dict[str, Any]]) -> str:
    """Return the page; sections whose results are missing are left out."""
    parts = [(_HERE / "head.md").read_text(encoding="utf-8").strip()]
    if "serving" in results:
        parts += serving_sections(results["serving"])
    if "curves" in results:
        parts += curve_sections(results["curves"])
    if "batch_scoring" in results:
        parts.append(batch_section(results["batch_scoring"]))
    if "version_memory" in results:
        parts.append(memory_section(results["version_memory"]))
    if "precisions" in results:
        parts.append(precisions_section(results["precisions"]))
    if "reruns" in results:
        parts.append(reruns_section(results["reruns"]))
    if "lectures" in results:
        parts.append(lectures_section(results["lectures"]))
    parts += [start_section(results), other_section(results, _SHOWN)]
    return "\n\n".join(part for part in parts if part) + "\n"
