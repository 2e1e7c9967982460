"""Verifies that a SavedModel on disk keeps its contract and computes the recorded probabilities.

Before publication the test images are run and compared with the Keras model in memory; nothing is published that
strays. Later pipeline/publishing/verify_published.py compares with the probabilities that were recorded then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import ContractError
from contract.model import ModelContract
from contract.predictions import check_probabilities
from engine.engine import Arrays, Engine, Runtime
from engine.errors import EngineError, UnreadableError
from engine.kept import KeptOutputs, build_synthetic_images
from engine.loading import load_engine, run_warmup_records
from engine.precision_names import FLOAT32
from engine.runtime import find_runtimes, preferred_runtime, reference_runtime
from pipeline.data.pixels import Pixels
from pipeline.errors import VerificationError
from pipeline.publishing.deviations.compare import (
    MAX_DEVIATION,
    Compared,
    Deviation,
    EmbeddingDeviation,
    compare,
    compare_embeddings,
    synthetic_images,
)
from pipeline.publishing.precisions.equivalence import Equivalence
from pipeline.run_warnings import Weight, warn

if TYPE_CHECKING:  # it runs engines by this module
    from pipeline.publishing.precisions.judge import PrecisionJudge

log = logging.getLogger(__name__)

NUM_RECORDED = 1  # embeddings of synthetic images in verification.json; each is up to 4,096 numbers
_BATCH = 7  # neither 1 nor a power of two


@dataclass(frozen=True)
class Verification:
    """The result of a verification that passed.

    Attributes:
        deviations: from the expected probabilities of real images, one for each engine and precision; for a model of
            which nothing is known to compare with, of the synthetic images between engines.
        synthetic: probabilities of the synthetic images, float32, shape (images, classes).
        embeddings: of the synthetic images, float32, shape (images, dimension); None for a model without `embed`.
        embedding_deviations: from `embeddings`, one for each other engine and precision.
        equivalences: of each precision of this machine that is faster than float32; None where no images are known
            to judge by.
        floating_point: layers that the int8 model leaves in floating point, as they hurt.
        kept: probabilities of the synthetic images at each precision that is faster than float32.
        served: probabilities of the real images on the preferred runtime at float32; None where it cannot read them.
    """

    deviations: list[Deviation]
    synthetic: NDArray[np.float32]
    embeddings: NDArray[np.float32] | None = None
    embedding_deviations: list[EmbeddingDeviation] = field(default_factory=list)
    equivalences: list[Equivalence] | None = None
    floating_point: tuple[str, ...] = ()
    kept: list[KeptOutputs] = field(default_factory=list)
    served: NDArray[np.float32] | None = None

    def allows(self, precision: str) -> bool:
        """Return whether a precision is equivalent to float32 on an engine of this machine."""
        return any(found.equivalent and found.precision == precision for found in self.equivalences or ())

    def document(self) -> dict[str, Any]:
        """Return what verification.json holds of it."""
        synthetic: dict[str, Any] = {"probabilities": _to_lists(self.synthetic)}
        if self.kept:
            synthetic["precisions"] = [outputs.document() for outputs in self.kept]
        embeddings: dict[str, Any] = {}
        if self.embeddings is not None:
            synthetic["embeddings"] = _to_lists(self.embeddings[:NUM_RECORDED])
            embeddings["embedding_deviations"] = [asdict(deviation) for deviation in self.embedding_deviations]
        equivalences: dict[str, Any] = {}
        if self.equivalences is not None:
            equivalences["equivalences"] = [found.document() for found in self.equivalences]
        return {
            "format": 1,
            "max_deviation": MAX_DEVIATION,
            "deviations": [asdict(deviation) for deviation in self.deviations],
            **equivalences,
            **embeddings,
            "synthetic": synthetic,
        }


def _to_lists(rows: NDArray[np.float32]) -> list[list[float]]:
    """Return rows with float32's shortest digits."""
    return [[float(str(value)) for value in row] for row in rows]


def predict(engine: Engine, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the probabilities of images, float32, shape (images, classes)."""
    return np.asarray(call(engine, "serving_default", {"images": images})["probabilities"], np.float32)


def verify(
    directory: Path,
    contract: ModelContract,
    pixels: Pixels,
    paths: Sequence[str],
    expected: NDArray[np.float32],
    precisions: PrecisionJudge | None = None,
) -> Verification:
    """Run every signature of an exported model on every engine, and compare its probabilities of test images.

    Args:
        directory: the SavedModel.
        contract: expected from `describe`.
        pixels: decodes the images.
        paths: the images to run.
        expected: the Keras model's calibrated probabilities, float32, shape (images, classes).
        precisions: judges the precisions faster than float32.

    Raises:
        VerificationError: if an engine cannot load the model, a probability strays by more than MAX_DEVIATION at
            float32 or is not finite, a warm-up record fails, or a signature answers with a wrong shape, range or
            contract. A fault at a faster precision only excludes that precision.
    """
    served: list[NDArray[np.float32]] = []

    def compare_images(engine: Engine, _: NDArray[np.float32]) -> Deviation:
        received = np.concatenate(pixels.map(lambda images: predict(engine, images), paths, size=_BATCH))
        images = Compared(directory, lambda rows: pixels.batch([paths[i] for i in rows]))
        deviation = compare(engine, received, expected, images, what="against the Keras model")
        if (engine.name, engine.precision) == (preferred_runtime().name, FLOAT32):
            served.append(received)
        if precisions is not None:
            precisions.see(engine, directory)
        return deviation

    verification = check_engines(directory, contract, compare_images, strict=True)
    verification = replace(verification, served=served[0] if served else None)
    return verification if precisions is None else precisions.add_to(verification)


def verify_alone(
    directory: Path,
    contract: ModelContract,
    expected: NDArray[np.float32] | None = None,
    precisions: PrecisionJudge | None = None,
) -> Verification:
    """Check a model of which no test images are known, such as an imported one.

    Args:
        directory: the SavedModel.
        contract: expected from `describe`.
        expected: probabilities of the synthetic images, float32, shape (images, classes); None if they are unknown.
        precisions: judges the precisions faster than float32, where there are images to judge by.

    Raises:
        VerificationError: as `verify`; that OpenVINO cannot read the model is no more than a warning.
    """

    def measure(engine: Engine, synthetic: NDArray[np.float32]) -> Deviation | None:
        if precisions is not None:
            precisions.see(engine, directory)
        if expected is None or engine.precision != FLOAT32:  # a few synthetic images say too little of a faster one
            return None
        images = synthetic_images(directory, contract)
        return compare(engine, synthetic, expected, images, what="the copy, against the original")

    verification = check_engines(directory, contract, measure)
    return verification if precisions is None else precisions.add_to(verification)


def check_engines(
    directory: Path,
    contract: ModelContract,
    measure: Callable[[Engine, NDArray[np.float32]], Deviation | None],
    *,
    strict: bool = False,
) -> Verification:
    """Check every signature on each engine and precision of this machine.

    Args:
        directory: the SavedModel.
        contract: expected from `describe`.
        measure: a further comparison on an engine, given its probabilities of the synthetic images.
        strict: whether every engine must be able to read the model.

    Raises:
        VerificationError: for a fault of an engine at float32; a fault at a faster precision is logged.
    """
    reference: NDArray[np.float32] | None = None
    embeddings: NDArray[np.float32] | None = None
    deviations, embedding_deviations, kept = [], [], []
    images, against = synthetic_images(directory, contract), "synthetic images, against TensorFlow"
    for engine in open_engines(directory, strict=strict):
        try:
            synthetic = check_signatures(engine, contract, images)
            if reference is not None:
                compare(engine, synthetic, reference, images, what=against)
            embedded = check_embed(engine, contract, images)
            if embedded is not None and embeddings is not None:
                found = compare_embeddings(engine, embedded, embeddings, images, what=against)
                embedding_deviations.append(found)
            deviation = measure(engine, synthetic)
            check_warmup_records(engine, directory)
        except VerificationError as err:
            if engine.precision == FLOAT32:
                raise
            warn(log, Weight.SPEED, "%s at %s will not be used: %s", engine.name, engine.precision, err)
            continue
        if reference is None:
            reference, embeddings = synthetic, embedded
        deviations += [] if deviation is None else [deviation]
        if engine.precision != FLOAT32:
            kept.append(KeptOutputs(engine.name, engine.precision, contract.tolerance, synthetic))
    if reference is None:
        raise VerificationError("expected an engine that can load the model. Received: none")
    return Verification(deviations, reference, embeddings, embedding_deviations, kept=kept)


def open_engines(directory: Path, *, strict: bool = False) -> Iterator[Engine]:
    """Yield the model on each runtime at each precision of this machine, one at a time; each is closed after its turn.

    Args:
        directory: the SavedModel.
        strict: whether every runtime of its format must be able to read it.

    Raises:
        VerificationError: if it cannot be loaded.
    """
    runtimes = sorted(find_runtimes(), key=lambda runtime: not runtime.is_reference)
    reference, *others = [runtime for runtime in runtimes if runtime.reads(directory)] or [reference_runtime()]
    for runtime in (reference, *others):
        for precision in runtime.precisions(directory):
            try:
                engine = open_engine(directory, runtime, precision)
            except VerificationError as err:
                if strict or runtime is reference or not isinstance(err.__cause__, UnreadableError):
                    raise
                warn(log, Weight.SPEED, "%s; %s will serve it", err, reference.title)
                break
            try:
                yield engine
            finally:
                engine.close()


def open_engine(directory: Path, runtime: Runtime, precision: str = FLOAT32) -> Engine:
    """Load a SavedModel; close the engine.

    Raises:
        VerificationError: if it cannot be loaded.
    """
    try:
        return load_engine(directory, engine=runtime.name, precision=precision)
    except EngineError as err:
        raise VerificationError(f"expected a SavedModel that can be loaded by {runtime.name}. Received: {err}") from err


def call(engine: Engine, signature: str, inputs: dict[str, NDArray[Any]]) -> Arrays:
    """Run a signature.

    Raises:
        VerificationError: if there is no such signature, it does not take these inputs, its run fails, or an output
            that the design names is missing.
    """
    try:
        outputs = engine.run(signature, inputs)
    except EngineError as err:
        raise VerificationError(f"{signature}: {err}") from err
    if missing := _OUTPUTS[signature] - outputs.keys():
        raise VerificationError(
            f"{signature}: expected the outputs {', '.join(sorted(_OUTPUTS[signature]))}. "
            f"Received: {', '.join(sorted(outputs)) or 'none'}, without {', '.join(sorted(missing))}"
        )
    return outputs


_OUTPUTS = {
    "serving_default": {"probabilities"},
    "explain": {"probabilities", "saliency"},
    "embed": {"embedding"},
    "describe": {"contract"},
}


def check_signatures(engine: Engine, contract: ModelContract, compared: Compared) -> NDArray[np.float32]:
    """Run every signature on synthetic images and return the probabilities, float32, shape (images, classes).

    Raises:
        VerificationError: if a signature answers with a wrong shape, range or contract, if an image's probabilities
            depend on the other images of the batch, or if `explain` and `serving_default` disagree.
    """
    images = build_synthetic_images(contract.input)
    probabilities = call(engine, "serving_default", {"images": images})["probabilities"]
    _check_probabilities(probabilities, len(images), contract, "serving_default")
    alone = call(engine, "serving_default", {"images": images[:1]})["probabilities"]
    _check_probabilities(alone, 1, contract, "serving_default")
    compare(engine, alone, probabilities[:1], compared, what="an image alone, against the same image in a batch")
    if contract.saliency is not None:
        _check_explain(engine, contract, images, probabilities, compared)
    _check_describe(call(engine, "describe", {"row": np.zeros(2, np.int32)})["contract"], contract)
    return np.asarray(probabilities, np.float32)


def check_embed(engine: Engine, contract: ModelContract, compared: Compared) -> NDArray[np.float32] | None:
    """Run `embed` on synthetic images and return their embeddings, float32, shape (images, dimension).

    Returns:
        None if the contract names no embeddings.

    Raises:
        VerificationError: if they are not finite or of another shape, or depend on what else is in the batch.
    """
    if contract.embedding_dimension is None:
        return None
    images = build_synthetic_images(contract.input)
    embeddings = call(engine, "embed", {"images": images})["embedding"]
    expected = (len(images), contract.embedding_dimension)
    if embeddings.dtype != np.float32 or embeddings.shape != expected or not np.isfinite(embeddings).all():
        raise VerificationError(
            f"embed: expected finite float32 of shape {expected}. Received: {embeddings.dtype} of shape "
            f"{embeddings.shape}, {int((~np.isfinite(embeddings)).sum())} of them not finite"
        )
    alone = call(engine, "embed", {"images": images[:1]})["embedding"]
    what = "an image alone, against the same image in a batch"
    compare_embeddings(engine, alone, embeddings[:1], compared, what=what)
    return np.asarray(embeddings, np.float32)


def _check_probabilities(
    probabilities: NDArray[np.float32], num_images: int, contract: ModelContract, signature: str
) -> None:
    try:
        check_probabilities(probabilities, len(contract.labels))
    except ContractError as err:
        raise VerificationError(f"{signature}: {err}") from err
    if len(probabilities) != num_images:
        raise VerificationError(
            f"{signature}: expected a row for each of {num_images} images. Received: {len(probabilities)} rows"
        )


def _check_explain(
    engine: Engine,
    contract: ModelContract,
    images: NDArray[np.uint8],
    expected: NDArray[np.float32],
    compared: Compared,
) -> None:
    outputs = call(engine, "explain", {"images": images, "class_index": np.full(len(images), -1, np.int32)})
    _check_probabilities(outputs["probabilities"], len(images), contract, "explain")
    compare(engine, outputs["probabilities"], expected, compared, what="explain, against serving_default")
    saliency = outputs["saliency"]
    if saliency.ndim != 3 or len(saliency) != len(images) or 0 in saliency.shape:
        raise VerificationError(
            f"explain: expected maps of shape ({len(images)}, rows, columns). Received: shape {saliency.shape}"
        )
    if not np.isfinite(saliency).all() or saliency.min() < 0 or saliency.max() > 1:
        raise VerificationError(
            f"explain: expected maps of finite values in [0, 1]. Received: {saliency.min():.6g} to {saliency.max():.6g}"
        )


def _check_describe(described: NDArray[Any], contract: ModelContract) -> None:
    if described.shape != (2,):
        raise VerificationError(f"describe: expected one contract a row, shape (2,). Received: shape {described.shape}")
    try:
        received = ModelContract.from_json(described[0])
    except ContractError as err:
        raise VerificationError(f"describe: {err}") from err
    if received.sha256 != contract.sha256:
        raise VerificationError(f"describe: expected the contract {contract.sha256}. Received: {received.sha256}")


def check_warmup_records(engine: Engine, directory: Path) -> None:
    """Run the warm-up records: one that fails would keep the version from being loaded."""
    try:
        run_warmup_records(engine, directory)
    except EngineError as err:
        raise VerificationError(f"expected warm-up records that the model answers. Received: {err}") from err
