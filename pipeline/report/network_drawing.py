"""Draws a network's graph as SVG and PNG: boxes from the image at the top to the probabilities at the bottom."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx

from pipeline.report.figures import svg_of

_ROW = 0.78  # inches from one layer of boxes to the next
_COLUMN = 2.5  # inches from one box to the next in a row
_MAX_PIXELS = 20_000  # height of the PNG
_DPI = 110
_HALF = 0.27  # of a box's height, in rows
_INK, _LINE, _PANEL = "#1d2430", "#8b95a7", "#f2f5f9"


@dataclass(frozen=True)
class NetworkDrawing:
    """A drawing of a network as two files."""

    svg: bytes
    png: bytes


def draw_network(graph: Mapping[str, Any]) -> NetworkDrawing:
    """Draw a network.

    Args:
        graph: boxes and edges, as `pipeline.report.architecture.describe_network` gives them.
    """
    from matplotlib.figure import Figure

    edges = [tuple(edge) for edge in graph["edges"]]
    places = lay_out(len(graph["boxes"]), edges)
    xs, ys = zip(*(places[node] for node in places), strict=True)
    width, height = (max(xs) - min(xs) + 1) * _COLUMN, (max(ys) + 1) * _ROW
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(min(xs) - 0.5, max(xs) + 0.5)
    axes.set_ylim(max(ys) + 0.5, -0.5)
    for start, end in edges:
        _draw_edge(axes, [places[node] for node in _way(places, start, end)])
    for i, box in enumerate(graph["boxes"]):
        _draw_box(axes, box, *places[i])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=min(_DPI, _MAX_PIXELS / height), metadata={"Software": None})
    return NetworkDrawing(svg_of(figure), buffer.getvalue())


Node = int | tuple[int, int, int]  # a box, or the place of an edge in a row that it passes: start, end, row


def lay_out(num_boxes: int, edges: Sequence[tuple[int, ...]]) -> dict[Node, tuple[float, float]]:
    """Return the place (column, row) of each box, and of each edge in the rows between its ends.

    A row has the boxes with the same longest way from the image. Within a row, they stand in the order of the middle
    of those above them, so that branches stay beside each other.
    """
    network = networkx.DiGraph()
    network.add_nodes_from(range(num_boxes))
    network.add_edges_from(edges)
    rows = {box: row for row, boxes in enumerate(networkx.topological_generations(network)) for box in boxes}
    layered = networkx.DiGraph()
    layered.add_nodes_from((box, {"row": row}) for box, row in rows.items())
    for start, end in edges:
        way: list[Node] = [start, *((start, end, row) for row in range(rows[start] + 1, rows[end])), end]
        layered.add_nodes_from((node, {"row": node[2]}) for node in way if isinstance(node, tuple))
        networkx.add_path(layered, way)
    return _in_columns(layered)


def _in_columns(layered: Any) -> dict[Node, tuple[float, float]]:
    by_row: dict[int, list[Node]] = {}
    for node, row in layered.nodes(data="row"):
        by_row.setdefault(row, []).append(node)
    places: dict[Node, tuple[float, float]] = {}
    for row in sorted(by_row):
        above = {node: [places[parent][0] for parent in layered.predecessors(node)] for node in by_row[row]}
        middles = {node: sum(columns) / len(columns) if columns else 0.0 for node, columns in above.items()}
        ordered = sorted(by_row[row], key=middles.__getitem__)
        for i, node in enumerate(ordered):
            places[node] = (i - (len(ordered) - 1) / 2, row)
    return places


def _way(places: Mapping[Node, Any], start: int, end: int) -> list[Node]:
    first, last = places[start][1], places[end][1]
    return [start, *((start, end, row) for row in range(first + 1, last)), end]


def _draw_edge(axes: Any, points: Sequence[tuple[float, float]]) -> None:
    (x, y), *way, (end_x, end_y) = points
    way = [(x, y + _HALF), *way]
    axes.plot(*zip(*way, strict=True), color=_LINE, linewidth=1, solid_joinstyle="round", zorder=1)
    arrow = {"arrowstyle": "-|>", "color": _LINE, "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=(end_x, end_y - _HALF), xytext=way[-1], arrowprops=arrow, zorder=1)


def _draw_box(axes: Any, box: Mapping[str, Any], x: float, y: float) -> None:
    shape = " × ".join("?" if n is None else str(n) for n in box["shape"])
    numbers = f"{shape}   {box['parameters']:,} parameters" if box["parameters"] else shape
    frame = {"boxstyle": "round,pad=0.35", "facecolor": _PANEL, "edgecolor": _LINE, "linewidth": 0.8}
    text = f"{_cut(' + '.join(box['types']))}\n{_cut(box['title'])}\n{numbers}"
    axes.text(x, y, text, ha="center", va="center", fontsize=6.5, color=_INK, bbox=frame, zorder=2, parse_math=False)


def _cut(text: str, most: int = 46) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
