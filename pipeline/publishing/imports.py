"""Imports a foreign SavedModel: checks and copies it, adds Fovea's signatures and a contract, and publishes it."""

from __future__ import annotations

import hashlib
import logging
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import ContractError
from contract.model import Color, Fit, InputSpec, Label, ModelContract, Resize, build_document
from contract.predictions import check_probabilities
from contract.store import CONTRACT_FILE, WARMUP_FILE, check_name
from engine.errors import EngineError
from engine.runtime import reference_runtime
from engine.saved_model import GRAPH_FILE, read_signatures
from engine.warmup import write_warmup_records
from pipeline.errors import ImportedModelError, VerificationError
from pipeline.publishing.foreign_graph import (
    SIGNATURE,
    ForeignSignature,
    Preprocessing,
    adapt_graph,
    apply_preprocessing,
    read_foreign_signature,
    read_saved_model,
)
from pipeline.publishing.gate import Gatekeeper, GateOutcome
from pipeline.publishing.label_files import number_labels, read_labels
from pipeline.publishing.publish import build_warmup_requests, publish_judged
from pipeline.publishing.synthetic import build_synthetic_images
from pipeline.publishing.verify import Verification, open_engine, verify_alone

log = logging.getLogger(__name__)

_PARTS = ("variables", "assets")  # of a SavedModel, beside the graph; anything else is left behind


@dataclass(frozen=True)
class ImportSettings:
    """Facts of a SavedModel that its file does not hold.

    Attributes:
        labels: a file with the class names in index order; None numbers them.
        preprocessing: from pixels of 0-255 to the model's input.
        softmax: whether the model gives logits instead of probabilities.
        input_size: (height, width), pixels, where the model leaves it open.
        resize: interpolation, as in the contract.
        fit: treatment of the aspect ratio, as in the contract.
    """

    labels: Path | None = None
    preprocessing: Preprocessing = "none"
    softmax: bool = False
    input_size: tuple[int, int] | None = None
    resize: Resize = "bilinear"
    fit: Fit = "stretch"


@dataclass(frozen=True)
class Imported:
    """An imported version.

    Attributes:
        version: the new version's number.
        contract: its contract.
        adapted: whether the graph was given Fovea's signatures; False for a model that had them.
        gate: whether it became live, and why.
    """

    version: int
    contract: ModelContract
    adapted: bool
    gate: GateOutcome


def import_model(directory: Path, name: str, settings: ImportSettings, gatekeeper: Gatekeeper) -> Imported:
    """Check a SavedModel, copy it, complete it and publish it; the original is not touched.

    Args:
        directory: the SavedModel.
        name: the model to be.
        settings: facts that the SavedModel does not hold.
        gatekeeper: decides whether the version becomes live; has the store.

    Raises:
        PipelineError, ContractError: with the reason; the store then is as it was.
    """
    check_name(name)
    message = read_saved_model(directory)
    is_own = _is_fovea(directory)
    with gatekeeper.store.staging() as staging:
        _copy(directory, staging, with_extras=is_own)
        if is_own:
            contract = _own_contract(directory, settings)
            verification = verify_alone(staging, contract)
        else:
            contract, verification = _adapt(directory, staging, message, settings)
        version, outcome = publish_judged(staging, name, verification, gatekeeper, None)
    return Imported(version, contract, not is_own, outcome)


def _is_fovea(directory: Path) -> bool:
    """Whether a SavedModel has a contract and can say it."""
    return (directory / CONTRACT_FILE).is_file() and "describe" in read_signatures(directory)


def _own_contract(directory: Path, settings: ImportSettings) -> ModelContract:
    if settings != ImportSettings():
        raise ImportedModelError(f"{directory.name} brings its own contract: expected no labels or other settings")
    return ModelContract.from_json((directory / CONTRACT_FILE).read_bytes())


def _copy(directory: Path, staging: Path, *, with_extras: bool) -> None:
    parts = (*_PARTS, Path(CONTRACT_FILE).parent.name) if with_extras else _PARTS
    try:
        shutil.copyfile(directory / GRAPH_FILE, staging / GRAPH_FILE)
        for part in parts:
            if (directory / part).is_dir():
                shutil.copytree(directory / part, staging / part)
    except OSError as err:
        raise ImportedModelError(f"{directory.name} cannot be copied into the store: {err}") from err


def _adapt(
    directory: Path, staging: Path, message: Any, settings: ImportSettings
) -> tuple[ModelContract, Verification]:
    """Write graph, contract and warm-up records into `staging`, and check them against the original."""
    foreign = read_foreign_signature(message)
    spec = _input_spec(foreign, settings)
    if foreign.input_dtype == "uint8" and settings.preprocessing != "none":
        raise ImportedModelError(
            f"input {foreign.input_name} takes uint8 pixels: expected no preprocessing. "
            f"Received: {settings.preprocessing}"
        )
    images = build_synthetic_images(spec)
    expected = _run_original(directory, foreign, images, settings)
    labels = _labels(settings, expected.shape[1])
    contract = ModelContract.from_document(
        build_document(labels, spec, saliency=None, provenance=_provenance(directory, settings))
    )
    adapt_graph(
        message,
        shape=spec.shape,
        preprocessing=settings.preprocessing,
        softmax=settings.softmax,
        contract=contract.to_json(),
    )
    (staging / GRAPH_FILE).write_bytes(message.SerializeToString())
    (staging / CONTRACT_FILE).parent.mkdir()
    (staging / CONTRACT_FILE).write_text(contract.to_json(), encoding="utf-8")
    write_warmup_records(staging / WARMUP_FILE, build_warmup_requests(contract))
    return contract, verify_alone(staging, contract, expected)


def _input_spec(foreign: ForeignSignature, settings: ImportSettings) -> InputSpec:
    height, width, channels = foreign.shape
    if settings.input_size is not None:
        for given, known in zip(settings.input_size, (height, width), strict=True):
            if known not in (None, given):
                raise ImportedModelError(
                    f"input {foreign.input_name}: the model takes {height} x {width} pixels. "
                    f"Received: an input size of {settings.input_size[0]} x {settings.input_size[1]}"
                )
        height, width = settings.input_size
    if height is None or width is None:
        raise ImportedModelError(
            f"input {foreign.input_name}: the model leaves the size open, expected one to be given, such as "
            "--input-size 224x224"
        )
    channels = channels or 3
    color: Color = "grey" if channels == 1 else "rgb"
    return InputSpec(height, width, channels, color, resize=settings.resize, fit=settings.fit)


def _run_original(
    directory: Path, foreign: ForeignSignature, images: NDArray[np.uint8], settings: ImportSettings
) -> NDArray[np.float32]:
    """Return the original's probabilities of synthetic images, preprocessed here instead of in the graph."""
    is_float = foreign.input_dtype == "float32"
    inputs = apply_preprocessing(images, settings.preprocessing) if is_float else images
    engine = open_engine(directory, reference_runtime())
    try:
        values = engine.run(SIGNATURE, {foreign.input_name: inputs})[foreign.output_name].astype(np.float32)
    except EngineError as err:
        raise ImportedModelError(f"the model does not run on images of shape {inputs.shape}: {err}") from err
    finally:
        engine.close()
    if values.ndim != 2 or len(values) != len(images) or values.shape[1] < 2 or not np.isfinite(values).all():
        raise VerificationError(
            f"output {foreign.output_name}: expected finite numbers of shape ({len(images)}, classes), at least two "
            f"classes. Received: shape {values.shape}, {int((~np.isfinite(values)).sum())} of them not finite"
        )
    if settings.softmax:
        exponents = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), np.float32)
    try:
        check_probabilities(values, values.shape[1])
    except ContractError as err:
        raise VerificationError(
            f"output {foreign.output_name}: {err}; if the model gives logits, say --softmax"
        ) from err
    return values


def _labels(settings: ImportSettings, num_classes: int) -> tuple[Label, ...]:
    if settings.labels is None:
        log.warning("No labels were given: the %d classes are numbered.", num_classes)
        return number_labels(num_classes)
    labels = read_labels(settings.labels)
    if len(labels) != num_classes:
        raise ImportedModelError(
            f"labels: expected one for each of the model's {num_classes} classes. Received: {len(labels)}"
        )
    return labels


def _provenance(directory: Path, settings: ImportSettings) -> dict[str, Any]:
    return {
        "imported": directory.resolve().name,
        "saved_model_sha256": hashlib.sha256((directory / GRAPH_FILE).read_bytes()).hexdigest(),
        "preprocessing": settings.preprocessing,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
