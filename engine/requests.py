"""One PredictRequest on one engine: decode, check, run. Served requests and warm-up records take the same way."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from contract.errors import TensorError, TensorSizeError
from contract.tensors import decode_tensor
from engine.engine import Arrays, CheckedCall, Engine
from engine.errors import InputError
from engine.saved_model import DEFAULT_SIGNATURE
from engine.signatures import check_input_names, check_inputs, find_signature, resolve_outputs


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
    call = decode_call(engine, request)
    return engine.execute(call.signature, call.inputs, call.outputs)


def decode_call(engine: Engine, request: Any) -> CheckedCall:
    """Return the call that a PredictRequest makes; names are checked before tensors are decoded.

    Raises:
        EngineError: if the signature does not exist or the request does not fit it, or if a tensor cannot be parsed.
    """
    name = signature_name(request)
    definition = find_signature(engine.signatures, name)
    check_input_names(definition, request.inputs)
    inputs = {alias: _decode(alias, proto) for alias, proto in request.inputs.items()}
    outputs = resolve_outputs(definition, request.output_filter)
    check_inputs(definition, inputs, any_rank=engine.any_rank)
    return CheckedCall(name, inputs, outputs)


def _decode(alias: str, proto: Any) -> NDArray[Any]:
    try:
        return decode_tensor(proto)
    except TensorSizeError as err:
        raise InputError(f"tensor parsing error: {alias}: {err}") from err
    except TensorError as err:
        raise InputError(f"tensor parsing error: {alias}") from err
