"""One PredictRequest on one engine: decode, check, run. Served requests and warm-up records take the same way."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from contract.errors import TensorError, TensorSizeError
from contract.tensors import decode_tensor
from engine.engine import Arrays, Engine
from engine.errors import InputError
from engine.saved_model import DEFAULT_SIGNATURE
from engine.signatures import check_input_names, find_signature


def signature_name(request: Any) -> str:
    """Return the name of the signature that a PredictRequest asks for."""
    return str(request.model_spec.signature_name) or DEFAULT_SIGNATURE


def run_request(engine: Engine, request: Any) -> Arrays:
    """Return the outputs that a PredictRequest asks for, by name.

    Args:
        engine: the model; `request.model_spec` names only the signature here, the caller has found the model.
        request: a PredictRequest message.

    Raises:
        EngineError: as `Engine.run`, and if a tensor cannot be parsed.
    """
    return engine.run(signature_name(request), decode_inputs(engine, request), list(request.output_filter))


def decode_inputs(engine: Engine, request: Any) -> dict[str, NDArray[Any]]:
    """Return the inputs of a PredictRequest by name.

    Raises:
        EngineError: if the signature does not exist or has other inputs, or if a tensor cannot be parsed.
    """
    check_input_names(find_signature(engine.signatures, signature_name(request)), request.inputs)
    inputs = {}
    for alias, proto in request.inputs.items():
        try:
            inputs[alias] = decode_tensor(proto)
        except TensorSizeError as err:
            raise InputError(f"tensor parsing error: {alias}: {err}") from err
        except TensorError as err:
            raise InputError(f"tensor parsing error: {alias}") from err
    return inputs
