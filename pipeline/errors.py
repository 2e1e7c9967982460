"""Errors of pipeline/: every one is a reason that the command line prints before it exits with status 1."""


class PipelineError(Exception):
    """A run cannot go on; the message has the fault, the expected and the received value."""


class DatasetError(PipelineError):
    """The images do not fit the training of a classifier."""


class LayoutError(DatasetError):
    """The folders of a set do not say which classes it has."""


class UnknownSplitError(LayoutError):
    """The recipe names a split folder that the set does not have."""


class LostImageError(DatasetError):
    """An image that was read before cannot be read any more, such as on a share that went away."""


class RecipeError(PipelineError):
    """The recipe names an unknown key or holds a value out of range."""


class WeightsError(PipelineError):
    """Pretrained weights cannot be reached, or do not match their checksum or network."""


class TrainingError(PipelineError):
    """Training broke down, such as by a loss that is not finite."""


class DiskError(TrainingError):
    """What a run keeps cannot be written, such as on a full disk."""


class ResumeError(PipelineError):
    """A stopped run cannot be gone on with, because there is none or something has changed since."""


class VerificationError(PipelineError):
    """The exported model computes other values than the trained one; nothing was published."""


class CacheError(PipelineError):
    """Features cannot be written; those already stored stay."""


class ImportedModelError(PipelineError):
    """A foreign SavedModel cannot be given Fovea's signatures."""
