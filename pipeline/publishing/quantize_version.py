"""Publishes a version again with an int8 model and with verdicts on faster precisions, by pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from contract.files.regular import read_regular
from contract.model import ModelContract
from contract.store import INT8_FILE, VERIFICATION_FILE
from engine.loading import allowed_precisions
from engine.precision_names import INT8
from pipeline.errors import QuantizationError, VerificationError
from pipeline.publishing.gate import Gatekeeper, GateOutcome
from pipeline.publishing.precisions.equivalence import Limits
from pipeline.publishing.precisions.int8 import check_nncf, choose_int8_images
from pipeline.publishing.precisions.judge import PrecisionJudge
from pipeline.publishing.precisions.pictures import find_pictures
from pipeline.publishing.precisions.quantized import find_quantized, find_same
from pipeline.publishing.publish import publish_judged
from pipeline.publishing.verify import Verification, verify_alone
from pipeline.recipe.recipe import Recipe


@dataclass(frozen=True)
class Known:
    """A version that is what `quantize` would publish.

    Attributes:
        version: its number: that of the version itself, or of a copy.
    """

    version: int


@dataclass(frozen=True)
class Quantized:
    """A version that was published again.

    Attributes:
        version: the new version's number.
        verification: what it passed, with the verdicts.
        gate: whether it became live, and why.
        pictures: where the images are from, in words.
    """

    version: int
    verification: Verification
    gate: GateOutcome
    pictures: str


def quantize_version(
    name: str, version: int, gatekeeper: Gatekeeper, runs_dir: Path, *, images: Path | None, minutes: float
) -> Quantized | Known:
    """Publish a copy of a version that may be served at more precisions than it; the version itself is not touched.

    Nothing is published where the store has that copy already, nor computed where the run's images are to judge.

    Args:
        name: the model.
        version: its number.
        gatekeeper: decides whether the copy becomes live; has the store.
        runs_dir: has the run that made the version.
        images: a folder of pictures; None: the run's.
        minutes: in which layers that hurt int8 are looked for.

    Raises:
        QuantizationError: if NNCF is not installed, or no further precision is equivalent; nothing is published.
        DatasetError: if there are too few images.
        VerificationError: if the version does not compute what was recorded of it.
        StoreError: if there is no such version, or the store cannot be written.
    """
    check_nncf()
    store = gatekeeper.store
    if images is None and (known := find_quantized(store, name, version)) is not None:
        return Known(known)
    original, contract = store.version_path(name, version), store.read_contract(name, version)
    recipe = recipe_of(contract)
    seed = recipe.train.seed
    pictures = find_pictures(store, runs_dir, name, version, folder=images, seed=seed)
    is_enough = pictures.evidence.is_enough_without
    judge = PrecisionJudge(
        pictures.pixels,
        pictures.evidence,
        Limits(contract.tolerance, recipe.evaluate.gate.metric, recipe.evaluate.gate.margin),
        lambda precision: precision == INT8 or recipe.export.allows(precision),
        choose_int8_images(pictures.candidates, seed=seed, is_enough=is_enough),
        budget_s=60 * minutes,
    )
    with store.staging() as directory:
        _copy(original, directory)
        judge.make_int8(directory)
        verification = verify_alone(directory, contract, _recorded_outputs(original), judge)
        _check_gain(original, verification, name, version)
        known = find_same(store, name, version, directory, verification.equivalences or [])
        if known is not None:
            return Known(known)
        number, outcome = publish_judged(directory, name, verification, gatekeeper, None, copy_of=version)
    return Quantized(number, verification, outcome, pictures.words)


def recipe_of(contract: ModelContract) -> Recipe:
    """Return the recipe that a version was trained by; the defaults for one that was not, or not by this Fovea."""
    provenance = contract.document.get("provenance")
    try:
        return Recipe.model_validate(provenance["recipe"] if isinstance(provenance, Mapping) else {})
    except (KeyError, ValidationError):
        return Recipe()


def _copy(original: Path, directory: Path) -> None:
    """Copy a version into a staging folder, without what is made anew."""
    anew = {original / VERIFICATION_FILE, (original / INT8_FILE).parent}

    def left_out(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(folder, name) in anew]

    shutil.copytree(original, directory, ignore=left_out, dirs_exist_ok=True)


def _recorded_outputs(original: Path) -> NDArray[np.float32] | None:
    """Return the recorded probabilities of the synthetic images; None for a version without them."""
    try:
        document = json.loads(read_regular(original / VERIFICATION_FILE))
        return np.array(document["synthetic"]["probabilities"], np.float32)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise VerificationError(f"{VERIFICATION_FILE} cannot be read: {err}") from err


def _check_gain(original: Path, verification: Verification, name: str, version: int) -> None:
    """Check that some precision is equivalent now that the version does not allow yet, or has a new int8 model."""
    before = set(allowed_precisions(original)) - {INT8}  # which is made anew
    found = verification.equivalences or []
    if any(verdict.equivalent and verdict.precision not in before for verdict in found):
        return
    words = "; ".join(f"{verdict.precision} is {verdict.words}" for verdict in found if not verdict.equivalent)
    raise QuantizationError(
        f"nothing was published: {name}/{version} stays with {', '.join(sorted(before))}. "
        f"{words or 'No int8 model could be made'}"
    )
