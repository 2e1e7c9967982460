"""Adds to a run's own report what became of its version: the gate, the parity check, what is live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contract.index import ModelEntry
from pipeline.report.contents import replace_between
from pipeline.report.environment import build_environment

OUTCOME = "outcome"
Comparison = tuple[str, float | None, float | None, Sequence[float] | None, str | None]


def write_outcome(
    report: Path,
    name: str,
    version: int,
    *,
    verification: Mapping[str, Any],
    equivalences: Sequence[str],
    roles: ModelEntry,
) -> None:
    """Fill in the part of report.html that is known once the version is published.

    Args:
        report: the run's own.
        name: the model.
        version: that was published.
        verification: what verification.json holds, with the gate.
        equivalences: what was found of each precision beside float32, in words.
        roles: of the model's versions now.
    """
    gate = verification["gate"]
    part = (
        build_environment()
        .get_template("outcome.html.j2")
        .render(
            name=name,
            version=version,
            gate=gate,
            comparisons=_comparisons(gate),
            deviations=verification["deviations"],
            equivalences=equivalences,
            max_deviation=verification["max_deviation"],
            live=roles.live,
            previous=roles.previous,
            candidate=roles.candidate,
        )
    )
    report.write_text(replace_between(report.read_text(encoding="utf-8"), OUTCOME, part), encoding="utf-8")


def _comparisons(gate: Mapping[str, Any]) -> list[Comparison]:
    """Return the comparisons that were made: with the live version, and with the anchor."""
    found: list[Comparison] = []
    if gate["value"] is not None and gate["live_version"] is not None:
        title = f"version {gate['live_version']}, live before"
        found.append((title, gate["live_value"], gate["gain"], gate["interval"], gate["evidence"]))
    if (anchor := gate["anchor"]) is not None:
        title = f"version {anchor['version']}, the anchor"
        found.append((title, anchor["value"], anchor["gain"], anchor["interval"], anchor["evidence"]))
    return found
