"""The gate's outcome in words, after `run` and `import`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contract.commands import spell_command

if TYPE_CHECKING:  # the gate brings Keras
    from pipeline.publishing.gate import GateOutcome


def describe_outcome(outcome: GateOutcome, name: str, version: int) -> list[str]:
    """Return the lines that say whether a new version is live, and why."""
    lines = [f"gate: {outcome.verdict}{', forced' if outcome.forced else ''}; {outcome.reason}"]
    if outcome.is_undecided:
        lines.append(
            f"undecided: {outcome.images} test images in {outcome.groups} groups do not tell a difference of "
            f"{outcome.margin:g} in {outcome.metric}; more groups would"
        )
    if outcome.becomes_live:
        return [*lines, f"live: {name}/{version}"]
    return [
        *lines,
        f"candidate: {name}/{version} is loaded by servers but not live; "
        f"make it live with: {spell_command(f'promote {name} {version}')}",
    ]
