"""A version of the tiny model whose verification has a verdict on int8, and outputs kept at it.

Its "int8" model computes at float32: only what is said of it matters here, on machines without NNCF too.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np

from contract.model import ModelContract
from contract.store import CONTRACT_FILE, INT8_FILE, VERIFICATION_FILE
from engine.kept import KeptOutputs, build_synthetic_images, hash_int8_files
from engine.loading import load_engine
from engine.runtimes.openvino import import_openvino

BOUND = 0.02


def make_judged(source: Path, directory: Path) -> None:
    """Copy a variant of the tiny model, and let it be served at int8."""
    shutil.copytree(source, directory, dirs_exist_ok=True)
    (directory / INT8_FILE).parent.mkdir()
    model = import_openvino().Core().read_model(directory)
    import_openvino().save_model(model, directory / INT8_FILE, compress_to_fp16=False)
    write_verification(directory)


def write_verification(directory: Path, *, moved_by: float = 0.0, equivalent: bool = True) -> None:
    """Write the verdict on int8, and outputs kept at it that lie `moved_by` from what this machine computes."""
    (directory / VERIFICATION_FILE).unlink(missing_ok=True)
    with contextlib.closing(load_engine(directory, engine="openvino", precision="float32")) as engine:
        spec = ModelContract.from_json((directory / CONTRACT_FILE).read_bytes()).input
        outputs = engine.run("serving_default", {"images": build_synthetic_images(spec)})["probabilities"]
    kept = KeptOutputs("openvino", "int8", BOUND, outputs + np.float32(moved_by))
    document = {
        "equivalences": [{"engine": "openvino", "precision": "int8", "equivalent": equivalent}],
        "int8": {"sha256": hash_int8_files(directory)},
        "synthetic": {"probabilities": outputs.tolist(), "precisions": [kept.document()]},
    }
    (directory / VERIFICATION_FILE).write_text(json.dumps(document))
