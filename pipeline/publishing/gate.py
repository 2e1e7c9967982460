"""Decides whether a new version replaces the live one, by test images that neither was trained on.

The verdict is one of

    first     there is no live version: the new one becomes live
    passed    not worse than the live one by more than the margin: the new one becomes live
    failed    worse: the new one stays candidate
    skipped   the two cannot be compared (why is in `reason`): the new one stays candidate, as nothing is known for it

`force` makes the new version live whatever the verdict; verification.json keeps both.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from contract.errors import ContractError
from contract.store import ModelEntry, ModelStore
from engine.errors import EngineError
from pipeline.data.ingest import Source
from pipeline.data.lineage import Seen, seen_by, seen_by_ancestors, seen_in
from pipeline.data.split import Manifest, ManifestRow
from pipeline.errors import PipelineError, list_names
from pipeline.evaluation.scorer import Scorer, predict_files, scorer_of
from pipeline.metrics.table import Predictions, find_metric
from pipeline.recipe.gate_settings import MIN_IMAGES, Gate
from pipeline.run_warnings import Weight, warn

log = logging.getLogger(__name__)

_LISTED = 5  # classes in a reason

Verdict = Literal["first", "passed", "failed", "skipped"]


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

    @property
    def becomes_live(self) -> bool:
        """Whether the new version is to be published as live."""
        return self.forced or self.verdict in ("first", "passed")

    def document(self) -> dict[str, Any]:
        """Return what verification.json holds."""
        return {**asdict(self), "published_as": "live" if self.becomes_live else "candidate"}


@dataclass(frozen=True)
class Contender:
    """A trained classifier that is about to be published.

    Attributes:
        labels: its class ids in index order.
        manifest: of its run.
        weights: `provenance.weights` of its contract: what its training started from.
        source: reads the images of the manifest.
        probabilities: its calibrated probabilities of the manifest's test images in order, shape (images, classes).
    """

    labels: Sequence[str]
    manifest: Manifest
    weights: str
    source: Source
    probabilities: NDArray[np.float32]


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

    def judge(self, name: str, contender: Contender | None) -> tuple[ModelEntry, GateOutcome]:
        """Compare a contender with the live version.

        Args:
            name: the model.
            contender: None for a version of which no training and test images are known, such as an imported one.

        Returns:
            The roles by which was judged, for `ModelStore.publish`, and the outcome.
        """
        entry = self.store.read_index().get(name, ModelEntry())
        if entry.live is None:
            return entry, self._outcome("first", "there was no live version")
        try:
            outcome = self._compare(name, entry.live, contender)
        except (PipelineError, ContractError, EngineError, OSError) as err:
            outcome = self._skip(entry.live, f"live version {entry.live} cannot be evaluated: {err}")
        if outcome.verdict == "skipped":
            warn(log, Weight.FIGURES, "The gate was skipped: %s.", outcome.reason)
        return entry, outcome

    def _compare(self, name: str, live: int, contender: Contender | None) -> GateOutcome:
        if contender is None:
            return self._skip(live, "the new version has no test images of its own")
        live_labels = [label.id for label in self.store.read_contract(name, live).labels]
        if sorted(live_labels) != sorted(contender.labels):
            return self._skip(
                live,
                f"live version {live} has the classes {list_names(live_labels, _LISTED)}, "
                f"not {list_names(contender.labels, _LISTED)}",
            )
        seen = seen_by(self.store, self._runs_dir, name, live)
        if seen is None:
            return self._skip(live, f"what live version {live} was trained on is not known, its run is gone")
        seen |= seen_in(contender.manifest) | seen_by_ancestors(self.store, self._runs_dir, contender.weights)
        chosen, rows = _unseen(contender.manifest, seen)
        if len(rows) < MIN_IMAGES:
            return self._skip(
                live,
                f"only {len(rows)} test images are new to both versions, expected at least {MIN_IMAGES}",
                images=len(rows),
            )
        with scorer_of(self.store, name, live) as scorer:
            before = _measure_live(scorer, contender, rows, self._settings.metric)
        after = _measure(contender.probabilities[chosen], rows, contender.labels, self._settings.metric)
        return self._decide(live, len(rows), before=before, after=after)

    def _decide(self, live: int, images: int, *, before: float, after: float) -> GateOutcome:
        settings = self._settings
        worse_by = after - before if find_metric(settings.metric).lower_is_better else before - after
        # The slack forgives the last bits of a difference that is exactly the margin; a NaN passes nothing.
        verdict: Verdict = "passed" if worse_by <= settings.margin + 1e-9 else "failed"
        reason = (
            f"{settings.metric} {after:.4f} against {before:.4f} of live version {live} on {images} test images "
            f"that neither was trained on, margin {settings.margin:g}"
        )
        return self._outcome(
            verdict, reason, images=images, live_version=live, live_value=round(before, 6), value=round(after, 6)
        )

    def _skip(self, live: int, reason: str, *, images: int = 0) -> GateOutcome:
        return self._outcome("skipped", reason, live_version=live, images=images)

    def _outcome(self, verdict: Verdict, reason: str, **details: Any) -> GateOutcome:
        settings = self._settings
        return GateOutcome(verdict, reason, self._force, settings.metric, settings.margin, **details)


def _unseen(manifest: Manifest, seen: Seen) -> tuple[list[int], list[ManifestRow]]:
    """Return the test images that are in no `seen`: their positions among the test images, and their rows."""
    pairs = [(i, row) for i, row in enumerate(manifest.of("test")) if not seen.knows(row)]
    return [i for i, _ in pairs], [row for _, row in pairs]


def _measure_live(scorer: Scorer, contender: Contender, rows: Sequence[ManifestRow], metric: str) -> float:
    probabilities = predict_files(scorer, contender.source.read, [row.path for row in rows])
    order = [label.id for label in scorer.contract.labels]
    columns = [order.index(label) for label in contender.labels]
    return _measure(probabilities[:, columns], rows, contender.labels, metric)


def _measure(
    probabilities: NDArray[np.float32], rows: Sequence[ManifestRow], labels: Sequence[str], metric: str
) -> float:
    targets = np.array([labels.index(row.label) for row in rows], np.int64)
    return find_metric(metric).compute(Predictions(probabilities, targets))
