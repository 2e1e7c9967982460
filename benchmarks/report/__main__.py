"""`python -m benchmarks.report`: write docs/benchmarks.md and docs/benchmarks/*.svg."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report.page import build_page, read_results
from benchmarks.report.plots import draw_curves, draw_serving

ROOT = Path(__file__).resolve().parents[2]


def write_report() -> None:
    """Write page and plots."""
    results = read_results(ROOT / "benchmarks/results")
    plots = ROOT / "docs/benchmarks"
    plots.mkdir(exist_ok=True)
    if "serving" in results:
        draw_serving(results["serving"], plots / "serving.svg")
    if "curves" in results:
        draw_curves(results["curves"], plots / "curves.svg")
    (ROOT / "docs/benchmarks.md").write_text(build_page(results), encoding="utf-8")


if __name__ == "__main__":
    write_report()
