"""The section of docs/benchmarks.md on the lectures' recipes, by Fovea and by plain Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.report.tables import number, table

_HEADER = (
    "recipe",
    "set",
    "images",
    "epochs",
    "seeds",
    "Fovea",
    "plain Keras",
    "difference",
    "in the lectures",
    "s an epoch, Fovea",
    "s an epoch, Keras",
    "ratio",
    "ratio of CPU seconds",
)


def lectures_section(result: Mapping[str, Any]) -> str:
    """Return the section: a row for each recipe of each run."""
    rows = [_row(run, recipe, found) for run in result["runs"] for recipe, found in run["recipes"].items()]
    text = (
        f"`python -m benchmarks lectures`, {result['measured'][:10]}: test accuracy with its 95 % interval over seeds "
        "(Student's t), after the epochs of the table; the lectures train for more. The two sides train in turns, an "
        "epoch each. The ratio is the median over turns after the first epoch; at most "
        f"{result['wanted_ratio']:g} is wanted. Times are left out where other programs kept the machine busy: CPU "
        "seconds bear that better. Images are for training and validation (a tenth); the test has as many, at most the "
        "set's own. Plain Keras is `model.fit` on arrays in memory, with operations that need not be repeatable."
    )
    return "\n\n".join(("## The lectures' recipes", text, table(_HEADER, rows)))


def _row(run: Mapping[str, Any], recipe: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    timed = found if found["quiet"] else {}
    seconds = (number(timed.get(side, {}).get("epoch_s")) for side in ("fovea", "keras"))
    return (
        recipe,
        run["set"],
        f"{run['images']:,}",
        str(run["epochs"]),
        str(found["seeds"]),
        _interval(found["fovea"]["accuracy"]),
        _interval(found["keras"]["accuracy"]),
        _interval(found["difference"]),
        number(found["lecture"], 4),
        *seconds,
        number(timed.get("ratio"), 2),
        number(found["cpu_ratio"], 2),
    )


def _interval(found: Mapping[str, float | None]) -> str:
    bounds = "" if found["low"] is None else f" [{number(found['low'], 4)}, {number(found['high'], 4)}]"
    return f"{number(found['mean'], 4)}{bounds}"
