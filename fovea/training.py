"""Training from Python: `fovea.train`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fovea.html import format_table

if TYPE_CHECKING:
    from fovea.local import Model


@dataclass(frozen=True)
class Training:
    """A finished run.

    Attributes:
        name: the model.
        version: the version it published.
        live: whether that version became live.
        reason: why it did or did not.
        test: metrics on the test images, as metrics.json has them.
        report: the HTML report.
        directory: the version's folder in the store.
        models_dir: the store.
        warnings: every warning of the run once, the weightiest first.
        new: False if nothing was trained, as `version` was trained on the same images by the same recipe and seed.
    """

    name: str
    version: int
    live: bool
    reason: str
    test: Mapping[str, Any]
    report: Path
    directory: Path
    models_dir: Path
    warnings: tuple[str, ...] = ()
    new: bool = True

    def load(self) -> Model:
        """Load the version; the caller closes it."""
        from fovea.local import load

        return load(f"{self.name}/{self.version}", models_dir=self.models_dir)

    def __repr__(self) -> str:
        accuracy = self.test.get("accuracy")
        shown = "" if accuracy is None else f", test accuracy {accuracy:.4f}"
        return f"<Training {self.name}/{self.version}: {self._role}{shown}>"

    @property
    def _role(self) -> str:
        return "live" if self.live else "candidate" if self.new else "not live"

    def _repr_html_(self) -> str:
        low, high = self.test.get("accuracy_interval") or (None, None)
        interval = "" if low is None else f" (95 % interval {low:.4f} to {high:.4f})"
        groups = f" in {self.test['groups']} groups" if "groups" in self.test else ""
        measured = "accuracy" in self.test
        rows = [
            *(
                [("test accuracy", f"{self.test['accuracy']:.4f}{interval} on {self.test['images']} images{groups}")]
                if measured
                else []
            ),
            ("role", f"{self._role}: {self.reason}"),
            ("report", str(self.report)),
            ("published", str(self.directory)),
            *(("warning", text) for text in self.warnings),
        ]
        return format_table(rows, f"{self.name} version {self.version}")


def train(
    dataset: str | Path,
    *,
    name: str | None = None,
    recipe: str | Path = "default",
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
    again: bool = False,
    warm_start: bool = False,
    devices: Literal["one", "all"] = "one",
    models_dir: str | Path = "models",
    runs_dir: str | Path = "runs",
) -> Training:
    """Train on a folder, zip or table of images and publish the result.

    Args:
        dataset: `<class>/<image>`, or `train/<class>/<image>` and `test/...`; a zip of it, a CSV, TSV or Parquet table;
            or an address of object storage, such as "s3://bucket/eyes".
        name: the model; by default the folder's name.
        recipe: a shipped recipe, or a YAML file.
        settings: overrides of the recipe, such as {"train.epochs": 5}.
        force: make the version live whatever the gate says.
        again: train also if a version of this name was trained on the same images by the same recipe and seed; without
            it nothing is trained then, and that version is returned, with `new` False.
        warm_start: start training from the live version's weights, for a quarter of the epochs.
        devices: "all": train on all GPUs of this machine, which share every batch.
        models_dir: the model store.
        runs_dir: where the run is recorded.

    Raises:
        PipelineError: if the set, the recipe or the training is refused; nothing is published.
    """
    from engine.runtimes.tensorflow_start import quiet_tensorflow

    quiet_tensorflow()
    from pipeline.commands.options.location import name_of
    from pipeline.commands.options.paths import check_dataset
    from pipeline.data.objects.url import read_location

    location = read_location(dataset) if isinstance(dataset, str) else dataset
    check_dataset(location)
    from contract.store import ModelStore
    from pipeline.recipe.recipe import load_recipe

    overrides = [f"{key}={json.dumps(value, default=str)}" for key, value in (settings or {}).items()]
    chosen = load_recipe(str(recipe), overrides)
    from pipeline.run.run import RunResult, run

    store, runs = ModelStore(Path(models_dir)), Path(runs_dir)
    result = run(
        location,
        chosen,
        store,
        name=name or name_of(location),
        runs_dir=runs,
        force=force,
        again=again,
        warm_start=warm_start,
        devices=devices,
    )
    if not isinstance(result, RunResult):
        return Training(
            name=result.name,
            version=result.version,
            live=result.is_live,
            reason=f"nothing new: {result.reason}",
            test=result.test,
            report=result.report,
            directory=result.directory,
            models_dir=store.root,
            new=False,
        )
    return Training(
        name=result.name,
        version=result.version,
        live=result.gate.becomes_live,
        reason=result.gate.reason,
        test=result.test,
        report=result.folder / "report.html",
        directory=result.directory,
        models_dir=store.root,
        warnings=tuple(warning.text for warning in result.warnings),
    )
