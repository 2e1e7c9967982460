"""Errors of the model server.

ModelServerError
├── ConfigError             the models' configuration cannot be used
├── BindError               an address cannot be listened on
└── RequestError            a call is answered with a status; `code` says which
    └── OverloadedError         too many calls wait already
"""


class ModelServerError(Exception):
    """The model server cannot do what is asked of it."""


class ConfigError(ModelServerError):
    """The models' configuration is not a text ModelServerConfig, or asks for something impossible."""


class BindError(ModelServerError):
    """An address is taken, or cannot be listened on."""


class RequestError(ModelServerError):
    """A call cannot be answered.

    Attributes:
        code: name of a `grpc.StatusCode`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class OverloadedError(RequestError):
    """As many calls wait as may."""

    def __init__(self, message: str) -> None:
        super().__init__("RESOURCE_EXHAUSTED", message)
