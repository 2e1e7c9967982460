"""Finds the live version that `--warm-start` goes on from, and refuses one that is another network."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from contract.model import InputSpec, ModelContract
from contract.store import ModelStore
from pipeline.data.lineage import find_run
from pipeline.errors import WeightsError, list_names
from pipeline.networks.own.backbone import backbone_of
from pipeline.networks.own.kept import kept_sha256
from pipeline.networks.own.source_file import SourceFile
from pipeline.networks.weights import Earlier, Weights
from pipeline.recipe.training_settings import Model
from pipeline.training.unfreezing import Stage
from pipeline.training.warm_start import find_earlier

_SHARE = 0.25  # of a stage's epochs


@dataclass(frozen=True)
class LiveStart:
    """The live version that training starts from.

    Attributes:
        reference: NAME/VERSION.
        weights: its network's.
        trained_from: the provenance of the weights that it was trained from.
    """

    reference: str
    weights: Weights
    trained_from: str


def find_live(
    settings: Model, spec: InputSpec, labels: Sequence[str], *, name: str, store: ModelStore, runs_dir: Path
) -> LiveStart:
    """Find the live version of a model, which must be the same network for the same classes.

    Args:
        settings: the network of the recipe.
        spec: how images become pixels.
        labels: class names of the set.
        name: the model.
        store: has the version.
        runs_dir: has the Keras model of the version's run.

    Raises:
        WeightsError: if there is none, it cannot be gone on with, or it differs, naming every difference.
    """
    entry = store.read_index().get(name)
    if entry is None or entry.live is None:
        raise WeightsError(f"--warm-start: {name} has no live version to start from. Train without it first")
    reference = f"{name}/{entry.live}"
    weights = find_earlier(store, runs_dir, reference, option="--warm-start")
    contract = store.read_contract(name, entry.live)
    run = find_run(store, runs_dir, name, entry.live)
    if weights.earlier is None or run is None:
        raise WeightsError(f"--warm-start: the run of {reference} is gone")
    differences = [
        *_network_differences(weights.earlier, settings, run),
        *_input_differences(contract, spec),
        *_class_differences(weights.earlier.labels, labels),
    ]
    if differences:
        raise WeightsError(
            f"--warm-start: expected the network and classes of {reference}, which is live. Received: "
            f"{'; '.join(differences)}. Train without --warm-start"
        )
    return LiveStart(reference, weights, str(contract.document["provenance"].get("weights")))


def shorten(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages of a warm start: the last one, for a quarter of its epochs."""
    last = stages[-1]
    return [replace(last, epochs=math.ceil(_SHARE * last.epochs))]


def _network_differences(earlier: Earlier, settings: Model, run: Path) -> Iterator[str]:
    before, now = backbone_of(earlier.settings), backbone_of(settings)
    own = None if settings.own_file is None else hashlib.sha256(SourceFile(*settings.own_file).content).hexdigest()
    if settings.own_file is not None or earlier.settings.own_file is not None:
        if own != kept_sha256(run):
            yield f"model.backbone is {settings.backbone}, not the file that {earlier.reference} was built from"
        return
    if now.name != before.name:
        yield f"model.backbone is {now.name}, not {before.name}"
        return
    values: Mapping[str, tuple[Any, Any]] = {
        "layers": (settings.layers, earlier.settings.layers),
        "last_layer": (settings.last_layer, earlier.settings.last_layer),
        "head": (settings.head or now.head, earlier.settings.head or before.head),
        "preprocessing": (settings.preprocessing, earlier.settings.preprocessing),
    }
    for key, (after, old) in values.items():
        if after != old:
            yield f"model.{key} is {'another list' if key == 'layers' else after}" + (
                "" if key == "layers" else f", not {old}"
            )


def _input_differences(contract: ModelContract, spec: InputSpec) -> Iterator[str]:
    before, now = asdict(contract.input), asdict(spec)
    size = (spec.width, spec.height), (contract.input.width, contract.input.height)
    if size[0] != size[1]:
        yield f"the input is {size[0][0]} x {size[0][1]} pixels, not {size[1][0]} x {size[1][1]}"
    for key in now.keys() - {"width", "height"}:
        if now[key] != before[key]:
            yield f"the input's {key} is {now[key]}, not {before[key]}"


def _class_differences(before: Sequence[str], now: Sequence[str]) -> Iterator[str]:
    if added := [label for label in now if label not in before]:
        yield f"classes added: {list_names(added)}"
    if removed := [label for label in before if label not in now]:
        yield f"classes removed: {list_names(removed)}"
    if not added and not removed and list(before) != list(now):
        yield f"the classes are in another order: {list_names(now)}, not {list_names(before)}"
