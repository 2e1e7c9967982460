"""Errors of pipeline/: every one is a reason that the command line prints before it exits with status 1."""


class PipelineError(Exception):
    """A run cannot go on; the message says what happened, what was expected and what was received."""


class DatasetError(PipelineError):
    """The images are not what a classifier can be trained on."""


class LayoutError(DatasetError):
    """The folders of a set do not say which classes it has."""


class UnknownSplitError(LayoutError):
    """The recipe names a split folder that the set does not have."""


class RecipeError(PipelineError):
    """The recipe names an unknown key or holds a value out of range."""


class WeightsError(PipelineError):
    """Pretrained weights cannot be reached, or are not what they should be."""


class TrainingError(PipelineError):
    """Training broke down, such as by a loss that is not finite."""


class ResumeError(PipelineError):
    """A stopped run cannot be gone on with, because there is none or something has changed since."""


class VerificationError(PipelineError):
    """The exported model does not compute what the trained one does; nothing was published."""


class CacheError(PipelineError):
    """What was to be kept for later runs cannot be written; what is already there stays."""


class ImportedModelError(PipelineError):
    """A foreign SavedModel cannot be given Fovea's signatures."""
