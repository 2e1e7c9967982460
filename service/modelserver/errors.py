"""Errors of the model server: those that a call is answered with, and those that end the process."""

from engine.errors import EngineError


class RequestError(EngineError):
    """A call cannot be answered, or a configuration not be followed."""

    code = "INVALID_ARGUMENT"


class ConfigSyntaxError(RequestError):
    """A configuration is not the text of a ModelServerConfig."""


class BindError(Exception):
    """An address is taken, or cannot be listened on."""
