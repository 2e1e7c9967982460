"""The report's drawings: SVG, as small as a phone's screen is wide, readable without colour."""

from __future__ import annotations

import base64
import bisect
import io
import itertools
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

# Okabe and Ito's colours, told apart by colour-blind readers; line styles tell them apart on grey paper.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
STYLES = ("-", "--", "-.", ":")
_SIZE = (5.0, 3.1)  # inches at 96 pixels: 480 pixels wide, readable on a phone and as wide as a page
MAX_CURVES = 20  # classes with a curve of their own
_GRID = 101  # places of an averaged curve
_NAME_WIDTH = 16  # of a class in a legend, in Latin letters
_UNDRAWN = ("Cc", "Cs", "Cn")  # control characters, lone surrogates, no characters
_INSIDE = 3  # lines that a legend inside the axes can name

Curves = Mapping[str, Mapping[str, Sequence[Sequence[float]]]]


def draw_roc(curves: Curves, aucs: Mapping[str, float | None]) -> str:
    """Return the ROC curves of the classes and their macro average, as a data URI.

    Of more than MAX_CURVES classes, those that are hardest to tell are drawn; the average is over all.
    """
    figure, axes = _axes("1 - specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
    _add_curves(axes, curves, "roc", aucs)
    _unit_square(axes)
    _add_legend(figure, axes, "lower right", "AUC")
    return _data_uri(figure)


def draw_precision_recall(curves: Curves, precisions: Mapping[str, float | None]) -> str:
    """Return the precision-recall curves of the classes and their macro average, as a data URI.

    Of more than MAX_CURVES classes, those that are hardest to tell are drawn; the average is over all.
    """
    figure, axes = _axes("recall", "precision")
    _add_curves(axes, curves, "precision_recall", precisions)
    _unit_square(axes)
    _add_legend(figure, axes, "lower left", "average precision")
    return _data_uri(figure)


def draw_reliability(calibration: Mapping[str, Any]) -> str:
    """Return the reliability diagram before and after the temperature, as a data URI."""
    figure, axes = _axes("probability of the predicted class", "share that is right")
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
    for i, when in enumerate(("before", "after")):
        bins = calibration[when]["bins"]
        error = calibration[when]["expected_calibration_error"]
        line = {**_line(i), "marker": "os"[i], "markersize": 4}
        axes.plot(
            [found["confidence"] for found in bins],
            [found["accuracy"] for found in bins],
            label=f"{when}  {error:.3f}",
            **line,
        )
    _unit_square(axes)
    _add_legend(figure, axes, "upper left", "calibration error")
    return _data_uri(figure)


def draw_learning_curve(curves: Sequence[Mapping[str, Any]], key: str) -> str:
    """Return one measure over all epochs of all stages, training and validation, as a data URI.

    Args:
        curves: one record an epoch.
        key: "loss" or "accuracy".
    """
    figure, axes = _axes("epoch", key)
    epochs = range(1, len(curves) + 1)
    for i, (name, text) in enumerate(((key, "training"), (f"val_{key}", "validation"))):
        axes.plot(epochs, [row[name] for row in curves], label=text, marker="os"[i], markersize=2.5, **_line(i))
    for i in range(1, len(curves)):
        if curves[i]["stage"] != curves[i - 1]["stage"]:
            axes.axvline(i + 0.5, color="#777777", linewidth=0.8, linestyle=":")
            axes.text(i + 0.6, 0.98, curves[i]["stage"], transform=axes.get_xaxis_transform(), va="top", fontsize=8)
    axes.set_ylim(bottom=0, top=1.02 if key == "accuracy" else None)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize=8.5)
    return _data_uri(figure)


def draw_rates(found: Mapping[str, Any]) -> bytes:
    """Return the loss over the learning rates of a range test, with the suggested rate, as an SVG file.

    Args:
        found: as metrics.json has it.
    """
    figure, axes = _axes("learning rate", "loss, smoothed")
    losses = found["losses"]
    axes.plot(found["rates"], losses, **_line(0))
    axes.set_xscale("log")
    if losses:
        least = min(losses)
        most = max(losses[0], *losses[: losses.index(least) + 1])  # a loss that diverges would flatten the rest
        axes.set_ylim(least - 0.1 * (most - least or 1), most + 0.3 * (most - least or 1))
    for i, (key, style) in enumerate((("suggested", "-"), ("steepest", ":"), ("lowest", "--"))):
        if (rate := found[key]) is not None:
            axes.axvline(rate, color=COLORS[i + 1], linestyle=style, linewidth=1.2, label=f"{key}  {rate:g}")
    if found["suggested"] is not None:
        axes.legend(frameon=False, fontsize=8.5, loc="lower left")
    return svg_of(figure)


def _axes(x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8.5)
    axes.grid(color="#e4e8ee", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _add_legend(figure: Any, axes: Any, place: str, title: str) -> None:
    """Add a legend: inside the axes while it hides nothing, below them when it is long."""
    style = {"title": title, "frameon": False, "fontsize": 8.5, "title_fontsize": 8.5}
    lines = [line for line in axes.get_lines() if not line.get_label().startswith("_")]
    if len(lines) <= _INSIDE:
        axes.legend(loc=place, **style)
        return
    rows = -(-len(lines) // 2)
    figure.set_figheight(figure.get_figheight() + 0.2 * (rows + 1))
    figure.legend(handles=lines, loc="outside lower center", ncols=2, columnspacing=1.0, handlelength=1.8, **style)


def _unit_square(axes: Any) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)


def _line(index: int) -> dict[str, Any]:
    return {"color": COLORS[index % len(COLORS)], "linestyle": STYLES[index % len(STYLES)], "linewidth": 1.6}


def _add_curves(axes: Any, curves: Curves, kind: str, values: Mapping[str, float | None]) -> None:
    known = {label: value for label, value in values.items() if value is not None and label in curves}
    for i, label in enumerate(_hardest(known)):
        x, y = zip(*curves[label][kind], strict=True)
        axes.plot(x, y, label=f"{_short(label)}  {known[label]:.3f}", **_line(i))
    if len(known) > 1:
        x, y = average_curve([curves[label][kind] for label in known], kind)
        mean = sum(known.values()) / len(known)
        axes.plot(x, y, label=f"macro average  {mean:.3f}", color="#000000", linewidth=2.6, alpha=0.55)


def average_curve(curves: Sequence[Sequence[Sequence[float]]], kind: str) -> tuple[Any, Any]:
    """Return the mean of several curves at the same places, as (x, y).

    Args:
        curves: points with x rising.
        kind: "roc" is read linearly between points; "precision_recall" as steps, as average precision is.
    """
    import numpy as np

    grid = np.linspace(0, 1, _GRID)
    rows = []
    for points in curves:
        x, y = np.asarray(points, float).T
        if kind == "roc":
            rows.append(np.interp(grid, x, y))
        else:
            rows.append(y[np.minimum(np.searchsorted(x, grid - 1e-9), len(x) - 1)])
    return grid, np.mean(rows, axis=0)


def _hardest(known: Mapping[str, float]) -> list[str]:
    """Return the classes with the lowest value, in the order of the classes."""
    chosen = sorted(known, key=lambda label: known[label])[:MAX_CURVES]
    return [label for label in known if label in chosen]


def _short(label: str) -> str:
    """Return a class name that fits a legend; $ would start a formula, and XML has no control characters."""
    text = "".join(f"\\x{ord(c):02x}" if unicodedata.category(c) in _UNDRAWN else c for c in label)
    widths = list(itertools.accumulate(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text))
    if widths and widths[-1] > _NAME_WIDTH:
        text = text[: bisect.bisect(widths, _NAME_WIDTH - 1)] + "…"
    return text.replace("$", r"\$").lstrip("_")


def _data_uri(figure: Any) -> str:
    return svg_uri(svg_of(figure))


def svg_uri(svg: bytes) -> str:
    """Return an SVG file as a data URI."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def svg_of(figure: Any) -> bytes:
    """Return a drawing as an SVG file, its text as text."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # Text as text: smaller files, sharp at every size, found by a reader's search.
    settings = {"svg.fonttype": "none", "svg.hashsalt": "report", "font.family": "sans-serif"}
    with rc_context(settings), warnings.catch_warnings():
        # The reader's browser draws the text, with fonts that have the script.
        warnings.filterwarnings("ignore", "Glyph .* missing from|Matplotlib currently does not support")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
