"""`evaluate` and `compare`: measure published versions on labelled images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.commands.options.data import add_zip_encoding
from pipeline.commands.options.folders import add_folders, existing_store
from pipeline.commands.options.paths import check_dataset, check_output
from pipeline.commands.options.precision import add_precision
from pipeline.commands.options.tta import add_tta
from pipeline.commands.output.tables import (
    describe_images,
    describe_tta,
    format_interval,
    format_number,
    format_table,
)

_PER_CLASS = ("precision", "recall", "f1", "auc")
_MOST_SHOWN = 20  # classes in a table; all of them are in the JSON


def add(commands: Any) -> None:
    """Describe the commands to argparse."""
    evaluate = commands.add_parser("evaluate", help="measure a version on a labelled set")
    evaluate.add_argument("model", metavar="NAME[/VERSION]", help="such as eyes, eyes/3 or eyes/candidate")
    evaluate.add_argument("dataset", type=Path, help="its test images are used, or all if it has no test folder")
    add_zip_encoding(evaluate)
    evaluate.add_argument("--out", type=Path, metavar="FILE.json", help="all numbers")
    add_precision(evaluate)
    add_tta(evaluate)
    add_folders(evaluate)
    evaluate.set_defaults(command=_evaluate)
    compare = commands.add_parser("compare", help="two versions on the same test images")
    compare.add_argument("first", metavar="NAME/A")
    compare.add_argument("second", metavar="NAME/B")
    compare.add_argument("--data", type=Path, help="a labelled set to ask both on, instead of their runs' test images")
    compare.add_argument("--json", action="store_true", help="print all numbers as JSON")
    add_folders(compare)
    compare.set_defaults(command=_compare)


def _evaluate(arguments: argparse.Namespace) -> None:
    check_dataset(arguments.dataset)
    check_output(arguments.out)
    store = existing_store(arguments)
    name, version = store.resolve(arguments.model)
    from pipeline.errors import PipelineError
    from pipeline.evaluation.evaluate_published import evaluate_published
    from pipeline.metrics.document import format_document
    from pipeline.metrics.table import METRICS

    found = evaluate_published(
        store,
        arguments.runs_dir,
        name,
        version,
        location=arguments.dataset,
        zip_encoding=arguments.zip_encoding,
        precision=arguments.precision,
        tta=arguments.tta,
    )
    print(f"{name}/{version} on {describe_images(found)} of {found['dataset']}, at {found['precision']}")
    for metric in METRICS:
        interval = format_interval(found.get(f"{metric.name}_interval"))
        print(f"{metric.words}: {format_number(found[metric.name])}{interval}")
    classes = list(found["classes"].items())
    header = ["class", *_PER_CLASS, "images", "groups"]
    lines = [
        [label, *(format_number(c[key]) for key in _PER_CLASS), str(c["support"]), str(c["groups"])]
        for label, c in classes
    ]
    _print_table([header, *lines[:_MOST_SHOWN]], left_out=len(lines) - _MOST_SHOWN)
    if len(classes) <= _MOST_SHOWN:
        _print_counts("true / predicted", [label for label, _ in classes], found["confusion"])
    for line in describe_tta(found):
        print(line)
    if arguments.out is not None:
        try:
            arguments.out.write_text(format_document(found), encoding="utf-8")
        except OSError as err:
            raise PipelineError(f"{arguments.out} cannot be written: {err.strerror}") from err
        print(f"written: {arguments.out}")


def _compare(arguments: argparse.Namespace) -> None:
    if arguments.data is not None:
        check_dataset(arguments.data)
    store = existing_store(arguments)
    first, second = store.resolve(arguments.first), store.resolve(arguments.second)
    from pipeline.metrics.document import format_document
    from pipeline.metrics.table import METRICS
    from pipeline.publishing.compare import compare_versions

    found = compare_versions(store, arguments.runs_dir, first, second, data=arguments.data)
    if arguments.json:
        print(format_document(found), end="")
        return
    names = [f"{name}/{version}" for name, version in (first, second)]
    print(f"{names[0]} and {names[1]} on {describe_images(found, 'test image')} that neither was trained on")
    if found["left_out"]:
        print(f"left out: {found['left_out']} images that one of them was trained on, they or their group")
    for reference in found["unknown"]:
        print(f"not known: what {reference} was trained on; its numbers may be flattered")
    if found["relabelled"]:
        print(
            f"labelled anew: {found['relabelled']} images have other labels in the two runs; both versions are judged "
            f"by the labels of the newer run, that of {found['judged_by']}"
        )
    rows = [[metric.words, *(format_number(found[side][metric.name]) for side in "ab")] for metric in METRICS]
    for label in found["labels"][:_MOST_SHOWN]:
        for key in ("recall", "auc"):
            rows.append([f"{key} of {label}", *(format_number(found[side]["classes"][label][key]) for side in "ab")])
    _print_table([["", *names], *rows], left_out=len(found["labels"]) - _MOST_SHOWN)
    if len(found["labels"]) <= _MOST_SHOWN:
        _print_counts(f"{names[0]} says / {names[1]} says", found["labels"], found["agreement"])
    print(
        f"only {names[0]} right: {found['only_a_right']}; only {names[1]} right: {found['only_b_right']}; "
        f"McNemar p = {found['mcnemar_p']:.3g}"
    )
    interval = format_interval(found["accuracy_difference_interval"])
    print(f"accuracy of {names[1]} minus {names[0]}: {found['accuracy_difference']:+.4f}{interval}")


def _print_table(rows: Sequence[Sequence[str]], *, left_out: int) -> None:
    print()
    for line in format_table(rows):
        print(line)
    if left_out > 0:
        print(f"and {left_out} more {'class' if left_out == 1 else 'classes'}")


def _print_counts(corner: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> None:
    _print_table(
        [[corner, *labels], *([label, *map(str, row)] for label, row in zip(labels, counts, strict=True))], left_out=0
    )
    print()
