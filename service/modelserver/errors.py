"""Errors of the model server.

EngineError
└── RequestError        a call is answered with a status; `code` says which
    └── ConfigError         the models' configuration cannot be used
BindError           an address cannot be listened on
"""

from engine.errors import EngineError


class RequestError(EngineError):
    """A call cannot be answered."""

    code = "INVALID_ARGUMENT"


class ConfigError(RequestError):
    """The models' configuration is not a ModelServerConfig, or asks for something impossible."""


class BindError(Exception):
    """An address is taken, or cannot be listened on."""
