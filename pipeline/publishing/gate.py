"""Decides whether a new version becomes live by itself.

It must have no fault of its own, and not be worse than earlier versions on test images that neither was trained on.

The verdict is one of

    first     there is no live version, and the new one has no fault: it becomes live
    passed    not worse than the live one, nor than the anchor: the new one becomes live
    failed    worse than one of them: the new one stays candidate
    unfit     at chance, constant, diverged, or an error of the audit was allowed: the new one stays candidate
    skipped   the two cannot be compared (why is in `reason`): the new one stays candidate, as nothing is known for it

Worse and not worse are told by the paired interval of the metric's difference; where it is undecided, the difference
itself must be within the margin. The anchor is the version last promoted by hand, else the first: it stops a metric
that falls by less than the margin with every version. `force` makes the new version live whatever the verdict;
verification.json keeps both.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from contract.errors import ContractError
from contract.store import ModelEntry, ModelStore
from engine.errors import EngineError
from engine.precision_names import FLOAT32
from pipeline.data.ingest import Source
from pipeline.data.lineage import Seen, seen_by, seen_by_ancestors, seen_in
from pipeline.data.split import Manifest, ManifestRow
from pipeline.errors import PipelineError, list_names
from pipeline.evaluation.kept.predictions import KeptPredictions
from pipeline.evaluation.paired import Comparison, Evidence, compare_predictions
from pipeline.evaluation.scorer import predict_files, scorer_of
from pipeline.metrics.table import Predictions, find_metric
from pipeline.recipe.gate_settings import MIN_IMAGES, Gate
from pipeline.run_warnings import Weight, warn

log = logging.getLogger(__name__)

_LISTED = 5  # classes in a reason

Verdict = Literal["first", "passed", "failed", "unfit", "skipped"]
_OUTCOMES: dict[Evidence, str] = {
    "worse": "the interval is below 0: worse",
    "not worse": "the interval is above -{margin:g}: not worse",
    "undecided": "undecided by the interval, so the difference itself counts",
}


@dataclass(frozen=True)
class Anchor:
    """The second comparison, with the version last promoted by hand, else the first.

    Attributes:
        version: its number.
        evidence: of the paired interval.
        value: its metric.
        gain: how much better the new version is; negative if it is worse.
        interval: of the gain, 95 %.
    """

    version: int
    evidence: Evidence
    value: float
    gain: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class GateOutcome:
    """The gate's verdict, as verification.json holds it.

    Attributes:
        verdict: as in the module's docstring.
        reason: the same in words.
        forced: whether the new version becomes live whatever the verdict.
        metric: of the comparison.
        margin: how much worse the new version may be.
        images: test images that neither version was trained on.
        live_version: the version that was live.
        live_value: its metric; None if it was not measured.
        value: the new version's.
        groups: that the images belong to.
        evidence: of the paired interval; None if nothing was compared.
        gain: how much better the new version is than the live one, in the metric's unit; negative if it is worse.
        interval: of the gain, 95 %, over groups.
        faults: reasons for which the version is unfit, in words.
        anchor: the second comparison; None if there was none.
    """

    verdict: Verdict
    reason: str
    forced: bool
    metric: str
    margin: float
    images: int = 0
    live_version: int | None = None
    live_value: float | None = None
    value: float | None = None
    groups: int = 0
    evidence: Evidence | None = None
    gain: float | None = None
    interval: tuple[float, float] | None = None
    faults: tuple[str, ...] = ()
    anchor: Anchor | None = None

    @property
    def becomes_live(self) -> bool:
        """True if the new version is published as live."""
        return self.forced or self.verdict in ("first", "passed")

    @property
    def is_undecided(self) -> bool:
        """True if the interval decided nothing, so that the point rule did."""
        return "undecided" in (self.evidence, self.anchor and self.anchor.evidence)

    def document(self) -> dict[str, Any]:
        """Return what verification.json holds."""
        return {**asdict(self), "published_as": "live" if self.becomes_live else "candidate"}


@dataclass(frozen=True)
class Contender:
    """A trained classifier that is about to be published.

    Attributes:
        labels: its class ids in index order.
        manifest: of its run.
        ancestors: the runs whose models its training started from, as `find_ancestors` gives them.
        source: reads the images of the manifest.
        probabilities: its calibrated probabilities of the manifest's test images in order, shape (images, classes).
        faults: why it must not become live by itself, in words.
    """

    labels: Sequence[str]
    manifest: Manifest
    ancestors: Sequence[str | None]
    source: Source
    probabilities: NDArray[np.float32]
    faults: Sequence[str] = ()


class Gatekeeper:
    """Judges versions of one model before they are published.

    Args:
        settings: metric and margin.
        store: has the live version.
        runs_dir: has the manifests of its training images.
        force: whether new versions become live whatever the verdict.
    """

    def __init__(self, settings: Gate, store: ModelStore, runs_dir: Path, *, force: bool = False) -> None:
        self.store = store
        self._settings = settings
        self._runs_dir = runs_dir
        self._force = force

    def judge(
        self, name: str, contender: Contender | None, *, copy_of: int | None = None
    ) -> tuple[ModelEntry, GateOutcome]:
        """Look for faults, and compare a contender with the live version and the anchor.

        Args:
            name: the model.
            contender: None for a version of which no training and test images are known, such as an imported one.
            copy_of: the version whose SavedModel the new one has; None if it is a new one. A copy of the live version
                passes: at float32 it answers the same, and faster precisions are judged by themselves.

        Returns:
            The roles by which was judged, for `ModelStore.publish`, and the outcome.
        """
        entry = self.store.read_index().get(name, ModelEntry())
        if entry.live is None:
            outcome = self._outcome("first", "there was no live version")
        elif copy_of == entry.live:
            return entry, self._outcome("passed", f"the network of live version {copy_of}", live_version=copy_of)
        elif copy_of is not None:
            reason = f"the network of version {copy_of}, which is not live"
            return entry, self._outcome("skipped", reason, live_version=entry.live)
        else:
            outcome = self._judge_by_live(name, entry.live, contender)
            if outcome.verdict == "passed" and contender is not None:
                outcome = self._judge_by_anchor(name, entry, contender, outcome)
        return entry, _add_faults(outcome, () if contender is None else contender.faults)

    def _judge_by_live(self, name: str, live: int, contender: Contender | None) -> GateOutcome:
        try:
            if contender is None:
                raise _IncomparableError("the new version has no test images of its own")
            compared = self._compare(name, live, contender, f"live version {live}")
        except _IncomparableError as err:
            outcome = self._outcome("skipped", str(err), live_version=live, images=err.images)
            warn(log, Weight.FIGURES, "The gate was skipped: %s.", outcome.reason)
            return outcome
        return self._outcome(
            "passed" if compared.passes else "failed",
            self._describe(compared, f"live version {live}"),
            images=compared.images,
            live_version=live,
            live_value=round(compared.before, 6),
            value=round(compared.after, 6),
            groups=compared.groups,
            evidence=compared.evidence,
            gain=round(compared.gain, 6),
            interval=_rounded(compared.interval),
        )

    def _judge_by_anchor(self, name: str, entry: ModelEntry, contender: Contender, outcome: GateOutcome) -> GateOutcome:
        """Compare with the anchor too, if it is another version than the live one and still in the store."""
        version = entry.anchor
        if version in (None, entry.live) or version not in self.store.read_versions(name):
            return outcome
        title = f"version {version}, {'the last promoted by hand' if version == entry.promoted else 'the first'}"
        try:
            compared = self._compare(name, version, contender, f"version {version}")
        except _IncomparableError as err:
            return replace(outcome, reason=f"{outcome.reason}; no comparison with {title}: {err}")
        return replace(
            outcome,
            verdict="passed" if compared.passes else "failed",
            reason=f"{outcome.reason}; {self._describe(compared, title)}",
            anchor=Anchor(
                version,
                compared.evidence,
                round(compared.before, 6),
                round(compared.gain, 6),
                _rounded(compared.interval),
            ),
        )

    def _compare(self, name: str, version: int, contender: Contender, title: str) -> Comparison:
        """Compare a contender with an earlier version on images that neither was trained on.

        Raises:
            _IncomparableError: saying why it cannot be.
        """
        try:
            rows, before, after = self._predict(name, version, contender, title)
        except (PipelineError, ContractError, EngineError, OSError) as err:
            raise _IncomparableError(f"{title} cannot be evaluated: {err}") from err
        return compare_predictions(
            before,
            after,
            [row.group for row in rows],
            metric=find_metric(self._settings.metric),
            margin=self._settings.margin,
        )

    def _predict(
        self, name: str, version: int, contender: Contender, title: str
    ) -> tuple[list[ManifestRow], Predictions, Predictions]:
        """Return the images that neither was trained on, and the predictions of both in the contender's class order."""
        known = [label.id for label in self.store.read_contract(name, version).labels]
        if sorted(known) != sorted(contender.labels):
            raise _IncomparableError(
                f"{title} has the classes {list_names(known, _LISTED)}, not {list_names(contender.labels, _LISTED)}"
            )
        seen = seen_by(self.store, self._runs_dir, name, version)
        if seen is None:
            raise _IncomparableError(
                f"what {title} was trained on is not known, its run is gone, or that of a version it started from"
            )
        earlier = seen_by_ancestors(self._runs_dir, contender.ancestors)
        if earlier is None:
            raise _IncomparableError("what the new version started from is not known, a run of its ancestors is gone")
        seen |= seen_in(contender.manifest) | earlier
        chosen, rows = _unseen(contender.manifest, seen)
        if len(rows) < MIN_IMAGES:
            raise _IncomparableError(
                f"only {len(rows)} test images are new to both versions, expected at least {MIN_IMAGES}",
                images=len(rows),
            )
        targets = np.array([contender.labels.index(row.label) for row in rows], np.int64)
        probabilities = self._predict_earlier(name, version, contender, rows)
        return rows, Predictions(probabilities, targets), Predictions(contender.probabilities[chosen], targets)

    def remember(self, name: str, version: int, contender: Contender, served: NDArray[np.float32] | None) -> None:
        """Keep a published version's probabilities of its test images for the gates of later versions.

        Args:
            name: the model.
            version: published.
            contender: what it was.
            served: by the preferred runtime at float32; None: they are not known.
        """
        if served is None:
            return
        try:
            kept = KeptPredictions(self._runs_dir, self.store.version_path(name, version))
        except (ContractError, OSError) as err:  # the version is published: the next gate runs it, or says why not
            log.debug("%s/%d: predictions are not kept: %s", name, version, err)
            return
        kept.add(contender.manifest.of("test"), served)

    def _predict_earlier(
        self, name: str, version: int, contender: Contender, rows: Sequence[ManifestRow]
    ) -> NDArray[np.float32]:
        """Return an earlier version's probabilities, its columns in the contender's order of classes."""
        kept = KeptPredictions(self._runs_dir, self.store.version_path(name, version))
        probabilities = kept.find(rows)
        if probabilities is None:
            with scorer_of(self.store, name, version, precision=FLOAT32) as scorer:  # as the new version's are
                probabilities = predict_files(scorer, contender.source.read, [row.path for row in rows])
            kept.add(rows, probabilities)
        order = [label.id for label in self.store.read_contract(name, version).labels]
        return probabilities[:, [order.index(label) for label in contender.labels]]

    def _describe(self, compared: Comparison, title: str) -> str:
        settings = self._settings
        interval = compared.interval
        shown = "" if interval is None else f" [{interval[0]:+.4f}, {interval[1]:+.4f}]"
        return (
            f"{settings.metric} {compared.after:.4f} against {compared.before:.4f} of {title} on {compared.images} "
            f"test images that neither was trained on, margin {settings.margin:g}; better by {compared.gain:+.4f}"
            f"{shown} over {compared.groups} groups, {_OUTCOMES[compared.evidence].format(margin=settings.margin)}"
        )

    def _outcome(self, verdict: Verdict, reason: str, **details: Any) -> GateOutcome:
        settings = self._settings
        return GateOutcome(verdict, reason, self._force, settings.metric, settings.margin, **details)


class _IncomparableError(Exception):
    """Two versions cannot be compared; the message says why."""

    def __init__(self, reason: str, *, images: int = 0) -> None:
        super().__init__(reason)
        self.images = images


def _add_faults(outcome: GateOutcome, faults: Sequence[str]) -> GateOutcome:
    """Hold back a version with faults; one that is worse already has a verdict."""
    if not faults:
        return outcome
    return replace(
        outcome,
        verdict="failed" if outcome.verdict == "failed" else "unfit",
        reason="; ".join([outcome.reason, *faults]),
        faults=tuple(faults),
    )


def _rounded(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (round(interval[0], 6), round(interval[1], 6))


def _unseen(manifest: Manifest, seen: Seen) -> tuple[list[int], list[ManifestRow]]:
    """Return the test images that are in no `seen`: their positions among the test images, and their rows."""
    pairs = [(i, row) for i, row in enumerate(manifest.of("test")) if not seen.knows(row)]
    return [i for i, _ in pairs], [row for _, row in pairs]
