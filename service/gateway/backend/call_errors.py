"""Maps a failed call of the model server to the client's error."""

from __future__ import annotations

from typing import Final

import grpc

from service.gateway.context.errors import (
    BrokenContractError,
    DeadlineError,
    GatewayError,
    NotLoadedError,
    OverloadedError,
    UnreachableError,
)

_QUEUE_FULL: Final = "scheduling queue to which this task was submitted is full"  # TensorFlow Serving, UNAVAILABLE

# What each status of the model server means to a client. NOT_FOUND is "not loaded": the gateway has already looked the
# model up, so the version is still loading, was just unloaded, or was never there; the caller knows which.
_ERRORS: Final[dict[grpc.StatusCode, tuple[type[GatewayError], str]]] = {
    grpc.StatusCode.CANCELLED: (UnreachableError, "the model server dropped the request"),
    grpc.StatusCode.UNKNOWN: (BrokenContractError, "the model server failed"),
    grpc.StatusCode.INVALID_ARGUMENT: (BrokenContractError, "the model server refused what its contract asks for"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (DeadlineError, "the model server did not answer in time"),
    grpc.StatusCode.NOT_FOUND: (NotLoadedError, "the version is not loaded on the model server"),
    grpc.StatusCode.ALREADY_EXISTS: (BrokenContractError, "the model server failed"),
    grpc.StatusCode.PERMISSION_DENIED: (BrokenContractError, "the model server does not let this gateway in"),
    grpc.StatusCode.UNAUTHENTICATED: (BrokenContractError, "the model server does not let this gateway in"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (OverloadedError, "the model server has too much to do"),
    grpc.StatusCode.FAILED_PRECONDITION: (BrokenContractError, "the model lacks a signature that it must have"),
    grpc.StatusCode.ABORTED: (UnreachableError, "the model server gave the request up"),
    grpc.StatusCode.OUT_OF_RANGE: (BrokenContractError, "the model server refused what its contract asks for"),
    grpc.StatusCode.UNIMPLEMENTED: (BrokenContractError, "the model server does not know this call"),
    grpc.StatusCode.INTERNAL: (BrokenContractError, "the model server failed"),
    grpc.StatusCode.UNAVAILABLE: (UnreachableError, "the model server cannot be reached"),
    grpc.StatusCode.DATA_LOSS: (BrokenContractError, "the model server failed"),
    grpc.StatusCode.OK: (BrokenContractError, "the model server broke the call off"),
}


def translate_error(code: grpc.StatusCode, details: str = "") -> GatewayError:
    """Return our error for a gRPC status; the details are the model server's text, which no client sees."""
    if code is grpc.StatusCode.UNAVAILABLE and _QUEUE_FULL in details:
        return OverloadedError("the model server has too much to do")
    kind, message = _ERRORS[code]
    return kind(message)
