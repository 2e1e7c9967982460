"""Reads versions whose network is a file of OpenVINO's own, as imported ONNX models have it, in place of a SavedModel.

`model.xml` and `model.bin` take images as the contract says and give probabilities; there are no other signatures but
`describe`. Only OpenVINO runs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from contract.errors import ContractError
from contract.files.regular import read_regular
from contract.model import ModelContract
from contract.store import CONTRACT_FILE, NETWORK_FILE
from contract.tensors import meta_graph_pb2, types_pb2
from engine.errors import ModelLoadError
from engine.saved_model import DEFAULT_SIGNATURE, GRAPH_FILE, Signatures, read_signatures


def has_network_file(directory: Path) -> bool:
    """Return whether a version's network is OpenVINO's own file; a SavedModel goes first."""
    return (directory / NETWORK_FILE).exists() and not (directory / GRAPH_FILE).exists()


def network_path(directory: Path) -> Path:
    """Return the file that a version's network is in, whether it exists or not."""
    return directory / (NETWORK_FILE if has_network_file(directory) else GRAPH_FILE)


def network_files(directory: Path) -> list[Path]:
    """Return the files that hold a version's network and its weights, whichever format it has."""
    path = network_path(directory)
    if path.name == NETWORK_FILE:
        return [path, path.with_suffix(".bin")]
    return [path, *sorted((directory / "variables").glob("*"))]


def network_source(directory: Path) -> Path:
    """Return the path by which OpenVINO reads a version's `serving_default`: the network's file or the SavedModel."""
    return directory / NETWORK_FILE if has_network_file(directory) else directory


def read_version_signatures(directory: Path) -> Signatures:
    """Return the signatures of a version, by name, whichever file its network is in.

    Raises:
        ModelLoadError: if there is neither, or it is corrupt.
    """
    if not has_network_file(directory):
        return read_signatures(directory)
    try:
        contract = ModelContract.from_json(read_regular(directory / CONTRACT_FILE))
    except (OSError, ContractError) as err:
        raise ModelLoadError(f"{NETWORK_FILE} needs a contract: {err}", code="DATA_LOSS") from err
    return MappingProxyType(_signatures(contract))


def _signatures(contract: ModelContract) -> dict[str, Any]:
    predict, describe = meta_graph_pb2.SignatureDef(), meta_graph_pb2.SignatureDef()
    _fill(predict.inputs["images"], "images", types_pb2.DT_UINT8, (-1, *contract.input.shape))
    _fill(predict.outputs["probabilities"], "probabilities", types_pb2.DT_FLOAT, (-1, len(contract.labels)))
    _fill(describe.inputs["row"], "row", types_pb2.DT_INT32, (-1,))
    _fill(describe.outputs["contract"], "contract", types_pb2.DT_STRING, (-1,))
    return {DEFAULT_SIGNATURE: predict, "describe": describe}


def _fill(info: Any, name: str, dtype: int, shape: Sequence[int]) -> None:
    info.name, info.dtype = f"{name}:0", dtype
    for size in shape:
        info.tensor_shape.dim.add().size = size
