"""Errors of pipeline/: every one is a reason that the command line prints before it exits with status 1."""

from __future__ import annotations

from collections.abc import Sequence


def describe_os_error(err: OSError) -> str:
    """Return what the operating system refused: the file, both for a move, and the reason."""
    files = " to ".join(str(name) for name in (err.filename, err.filename2) if name is not None)
    reason = err.strerror or str(err) or type(err).__name__
    return f"{files}: {reason}" if files else reason


def list_names(names: Sequence[str], most: int = 20) -> str:
    """Return names for a message, cut with a count."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class PipelineError(Exception):
    """A run cannot go on; the message has the fault, the expected and the received value.

    Args:
        message: one line.
        details: lines that stand before it, such as names of files.
    """

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__("\n".join([*details, message]))
        self.message = message
        self.details = tuple(details)


class DatasetError(PipelineError):
    """The images do not fit the training of a classifier."""


class LayoutError(DatasetError):
    """The folders of a set do not say which classes it has."""


class UnknownSplitError(LayoutError):
    """The recipe names a split folder that the set does not have."""


class LostImageError(DatasetError):
    """An image that was read before cannot be read any more, such as on a share that went away."""


class WorkerError(PipelineError):
    """A process that a command has started ended before its work was done."""


class RecipeError(PipelineError):
    """The recipe names an unknown key or holds a value out of range."""


class WeightsError(PipelineError):
    """Pretrained weights cannot be reached, or do not match their checksum or network."""


class QuantizationError(PipelineError):
    """A network has no int8 model: NNCF is missing or cannot quantise it."""


class TrainingError(PipelineError):
    """Training broke down, such as by a loss that is not finite."""


class DiskError(TrainingError):
    """A file of a run cannot be written, such as on a full disk."""


class ResumeError(PipelineError):
    """A stopped run cannot be gone on with, because there is none or something has changed since."""


class BucketError(PipelineError):
    """A model store in object storage cannot be read or written, or changed on both sides."""


class VerificationError(PipelineError):
    """The exported model computes other values than the trained one; nothing was published."""


class CacheError(PipelineError):
    """Features cannot be written; those already stored stay."""


class ImportedModelError(PipelineError):
    """A foreign SavedModel cannot be given Fovea's signatures."""
