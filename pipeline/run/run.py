"""A whole run: ingest, audit, split, train, evaluate, report, publish; each stage written down."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from contract.commands import spell_command
from contract.errors import ContractError
from contract.model import InputSpec
from contract.store import ModelStore, check_name
from engine.memory import drop_library_pages, return_freed_memory
from pipeline.data.ingest import Dataset, ingest
from pipeline.data.lineage import find_ancestors
from pipeline.data.names import escape_name
from pipeline.data.objects.url import Location, read_location
from pipeline.data.split import check_validation
from pipeline.errors import DiskError, LostImageError
from pipeline.interrupt import uncovered_interrupts
from pipeline.networks.from_scratch import settle
from pipeline.networks.network import Classifier
from pipeline.networks.own.kept import keep_file, source_sha256, warn_if_changed, with_kept_file
from pipeline.networks.weights import Weights
from pipeline.publishing.gate import Gatekeeper, GateOutcome
from pipeline.publishing.verify import Verification
from pipeline.recipe.evaluate_settings import check_classes
from pipeline.recipe.recipe import Recipe
from pipeline.report.card import read_card
from pipeline.run.algebra import single_threaded_algebra
from pipeline.run.facts import RunFacts
from pipeline.run.prepare import Images, input_spec, prepare_images
from pipeline.run.resume import RunRecord, check_same, check_unfinished, find_published, read_record
from pipeline.run.stages import (
    Replicas,
    build_network,
    describe_outcome,
    measure_network,
    publish_run,
    report_run,
    train_network,
)
from pipeline.run.unchanged import Unchanged, find_unchanged
from pipeline.run.wrong_label_search import LabelSearch, search_labels
from pipeline.run_folder import claimed, new_folder
from pipeline.run_warnings import RunWarning, collect_warnings
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.devices import ONE, make_strategy
from pipeline.training.live_start import LiveStart, find_live
from pipeline.training.warm_start import find_start

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """The results of a run.

    Attributes:
        name: the model's.
        version: the published version.
        folder: the run's folder, with report.html, metrics.json, predictions.csv, wrong_labels.csv, manifest.csv,
            model.keras.
        directory: the version's folder in the store.
        test: the test metrics, as `evaluate.measure` gives them.
        verification: what the version passed on every engine and precision of this machine.
        gate: whether the version became live, and why.
        wrong_labels: images that are likely labelled wrong; None if the search failed.
        tta: test-time augmentation beside plain predictions, as metrics.json has it; None without it.
        warnings: every warning of the run once, the weightiest first.
    """

    name: str
    version: int
    folder: Path
    directory: Path
    test: dict[str, Any]
    verification: Verification
    gate: GateOutcome
    wrong_labels: LabelSearch | None = None
    tta: dict[str, Any] | None = None
    warnings: tuple[RunWarning, ...] = ()


@dataclass
class _Clock:
    """Seconds spent in each stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        _give_back_memory()
        self.seconds[name] = round(time.monotonic() - start, 2)


@dataclass(frozen=True)
class _Job:
    """The arguments of a run; attributes as `run` takes them."""

    location: Location
    recipe: Recipe
    store: ModelStore
    name: str
    runs_dir: Path
    force: bool
    again: bool
    warm_start: bool = False
    devices: str = ONE


def run(
    location: Location,
    recipe: Recipe,
    store: ModelStore,
    *,
    name: str,
    runs_dir: Path,
    force: bool = False,
    again: bool = False,
    warm_start: bool = False,
    devices: str = ONE,
) -> RunResult | Unchanged:
    """Train on a folder, zip, table or address of images and publish the result.

    Args:
        location: the images.
        recipe: of the run.
        store: where it publishes.
        name: the model.
        runs_dir: where the run is recorded.
        force: make the version live whatever the gate says.
        again: train also if a version of this model was trained on the same images by the same recipe.
        warm_start: start training from the live version's weights.
        devices: "one", or "all" devices of this machine, which share every batch.

    Returns:
        The published version; without `again`, the version that training would only repeat, if there is one.

    Raises:
        PipelineError, ContractError: with the reason; the served versions stay.
    """
    check_name(name)
    try:
        return _carry_out(_Job(location, recipe, store, name, runs_dir, force, again, warm_start, devices))
    except _RepetitionError as err:
        return err.unchanged


def resume(
    folder: Path, store: ModelStore, *, location: Location | None = None, recipe: Recipe | None = None
) -> RunResult:
    """Go on with a run that was stopped, from the epoch after the last that it finished.

    Args:
        folder: the run's, as `find_stopped` gives it.
        store: where it publishes.
        location: the set, if it has moved.
        recipe: must be the one that the run was started with; None takes that one.

    Raises:
        ResumeError: if the run has ended, is still going on, or its set, recipe or weights have changed.
        PipelineError, ContractError: as `run`.
    """
    record, started = read_record(folder)
    check_unfinished(folder, folder.parent.name, store)
    name, runs_dir = folder.parent.name, folder.parent.parent
    where, how = location or read_location(record.location), recipe or started
    job = _Job(where, how, store, name, runs_dir, record.force, True, record.warm_start, record.devices)
    return _carry_out(job, folder)


@dataclass(frozen=True)
class _Start:
    """Inputs that are checked before the run's folder is made: a job that cannot start leaves no files."""

    dataset: Dataset
    weights: Weights
    classifier: Classifier
    spec: InputSpec
    card: dict[str, Any]
    live: LiveStart | None = None
    replicas: Replicas | None = None
    ancestors: tuple[str | None, ...] = ()

    @property
    def started_from(self) -> str | None:
        """NAME/VERSION of a warm start."""
        return None if self.live is None else self.live.reference


class _RepetitionError(Exception):
    """A run would repeat a version."""

    def __init__(self, unchanged: Unchanged) -> None:
        super().__init__(unchanged.reason)
        self.unchanged = unchanged


def _carry_out(job: _Job, stopped: Path | None = None) -> RunResult:
    """Do a job and keep its warnings."""
    with collect_warnings() as warnings:
        result = _work_in_folder(job, stopped)
    return replace(result, warnings=warnings.weighed())


def _work_in_folder(job: _Job, stopped: Path | None) -> RunResult:
    """Do a job in a new folder, or in that of a stopped run; a run that would repeat a version leaves no folder."""
    job = replace(job, recipe=settle(job.recipe))
    start = _look_up(job, stopped)
    if stopped is not None:
        check_same(stopped, job.recipe, start.weights.provenance)
    folder = stopped or new_folder(job.runs_dir / job.name)
    with claimed(folder):
        where, weights = _recorded(job.location), start.weights.provenance
        RunRecord(where, weights, job.force, job.warm_start, job.devices).write(folder)
        keep_file(start.classifier.source, folder)
        try:
            with uncovered_interrupts():
                result = _do_stages(job, start, folder)
        except KeyboardInterrupt:
            if _published_by(job, folder) is None:
                log.warning("To go on with this run: %s", _spell_resume(job, folder))
            raise
        except (LostImageError, DiskError) as err:
            raise type(err)(f"{err}; {_next_step(job, folder)}") from err
        except OSError as err:
            what = f"{err.filename or folder}: {err.strerror or err}"
            raise DiskError(f"{what}; {_next_step(job, folder)}") from err
        except _RepetitionError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        Checkpoints(folder).remove()
    return result


def _recorded(location: Location) -> str:
    return os.path.realpath(location) if isinstance(location, Path) else str(location)


def _next_step(job: _Job, folder: Path) -> str:
    """Return what to do after a run was stopped by an error."""
    version = _published_by(job, folder)
    if version is None:
        return f"once that is mended, go on with: {_spell_resume(job, folder)}"
    return f"{job.name}/{version} was published before that and stays, but not all of the run's files are in {folder}"


def _published_by(job: _Job, folder: Path) -> int | None:
    try:
        return find_published(folder, job.name, job.store)
    except ContractError:  # a version of another writer; resume says so
        return None


def _spell_resume(job: _Job, folder: Path) -> str:
    elsewhere = {"--models-dir": (job.store.root, "models"), "--runs-dir": (job.runs_dir, "runs")}
    flags = [f"{flag} {shlex.quote(str(path))}" for flag, (path, default) in elsewhere.items() if str(path) != default]
    return spell_command(" ".join([f"resume {job.name}/{folder.name}", *flags]))


def _look_up(job: _Job, stopped: Path | None) -> _Start:
    recipe = job.recipe
    spec = input_spec(recipe)
    dataset = ingest(job.location, recipe.data)
    check_classes(recipe.evaluate, dataset.labels)
    check_validation(dataset.examples, recipe.data)
    card = read_card(recipe.evaluate.card, dataset.labels)
    model = recipe.model
    if stopped is not None:
        warn_if_changed(model, stopped)
        model = with_kept_file(model, stopped)
    live = None
    if job.warm_start:
        live = find_live(model, spec, dataset.labels, name=job.name, store=job.store, runs_dir=job.runs_dir)
    weights = find_start(model, job.store, job.runs_dir) if live is None else live.weights
    # Before the audit, which reads every image: a network that cannot be built is refused at once.
    strategy = make_strategy(job.devices, recipe.train.batch_size)
    make = partial(build_network, model, weights, spec, dataset.labels, recipe.train)
    replicas = None if strategy is None else Replicas(strategy, make)
    # Before training: a version that it starts from may be pruned meanwhile.
    ancestors = find_ancestors(job.store, {"weights": weights.provenance})
    return _Start(dataset, weights, make(), spec, card, live, replicas, ancestors)


def _do_stages(job: _Job, start: _Start, folder: Path) -> RunResult:
    clock = _Clock()
    _give_back_memory()
    with single_threaded_algebra():
        with clock.stage("audit"):
            images = prepare_images(start.dataset, job.recipe, start.spec, folder)
        if not job.again:
            _refuse_repetition(job, start, images)
        return _train_and_publish(job, start, images, folder, clock)


def _train_and_publish(job: _Job, start: _Start, images: Images, folder: Path, clock: _Clock) -> RunResult:
    recipe, spec = job.recipe, start.spec
    with clock.stage("train"):
        trained = train_network(start.classifier, images, recipe, folder, start.started_from, start.replicas)
    with clock.stage("evaluate"):
        measured = measure_network(trained, images, recipe, folder)
    with clock.stage("labels"):
        wrong_labels = search_labels(trained.classifier, images, recipe, folder, trained.frozen)
    facts = RunFacts(
        name=job.name,
        run=folder.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        dataset=escape_name(job.location.name),
        weights=start.weights.provenance,
        ancestors=start.ancestors,
        recipe=recipe,
        spec=spec,
        images=images,
        trained=trained,
        measured=measured,
        wrong_labels=wrong_labels,
        card=start.card,
        timings=clock.seconds,
    )
    with clock.stage("report"):
        report = report_run(facts, folder)
    with clock.stage("publish"):
        gatekeeper = Gatekeeper(recipe.evaluate.gate, job.store, job.runs_dir, force=job.force)
        published = publish_run(facts, report, gatekeeper)
    facts.write(folder, published)
    describe_outcome(facts, folder, published, job.store)
    return RunResult(
        name=job.name,
        version=published.version,
        folder=folder,
        directory=job.store.version_path(job.name, published.version),
        test=measured.evaluation.test,
        verification=published.verification,
        gate=published.gate,
        wrong_labels=wrong_labels,
        tta=measured.evaluation.tta,
    )


def _give_back_memory() -> None:
    return_freed_memory()
    drop_library_pages()


def _refuse_repetition(job: _Job, start: _Start, images: Images) -> None:
    unchanged = find_unchanged(
        job.store,
        job.runs_dir,
        job.name,
        dataset_sha256=images.manifest.sha256,
        recipe=job.recipe,
        # A warm start on the images of the live version would only train it further.
        weights=start.weights.provenance if start.live is None else start.live.trained_from,
        network_sha256=source_sha256(start.classifier.source),
    )
    if unchanged is not None:
        raise _RepetitionError(unchanged)
