"""The plots of docs/benchmarks.md, as SVG files that are the same whenever they are drawn from the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_OWN, _PEER, _LIMIT = "#0b6e69", "#9aa5ad", "#b3541e"


def draw_serving(serving: Mapping[str, Any], path: Path) -> None:
    """Draw requests a second at concurrency 8, and the limit.

    The gateway alone is left out: it computes nothing, so its bar would only dwarf the others.
    """
    pyplot = _pyplot()
    measured = {
        name: system
        for name, system in serving["systems"].items()
        if "concurrency" in system and name != "gateway-alone"
    }
    ordered = sorted(measured.items(), key=lambda item: item[1]["concurrency"]["8"]["rate"])
    rates = [system["concurrency"]["8"]["rate"] for _, system in ordered]
    colors = [_OWN if name.startswith("fovea") else _PEER for name, _ in ordered]
    figure, axes = pyplot.subplots(figsize=(8, 0.42 * len(ordered) + 1.2))
    bars = axes.barh([system["title"] for _, system in ordered], rates, color=colors)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    for precision, limit in serving["limit"].items():
        axes.axvline(limit["images_per_s"], color=_LIMIT, linestyle="--", label=f"limit at {precision}")
    axes.set_xlabel("requests a second at concurrency 8")
    axes.margins(x=0.12)
    axes.legend(loc="lower right")
    _save(figure, path)


def draw_curves(curves: Mapping[str, Any], path: Path) -> None:
    """Draw the four cost curves."""
    pyplot = _pyplot()
    figure, grid = pyplot.subplots(2, 2, figsize=(9, 6.4))
    _draw(grid[0][0], curves["concurrency"], "callers", "rate", "requests/s over callers at a time")
    _draw(grid[0][1], curves["images"], "images", "images_per_s", "images/s over images in a request")
    _draw(grid[1][0], curves["sides"], "side", "rate", "requests/s over side of the image, pixels")
    _draw(grid[1][1], curves["models"], "models", "rate", "requests/s over models served")
    _save(figure, path)


def _draw(axes: Any, points: Sequence[Mapping[str, Any]], x: str, y: str, title: str) -> None:
    positions = [point[x] for point in points]
    axes.plot(positions, [point[y] for point in points], marker="o", color=_OWN)
    axes.set_xscale("log", base=2)
    axes.set_xticks(positions, [str(position) for position in positions])
    axes.minorticks_off()
    axes.set_ylim(0, 1.1 * max(point[y] for point in points))
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "fovea", "svg.fonttype": "none", "font.family": "sans-serif"})
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    _pyplot().close(figure)
