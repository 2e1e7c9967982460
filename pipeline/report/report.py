"""The run as one self-contained HTML file: in full for the run's folder, aggregates alone for the model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.data.split import ManifestRow
from pipeline.evaluation.calibration import MIN_CALIBRATION_IMAGES
from pipeline.evaluation.positive_class import SPECIFICITIES
from pipeline.metrics.document import read_cells, reorder_counts
from pipeline.metrics.table import Format, metrics_in
from pipeline.report.contents import add_contents
from pipeline.report.environment import FILTERS, build_environment
from pipeline.report.figures import (
    MAX_CURVES,
    draw_learning_curve,
    draw_precision_recall,
    draw_rates,
    draw_reliability,
    draw_roc,
    svg_uri,
)
from pipeline.report.network_drawing import NetworkDrawing, draw_network
from pipeline.report.pictures import Pictures
from pipeline.report.statements import describe_augmentation, describe_held_back

_MAX_MATRIX = 15  # classes; of more, the pairs that are confused most
_MAX_CONFUSED = 20
_MAX_ROWS = 50  # classes in a table
_INTERVALS: dict[Format, str] = {"percent": "percents", "decimals": "interval", "number": "interval"}
_WITHHELD = "A warning names images or groups; it is in the run's own report."


def write_reports(folder: Path, document: Mapping[str, Any], pictures: Pictures, rows: Sequence[ManifestRow]) -> Path:
    """Write report.html with pictures, report-aggregates.html, the copy for the model, and the network's drawing.

    Returns the copy for the model.

    Args:
        folder: the run's; has recipe.yaml.
        document: as for `write_report`, without recipe_yaml.
        pictures: for report.html.
        rows: the manifest's; warnings that name one of them stay out of the copy.
    """
    document = {**document, "recipe_yaml": _without_folder((folder / "recipe.yaml").read_text(encoding="utf-8"))}
    drawing = draw_network(document["network"]["graph"])
    (folder / "network.svg").write_bytes(drawing.svg)
    (folder / "network.png").write_bytes(drawing.png)
    figures = _draw(in_declared_order(document))
    write_report(folder / "report.html", document, pictures, drawing, figures)
    aggregates = folder / "report-aggregates.html"
    write_report(aggregates, {**document, "warnings": without_names(document["warnings"], rows)}, figures=figures)
    return aggregates


def _without_folder(recipe: str) -> str:
    """Return a recipe's text without the folder of a network's file."""
    document = yaml.safe_load(recipe)
    path, colon, function = str(document.get("model", {}).get("backbone", "")).rpartition(":")
    if not colon:
        return recipe
    document["model"]["backbone"] = f"{Path(path).name}:{function}"
    return yaml.safe_dump(document, sort_keys=False)


def write_report(
    path: Path,
    document: Mapping[str, Any],
    pictures: Pictures | None = None,
    drawing: NetworkDrawing | None = None,
    figures: Mapping[str, str | None] | None = None,
) -> None:
    """Write a report.

    Args:
        path: the HTML file.
        document: what pipeline/run/run.py gathers in metrics.json, with recipe_yaml.
        pictures: None for the copy that leaves with the model.
        drawing: of the network; None for the copy that leaves with the model.
        figures: data URIs of the drawings by name; drawn where they are None.
    """
    document = in_declared_order(document)
    html = (
        build_environment()
        .get_template("report.html.j2")
        .render(
            document,
            figures=_draw(document) if figures is None else figures,
            shown=document["labels"][:_MAX_ROWS],
            in_shown={
                split: sum(counts.get(label, 0) for label in document["labels"][:_MAX_ROWS])
                for split, counts in document["splits"].items()
            },
            left_out=max(0, len(document["labels"]) - _MAX_ROWS),
            pictures=pictures,
            drawing=None if drawing is None else svg_uri(drawing.svg),
            curves_left_out=max(0, len(document["test"]["curves"]) - MAX_CURVES),
            augmentation=describe_augmentation(document["recipe"]),
            held_back=describe_held_back(document),
            rate_searches=_draw_rate_searches(document["training"]),
            confused=_most_confused(document["labels"], document["test"]),
            specificities=SPECIFICITIES,
            headline=_headline(document["test"]),
            undefined_classes=[label for label in document["labels"] if not document["card"]["definitions"].get(label)],
            calibrated=document["calibration"]["fitted_on_images"] >= MIN_CALIBRATION_IMAGES,
        )
    )
    path.write_text(add_contents(html), encoding="utf-8")


def in_declared_order(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with its classes in the order that the recipe declares, if it declares one."""
    labels, order = document["labels"], document["recipe"]["evaluate"].get("order")
    if not order or sorted(order) != sorted(labels):
        return dict(document)
    test, places, rank = dict(document["test"]), [labels.index(label) for label in order], order.index
    test["classes"] = {label: test["classes"][label] for label in order}
    test["curves"] = {label: test["curves"][label] for label in order if label in test["curves"]}
    test["confusion"] = reorder_counts(test["confusion"], places)
    if rates := test["confusion_rates"]:
        test["confusion_rates"] = [rates[i] and [rates[i][j] for j in places] for i in places]
    definitions = document["card"]["definitions"]
    return {
        **document,
        "labels": list(order),
        "test": test,
        "splits": {
            split: {label: counts[label] for label in order if label in counts}
            for split, counts in document["splits"].items()
        },
        "operating_points": sorted(document["operating_points"], key=lambda point: rank(point["label"])),
        "card": {**document["card"], "definitions": {label: definitions.get(label) for label in order}},
    }


def _headline(test: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return value, title and note of each metric at the top; the note of one with an interval is the interval."""
    rows = []
    for metric in metrics_in("report"):
        interval = FILTERS[_INTERVALS[metric.format]](test[f"{metric.name}_interval"]) if metric.per_image else None
        note = metric.note if interval is None else interval
        rows.append((FILTERS[metric.format](test[metric.name]), metric.title, note))
    return rows


def without_names(warnings: Iterable[str], rows: Sequence[ManifestRow]) -> list[str]:
    """Return warnings with those that name an image or a group replaced: names of patients do not leave with a model.

    Args:
        warnings: texts.
        rows: the manifest's.
    """
    names = {word for row in rows for word in (row.path, Path(row.path).name, row.group)}
    kept = []
    for warning in warnings:
        # Words, and words joined to paths; both with and without the full stop or comma after them.
        words = set(re.findall(r"[^\s,;:()'\"]+", warning))
        words |= {word.rstrip(".") for word in words}
        spaced = any(name in warning for name in names if re.search(r"[\s,;:()'\"]", name))
        kept.append(_WITHHELD if spaced or words & names else warning)
    return list(dict.fromkeys(kept))


def _draw(document: Mapping[str, Any]) -> dict[str, str | None]:
    test, curves = document["test"], document["training"]["curves"]
    roc = precision_recall = None
    if test["curves"]:
        roc = draw_roc(test["curves"], {label: c["auc"] for label, c in test["classes"].items()})
        precision_recall = draw_precision_recall(
            test["curves"], {label: c["average_precision"] for label, c in test["classes"].items()}
        )
    return {
        "roc": roc,
        "precision_recall": precision_recall,
        "reliability": draw_reliability(document["calibration"]),
        "loss": draw_learning_curve(curves, "loss"),
        "accuracy": draw_learning_curve(curves, "accuracy"),
    }


def _draw_rate_searches(training: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return stage, numbers and drawing of each range test of the learning rate."""
    found = training.get("learning_rates", {})
    return [{**search, "stage": stage, "figure": svg_uri(draw_rates(search))} for stage, search in found.items()]


def _most_confused(labels: Sequence[str], test: Mapping[str, Any]) -> list[tuple[str, str, int, float]] | None:
    """Return (true, predicted, images, share of the class), most first; None where the whole matrix can be shown."""
    if len(labels) <= _MAX_MATRIX:
        return None
    cells = list(read_cells(test["confusion"]))
    images: Counter[int] = Counter()
    for i, _, count in cells:
        images[i] += count
    pairs = [(labels[i], labels[j], count, count / images[i]) for i, j, count in cells if i != j]
    return sorted(pairs, key=lambda pair: (-pair[2], -pair[3], pair[0]))[:_MAX_CONFUSED]
