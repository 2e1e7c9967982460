"""An evaluated classifier to a version in the model store: export, warm-up records, verification, gate, one rename."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import LiveChangedError
from contract.model import ModelContract
from contract.store import REPORT_FILE, VERIFICATION_FILE, WARMUP_FILE
from engine.kept import build_synthetic_images, hash_network_files
from engine.network_file import has_network_file
from engine.precision_names import INT8
from engine.warmup import build_warmup_request, write_warmup_records
from pipeline.data.pixels import Pixels
from pipeline.interrupt import remember_published
from pipeline.networks.network import Classifier
from pipeline.networks.saved_model import ExportedFunctions
from pipeline.publishing.export import export_saved_model
from pipeline.publishing.gate import Contender, Gatekeeper, GateOutcome
from pipeline.publishing.precisions.int8 import int8_document, remove_int8
from pipeline.publishing.precisions.judge import PrecisionJudge
from pipeline.publishing.verify import Verification, verify

_ATTEMPTS = 9  # each fails only where another process published in between


@dataclass(frozen=True)
class Published:
    """A published version.

    Attributes:
        version: the new version's number.
        verification: what it passed.
        gate: whether it became live, and why.
    """

    version: int
    verification: Verification
    gate: GateOutcome


@dataclass(frozen=True)
class Artifact:
    """A network to publish, with its contract and report.

    Attributes:
        name: the model's.
        classifier: trained.
        contract: of the version.
        report: the HTML file that leaves with it.
        functions: the signatures that compute, where they are there already, as `export_saved_model` takes them.
    """

    name: str
    classifier: Classifier
    contract: ModelContract
    report: Path
    functions: ExportedFunctions | None = None

    def export(self, directory: Path) -> None:
        """Write the SavedModel and its contract, and free the signatures."""
        export_saved_model(self.classifier, self.contract, directory, self.functions)


@dataclass(frozen=True)
class TestImages:
    """Test images to verify an export with, and the Keras model's probabilities of them.

    Attributes:
        pixels: decodes the images.
        paths: which ones.
        probabilities: calibrated, float32, shape (images, classes).
    """

    pixels: Pixels
    paths: Sequence[str]
    probabilities: NDArray[np.float32]


def publish(
    artifact: Artifact,
    expected: TestImages,
    precisions: PrecisionJudge,
    contender: Contender,
    gatekeeper: Gatekeeper,
) -> Published:
    """Export, verify, judge and publish; the store is untouched unless all of it succeeds.

    Args:
        artifact: the classifier.
        expected: its test images with their probabilities.
        precisions: judges what it may be served at beside float32, and has the images that an int8 model is made by.
        contender: its data for the gate.
        gatekeeper: decides whether the version becomes live; has the store.

    Raises:
        VerificationError: if the export computes other values than the classifier.
        StoreError: if the store cannot be written.
    """
    contract = artifact.contract
    with gatekeeper.store.staging() as directory:
        artifact.export(directory)
        write_warmup_records(directory / WARMUP_FILE, build_warmup_requests(contract))
        precisions.make_int8(directory)
        verification = verify(directory, contract, expected.pixels, expected.paths, expected.probabilities, precisions)
        if not verification.allows(INT8):
            remove_int8(directory)
        shutil.copyfile(artifact.report, directory / REPORT_FILE)
        version, outcome = publish_judged(directory, artifact.name, verification, gatekeeper, contender)
        gatekeeper.remember(artifact.name, version, contender, verification.served)
        return Published(version, verification, outcome)


def publish_judged(
    directory: Path,
    name: str,
    verification: Verification,
    gatekeeper: Gatekeeper,
    contender: Contender | None,
    *,
    copy_of: int | None = None,
) -> tuple[int, GateOutcome]:
    """Ask the gate, write verification.json and publish; ask again when another version became live meanwhile.

    Args:
        directory: a folder that the store's `staging` gave, complete but for verification.json.
        name: the model.
        verification: that passed.
        gatekeeper: decides, and has the store.
        contender: None for a version of which no training and test images are known.
        copy_of: the version whose SavedModel this one has; None if it is a new one.

    Returns:
        The version's number and the gate's outcome.
    """
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(LiveChangedError):
            return _publish_once(directory, name, verification, gatekeeper, contender, copy_of)
    return _publish_once(directory, name, verification, gatekeeper, contender, copy_of)


def _publish_once(
    directory: Path,
    name: str,
    verification: Verification,
    gatekeeper: Gatekeeper,
    contender: Contender | None,
    copy_of: int | None,
) -> tuple[int, GateOutcome]:
    entry, outcome = gatekeeper.judge(name, contender, copy_of=copy_of)
    int8 = int8_document(directory, verification.floating_point)
    origin = {} if copy_of is None else {"copy_of": copy_of}
    network = {"network": {"sha256": hash_network_files(directory)}} if has_network_file(directory) else {}
    document = {**verification.document(), **network, **int8, **origin, "gate": outcome.document()}
    (directory / VERIFICATION_FILE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    version = gatekeeper.store.publish(
        name,
        directory,
        live=outcome.becomes_live,
        judged_against=entry,
        told=lambda number: remember_published(f"{name}/{number}"),
    )
    return version, outcome


def build_warmup_requests(contract: ModelContract) -> list[Any]:
    """Return one request with a synthetic image for each signature that computes."""
    images = build_synthetic_images(contract.input)[:1]
    requests = [build_warmup_request("serving_default", {"images": images})]
    if contract.saliency is not None:
        inputs: dict[str, NDArray[Any]] = {"images": images, "class_index": np.array([-1], np.int32)}
        requests.append(build_warmup_request("explain", inputs))
    return requests
