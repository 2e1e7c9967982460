"""The section of docs/benchmarks.md on the size of versions and the memory that they take when loaded."""

from __future__ import annotations

from typing import Any

from benchmarks.report.tables import number, table

_HEADER = (
    "network",
    "weights, MB",
    "version in the store, MB",
    "by weights",
    "versions loaded",
    "MB a version",
    "limit",
    "after a prediction by each",
    "after an explanation by each",
    "first explanation, ms",
)


def memory_section(result: dict[str, Any]) -> str:
    """Return the section: a row for each network and number of versions."""
    base = float(result["resident_mb_of_the_base"])
    rows = []
    for network, found in result["networks"].items():
        for count, server in found["servers"].items():
            after = [
                number((server[f"resident_mb_after_{call}"] - base) / int(count)) for call in ("predict", "explain")
            ]
            sizes = (number(found["weights_mb"]), number(found["version_mb"]), number(found["version_by_weights"], 3))
            memory = (number(server["mb_a_version"]), number(found["limit_mb_a_version"]), *after)
            rows.append((network, *sizes, count, *memory, number(server["first_explain_ms"], 0)))
    text = (
        f"`python -m benchmarks version_memory`, {result['measured'][:10]}: resident memory of the model server beyond "
        f"the {base:.0f} MB that it has with one small model. A stream for each core, batches up to 8. The limit is "
        "60 MB and 2.2 times the weights ([0048](decisions/0048-one-copy-of-the-weights.md))."
    )
    return "\n\n".join(("## Versions in the store and in memory", text, table(_HEADER, rows)))
