"""Errors of engine/: one root, each with the name of the gRPC status that TensorFlow Serving answers in its place.

EngineError
├── ModelLoadError      a SavedModel that cannot be read or made to run
│   └── UnreadableError a model that one runtime cannot read and another may
├── SignatureError      a signature that the model does not have
├── InputError          inputs or outputs that do not fit the signature
├── RunError            the runtime gave up on a run
├── OverloadedError     as many calls wait as may
└── DeadlineError       the answer would come too late
"""


class EngineError(Exception):
    """A model cannot be loaded, or cannot answer.

    Attributes:
        code: name of a canonical status code, such as "INVALID_ARGUMENT"; the members of `grpc.StatusCode` have the
            same names.
    """

    code = "INTERNAL"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class ModelLoadError(EngineError):
    """A SavedModel is missing, corrupt, or does not run."""


class UnreadableError(ModelLoadError):
    """A runtime is not installed or cannot read a model; another runtime may."""

    code = "UNIMPLEMENTED"


class SignatureError(EngineError):
    """The model has no such signature."""

    code = "FAILED_PRECONDITION"


class InputError(EngineError):
    """The inputs, or the outputs that are asked for, do not fit the signature."""

    code = "INVALID_ARGUMENT"


class RunError(EngineError):
    """The runtime could not finish a run; `code` is the runtime's own."""


class OverloadedError(EngineError):
    """As many calls wait for the model as may."""

    code = "RESOURCE_EXHAUSTED"


class DeadlineError(EngineError):
    """A call's deadline passed before it ran."""

    code = "DEADLINE_EXCEEDED"
