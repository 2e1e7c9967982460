"""Imports a foreign model: checks and copies it, adds Fovea's signatures and a contract, and publishes it."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.model import Color, Fit, InputSpec, Label, ModelContract, Resize, build_document
from contract.store import CONTRACT_FILE, WARMUP_FILE, check_name
from engine.errors import EngineError
from engine.kept import build_synthetic_images
from engine.network_file import has_network_file, network_files, network_path, read_version_signatures
from engine.runtime import reference_runtime
from engine.saved_model import GRAPH_FILE
from engine.warmup import write_warmup_records
from pipeline.errors import ImportedModelError, VerificationError
from pipeline.networks.preprocessing import (
    apply_preprocessing,
    check_channels,
    describe_preprocessing,
    preprocessing_steps,
)
from pipeline.publishing.gate import Gatekeeper, GateOutcome
from pipeline.publishing.imports.foreign_graph import (
    SIGNATURE,
    ForeignSignature,
    adapt_graph,
    read_foreign_signature,
    read_saved_model,
    serving_graph,
)
from pipeline.publishing.imports.foreign_outputs import Output, check_output, finish_output, last_operation
from pipeline.publishing.imports.label_files import number_labels, read_labels
from pipeline.publishing.imports.model_files import Original, find_kind, open_original, restore_as_constants
from pipeline.publishing.imports.onnx_graph import OnnxModel, read_onnx, write_network
from pipeline.publishing.publish import build_warmup_requests, publish_judged
from pipeline.publishing.verify import Verification, open_engine, verify_alone
from pipeline.recipe.preprocessing_settings import Preprocessing

log = logging.getLogger(__name__)

_Foreign = ForeignSignature | OnnxModel
_PARTS = ("variables", "assets")  # of a SavedModel, beside the graph; anything else is left behind


@dataclass(frozen=True)
class ImportSettings:
    """Facts of a model that its file does not hold.

    Attributes:
        labels: a file with the class names in index order; None numbers them.
        preprocessing: from pixels of 0-255 to the model's input.
        output: what the model gives.
        input_size: (height, width), pixels, where the model leaves it open.
        resize: interpolation, as in the contract.
        fit: treatment of the aspect ratio, as in the contract.
        crop_fraction: share of each side that is kept, as in the contract.
    """

    labels: Path | None = None
    preprocessing: Preprocessing = "none"
    output: Output = field(default_factory=Output)
    input_size: tuple[int, int] | None = None
    resize: Resize = "bilinear"
    fit: Fit = "stretch"
    crop_fraction: float = 1.0


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


def import_model(path: Path, name: str, settings: ImportSettings, gatekeeper: Gatekeeper) -> Imported:
    """Check a model, copy it, complete it and publish it; the original is not touched.

    Args:
        path: a SavedModel's folder, a Keras file or an ONNX file.
        name: the model to be.
        settings: facts that the model's file does not hold.
        gatekeeper: decides whether the version becomes live; has the store.

    Raises:
        PipelineError, ContractError: with the reason; the store then is as it was.
    """
    check_name(name)
    with gatekeeper.store.staging() as staging:
        adapted, contract, verification = _fill(staging, path, settings)
        version, outcome = publish_judged(staging, name, verification, gatekeeper, None)
    return Imported(version, contract, adapted, outcome)


def _fill(staging: Path, path: Path, settings: ImportSettings) -> tuple[bool, ModelContract, Verification]:
    """Write a version into `staging`; return whether it was adapted, its contract and what was verified."""
    if find_kind(path) == "onnx":
        return True, *_adapt_onnx(path, staging, settings)
    with open_original(path) as original:
        if not _is_fovea(original.directory):
            return True, *_adapt(path, original, staging, settings)
        contract = _own_contract(original.directory, settings)
        if not has_network_file(original.directory):
            read_saved_model(original.directory)
        _copy(original.directory, staging, with_extras=True)
        return False, contract, verify_alone(staging, contract)


def _is_fovea(directory: Path) -> bool:
    """Return whether a folder is a version: a contract and the signature `describe`."""
    return (directory / CONTRACT_FILE).is_file() and "describe" in read_version_signatures(directory)


def _own_contract(directory: Path, settings: ImportSettings) -> ModelContract:
    if settings != ImportSettings():
        raise ImportedModelError(f"{directory.name} brings its own contract: expected no labels or other settings")
    return ModelContract.from_json((directory / CONTRACT_FILE).read_bytes())


def _copy(directory: Path, staging: Path, *, with_extras: bool) -> None:
    parts = (*_PARTS, Path(CONTRACT_FILE).parent.name) if with_extras else _PARTS
    try:
        for file in network_files(directory):
            if file.parent == directory:
                shutil.copyfile(file, staging / file.name)
        for part in parts:
            if (directory / part).is_dir():
                shutil.copytree(directory / part, staging / part)
    except OSError as err:
        raise ImportedModelError(f"{directory.name} cannot be copied into the store: {err}") from err


def _adapt(
    path: Path, original: Original, staging: Path, settings: ImportSettings
) -> tuple[ModelContract, Verification]:
    """Write graph, contract and warm-up records into `staging`, and check them against the original."""
    message = read_saved_model(original.directory)
    foreign = read_foreign_signature(message)
    spec = _input_spec(foreign, settings)
    _check_preprocessing(foreign, settings.preprocessing, spec)
    images = build_synthetic_images(spec)
    inputs = _prepare(images, foreign, settings)
    with tempfile.TemporaryDirectory(prefix="fovea-") as folder:
        original, values = _run_original(original, foreign, inputs, Path(folder) / "restored")
        message = read_saved_model(original.directory)
        _copy(original.directory, staging, with_extras=False)
    foreign = read_foreign_signature(message)
    operation = last_operation(serving_graph(message).graph_def, foreign.output_tensor)
    check_output(foreign.output_name, values, len(images), settings.output, operation)
    expected = finish_output(values, settings.output)
    contract = _new_contract(path, settings, spec, expected.shape[1])
    adapt_graph(
        message,
        shape=spec.shape,
        preprocessing=settings.preprocessing,
        output=settings.output,
        contract=contract.to_json(),
    )
    (staging / GRAPH_FILE).write_bytes(message.SerializeToString())
    _write_contract(staging, contract)
    return contract, verify_alone(staging, contract, expected)


def _adapt_onnx(path: Path, staging: Path, settings: ImportSettings) -> tuple[ModelContract, Verification]:
    """Write network, contract and warm-up records into `staging`, and check them against the original."""
    found = read_onnx(path)
    spec = _input_spec(found, settings)
    _check_preprocessing(found, settings.preprocessing, spec)
    images = build_synthetic_images(spec)
    inputs = _prepare(images, found, settings)
    values = found.predict(inputs)
    check_output(found.output_name, values, len(images), settings.output, found.operation)
    expected = finish_output(values, settings.output)
    contract = _new_contract(path, settings, spec, expected.shape[1])
    write_network(found, staging, shape=spec.shape, preprocessing=settings.preprocessing, output=settings.output)
    _write_contract(staging, contract)
    return contract, verify_alone(staging, contract, expected)


def _write_contract(staging: Path, contract: ModelContract) -> None:
    """Write contract and warm-up records beside a network."""
    (staging / CONTRACT_FILE).parent.mkdir()
    (staging / CONTRACT_FILE).write_text(contract.to_json(), encoding="utf-8")
    write_warmup_records(staging / WARMUP_FILE, build_warmup_requests(contract))


def _check_preprocessing(foreign: _Foreign, preprocessing: Preprocessing, spec: InputSpec) -> None:
    check_channels(preprocessing, spec.channels)
    arithmetic = [operation for operation, _ in preprocessing_steps(preprocessing) if operation != "Reverse"]
    if foreign.input_dtype == "uint8" and arithmetic:
        raise ImportedModelError(
            f"input {foreign.input_name} takes uint8 pixels: expected no preprocessing but the order of colours. "
            f"Received: {describe_preprocessing(preprocessing)}"
        )


def _prepare(images: NDArray[np.uint8], foreign: _Foreign, settings: ImportSettings) -> NDArray[Any]:
    """Return images as a model takes them: preprocessed, or with their colours in its order where it takes uint8."""
    if foreign.input_dtype == "float32":
        return apply_preprocessing(images, settings.preprocessing)
    return np.ascontiguousarray(images[..., ::-1]) if preprocessing_steps(settings.preprocessing) else images


def _new_contract(path: Path, settings: ImportSettings, spec: InputSpec, num_classes: int) -> ModelContract:
    labels = _labels(settings, num_classes)
    return ModelContract.from_document(
        build_document(labels, spec, saliency=None, provenance=_provenance(path, settings))
    )


def _input_spec(foreign: _Foreign, settings: ImportSettings) -> InputSpec:
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
    return InputSpec(
        height,
        width,
        channels,
        color,
        resize=settings.resize,
        fit=settings.fit,
        crop_fraction=settings.crop_fraction,
    )


def _run_original(
    original: Original, foreign: ForeignSignature, inputs: NDArray[Any], restored: Path
) -> tuple[Original, NDArray[np.float32]]:
    """Return a SavedModel that a server can load, and what the original gives for preprocessed images.

    Args:
        original: the model.
        foreign: its signature.
        inputs: preprocessed images.
        restored: where a SavedModel is written that can be loaded, if this one cannot.
    """
    try:
        values = _run_saved_model(original.directory, foreign, inputs)
    except (EngineError, VerificationError) as err:
        try:
            original = restore_as_constants(original.directory, restored)
        except ImportedModelError:
            raise ImportedModelError(f"the model does not run on images of shape {inputs.shape}: {err}") from err
    if original.predict is not None:
        values = original.predict(inputs)
    return original, values


def _run_saved_model(directory: Path, foreign: ForeignSignature, inputs: NDArray[Any]) -> NDArray[np.float32]:
    engine = open_engine(directory, reference_runtime())
    try:
        return engine.run(SIGNATURE, {foreign.input_name: inputs})[foreign.output_name].astype(np.float32)
    finally:
        engine.close()


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


def _provenance(path: Path, settings: ImportSettings) -> dict[str, Any]:
    kind = find_kind(path)
    key = "keras_file_sha256" if kind in ("keras", "hdf5") else f"{kind}_sha256"
    file = network_path(path) if path.is_dir() else path
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "imported": path.resolve().name,
        key: digest,
        "preprocessing": describe_preprocessing(settings.preprocessing),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
