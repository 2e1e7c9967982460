"""Computes the features that a run will ask for, in units, into the store where the run looks for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from contract.store import ModelStore, check_name
from pipeline.data.ingest import Dataset, ingest
from pipeline.data.names import escape_name
from pipeline.data.objects.url import Location
from pipeline.data.pixels import Pixels
from pipeline.data.split import Manifest, ManifestRow, check_validation, read_manifest
from pipeline.errors import CacheError, DatasetError, RecipeError
from pipeline.features.feature_store import FOLDER
from pipeline.features.features import FeatureExtractor, View
from pipeline.features.frozen_backbone import FrozenBackbone
from pipeline.networks.from_scratch import settle
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.training_settings import Model
from pipeline.run.algebra import single_threaded_algebra
from pipeline.run.prepare import input_spec, prepare_images
from pipeline.run.resume import write_manifest
from pipeline.run.stages import build_network, freeze
from pipeline.run.wrong_label_search import images_to_search
from pipeline.run_folder import claimed, new_folder
from pipeline.training.stage_data import StageData
from pipeline.training.unfreezing import plan_stages, set_trainable
from pipeline.training.warm_start import find_start
from pipeline.units.make_parts import Made, PartTask, make_parts
from pipeline.units.plan import Listed, check_plan, hash_listing, keep_plan, make_plan, read_plan
from pipeline.units.work import Executor, Shard, run_here


@dataclass(frozen=True)
class _Wanted:
    """The features that a run asks for.

    Attributes:
        extractor: of views.
        frozen: the backbone of a run that trains the head alone, which keeps features of unchanged images too.
        views: by path of their image.
        exact: the images whose float32 features are asked for, by path.
        pixels: decodes the images.
    """

    extractor: FeatureExtractor
    frozen: FrozenBackbone | None
    views: dict[str, list[View]]
    exact: dict[str, ManifestRow]
    pixels: Pixels


@dataclass(frozen=True)
class UnitFeatures:
    """Computes the features of the images of a unit; it can be pickled, and then builds the network where it runs.

    Attributes:
        location: the set.
        recipe: of the run.
        models_dir: has the weights that `model.weights` may name.
        runs_dir: has the store of features.
        folder: has the run's manifest.
        network: the name in the store that the command has found; None before.
    """

    location: Location
    recipe: Recipe
    models_dir: Path
    runs_dir: Path
    folder: Path
    network: str | None = None

    def __call__(self, paths: Sequence[str]) -> pa.Table:
        """Compute what is missing; return a row for each image: path, and the views of it that are in the store.

        Raises:
            CacheError: if the features cannot be written or need more room than allowed.
            LostImageError: if an image cannot be read any more.
        """
        wanted = self.wanted
        views = [view for path in paths for view in wanted.views.get(path, ())]
        with single_threaded_algebra():
            if not wanted.extractor.compute(views):
                raise no_room(self.recipe)
            exact = [wanted.exact[path] for path in paths if path in wanted.exact]
            if wanted.frozen is not None and exact and wanted.frozen.logits(exact) is None:
                raise no_room(self.recipe)
        wanted.pixels.forget()
        counts = [len(wanted.views.get(path, ())) for path in paths]
        return pa.table({"path": pa.array(paths, pa.string()), "views": pa.array(counts, pa.int64())})

    def load(self) -> None:
        """Build the network, and refuse a machine that would compute other features.

        Raises:
            PipelineError: with the reason.
        """
        found = self.wanted.extractor.store.network
        if self.network is not None and found != self.network:
            raise DatasetError(
                "expected a machine that computes the features as the command's does. Received: other versions, or "
                "another precision; name one for all with --set cache.features_precision=float32"
            )

    def for_worker(self, num_threads: int) -> UnitFeatures:
        """Return the function for another process; its network uses all cores there."""
        location = self.location.absolute() if isinstance(self.location, Path) else self.location
        folders = {name: getattr(self, name).absolute() for name in ("models_dir", "runs_dir", "folder")}
        recipe = self.recipe.model_copy(update={"model": _absolute(self.recipe.model)})
        return replace(self, location=location, recipe=recipe, **folders)

    @cached_property
    def wanted(self) -> _Wanted:
        """The features that the run will ask for, by a network as the run's."""
        recipe, dataset = self.recipe, ingest(self.location, self.recipe.data)
        manifest, spec = read_manifest(self.folder / MANIFEST_FILE), input_spec(self.recipe)
        weights = find_start(recipe.model, ModelStore(self.models_dir), self.runs_dir)
        classifier = build_network(recipe.model, weights, spec, dataset.labels, recipe.train)
        stage = plan_stages(classifier, recipe.train)[0]
        if not recipe.cache.features or classifier.auxiliary or stage.trainable:
            raise RecipeError(
                "expected a recipe that trains the head on features at first: train.freeze_backbone=true and "
                "cache.features=true, of a network without further outputs in training. Received: another one"
            )
        pixels = Pixels(dataset.source, spec, cache_bytes=int(recipe.cache.memory_gb * 1e9))
        features = self.runs_dir / FOLDER
        with single_threaded_algebra():
            frozen = freeze(classifier, pixels, manifest, dataset.labels, recipe, features)
        set_trainable(classifier, stage)  # as training does: a part of what names the network
        data = StageData(
            classifier,
            manifest,
            labels=dataset.labels,
            pixels=pixels,
            recipe=recipe,
            features=features,
            frozen=frozen,
        )
        _, extractor = data.before_head()
        views = data.views(extractor)
        exact: list[ManifestRow] = []
        if frozen is not None:
            views += extractor.views(images_to_search(manifest), recipe.augment.views)
            exact = [*manifest.of("val"), *manifest.of("test")]
        by_path: dict[str, dict[str, View]] = {}
        for view in views:
            by_path.setdefault(view.row.path, {})[view.key] = view
        return _Wanted(
            extractor,
            frozen,
            {path: list(found.values()) for path, found in by_path.items()},
            {row.path: row for row in exact},
            pixels,
        )


MANIFEST_FILE = "manifest.csv"


def keep_features(
    location: Location,
    recipe: Recipe,
    store: ModelStore,
    *,
    name: str,
    runs_dir: Path,
    out: Path,
    unit_rows: int,
    shard: Shard | None = None,
    run: Executor = run_here,
) -> Made:
    """Compute the features that a run of the same recipe will ask for, in units; a rerun computes what is missing.

    The set is audited and split once, by whoever comes first.

    Args:
        location: the images.
        recipe: of the run.
        store: has the weights that `model.weights` may name.
        name: the model.
        runs_dir: of the run; features are kept below it.
        out: gets `_plan.json`, `manifest/manifest.csv` and a part for each unit, which says that it is done.
        unit_rows: images of a unit.
        shard: the units to work on; all by default.
        run: works on units.

    Raises:
        PipelineError, ContractError: with the reason, as of a run.
    """
    check_name(name)
    recipe = settle(recipe)
    dataset = ingest(location, recipe.data)
    check_validation(dataset.examples, recipe.data)
    listing = [Listed(example.path, dataset.source.size(example.path)) for example in dataset.examples]
    folder = out / "manifest"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        manifest = _read_or_split(dataset, recipe, listing, out, runs_dir / name)
        function = UnitFeatures(location, recipe, store.root, runs_dir, folder)
        wanted = function.wanted
        names = wanted.extractor.names(recipe.augment.views)
        facts: dict[str, str | int] = {
            "network": wanted.extractor.store.network,
            "views": hashlib.sha256(json.dumps(names).encode()).hexdigest(),
            "split": manifest.sha256,
        }
        plan = make_plan(listing, unit_rows, facts)
        keep_plan(out, plan)
        if not wanted.extractor.make_room([view for views in wanted.views.values() for view in views]):
            raise no_room(recipe)
        task = PartTask(_with_network(function, wanted), out, plan)
        return make_parts(task, listing, shard or Shard(), run, what="Features")
    except OSError as err:
        raise DatasetError(f"{escape_name(str(out))} cannot be written: {err.strerror or err}") from err


def no_room(recipe: Recipe) -> CacheError:
    """Return the error for features that are too many."""
    return CacheError(
        f"the features need more than cache.max_gb={recipe.cache.max_gb:g}. Allow more here and in the run, such as "
        f"--set cache.max_gb={10 * recipe.cache.max_gb:g}"
    )


def _with_network(function: UnitFeatures, wanted: _Wanted) -> UnitFeatures:
    named = replace(function, network=wanted.extractor.store.network)
    named.__dict__["wanted"] = wanted  # built once in this process
    return named


def _read_or_split(dataset: Dataset, recipe: Recipe, listing: Sequence[Listed], out: Path, runs: Path) -> Manifest:
    """Return the manifest of these images that an earlier call has written, or audit and split them as a run does."""
    before, folder = read_plan(out), out / "manifest"
    if before is not None:
        check_plan(out, replace(before, images=len(listing), listing_sha256=hash_listing(listing)))
    if before is not None and (folder / MANIFEST_FILE).exists():
        return read_manifest(folder / MANIFEST_FILE)
    own = new_folder(runs)
    with claimed(own):
        images = prepare_images(dataset, recipe, input_spec(recipe), own, keep_split=False)
    write_manifest(folder, images.manifest)
    return images.manifest


def _absolute(settings: Model) -> Model:
    """Return settings that name files by their whole paths."""
    changes: dict[str, Any] = {}
    if Path(settings.weights).is_file():
        changes["weights"] = str(Path(settings.weights).absolute())
    if settings.own_file is not None:
        changes["backbone"] = f"{Path(settings.own_file[0]).absolute()}:{settings.own_file[1]}"
    return settings.model_copy(update=changes)
