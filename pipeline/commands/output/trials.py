"""Says what gateways found in a trial, in lines."""

from __future__ import annotations

from collections.abc import Mapping

from contract.trials.findings import Figures
from contract.trials.trial import CANARY, SHADOW, Trial, format_share


def describe_trial(name: str, trial: Trial, findings: Mapping[str, Figures]) -> list[str]:
    """Return a line for each kind of trial that is on, has found anything or was stopped.

    Args:
        name: the model.
        trial: of its candidate.
        findings: of all gateways, by kind.
    """
    lines = []
    for kind, share in ((SHADOW, trial.shadow), (CANARY, trial.canary)):
        figures = findings[kind]
        stopped = trial.stopped if kind == CANARY else None
        if share or stopped or not figures.is_empty:
            parts = _describe_shadow(figures) if kind == SHADOW else _describe_canary(figures)
            state = "stopped" if stopped else format_share(share)
            lines.append(f"{name}/{trial.version}: {kind} {state}: {'; '.join(parts) or 'no figures yet'}")
            if stopped:
                lines.append(f"{name}/{trial.version}: stopped by {stopped}")
    return lines


def _describe_shadow(figures: Figures) -> list[str]:
    if figures.is_empty:
        return []
    parts = []
    if figures.images:
        agreement = f"{figures.agreed / figures.images:.1%} of {figures.images:,} images"
        parts.append(f"same class as the live version in {agreement}")
    return [*parts, *_describe_both(figures), f"{figures.dropped:,} calls dropped under load"]


def _describe_canary(figures: Figures) -> list[str]:
    if figures.is_empty:
        return []
    return [f"{figures.answers:,} answers, the live version {figures.live_answers:,}", *_describe_both(figures)]


def _describe_both(figures: Figures) -> list[str]:
    parts = [f"{figures.errors:,} errors"]
    if figures.not_loaded:
        parts.append(f"{figures.not_loaded:,} calls while it was not loaded")
    if figures.unreachable:
        parts.append(f"{figures.unreachable:,} calls without a model server")
    own, live = figures.seconds.percentile(0.95), figures.live_seconds.percentile(0.95)
    if own is not None:
        beside = "" if live is None else f", the live version's {1000 * live:.0f} ms"
        parts.append(f"95th percentile of latency {1000 * own:.0f} ms{beside}")
    if figures.images:
        beside = f", the live version's {figures.live_warned / figures.live_images:.1%}" if figures.live_images else ""
        parts.append(f"warnings on {figures.warned / figures.images:.1%} of the images{beside}")
    return parts
