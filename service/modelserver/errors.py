"""Errors of the model server: RequestError, with the status that a call is answered with, and BindError."""

from engine.errors import EngineError


class RequestError(EngineError):
    """A call cannot be answered, or a configuration not be followed."""

    code = "INVALID_ARGUMENT"


class BindError(Exception):
    """An address is taken, or cannot be listened on."""
