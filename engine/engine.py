"""Base classes: an engine is a loaded model, a runtime loads engines."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from engine.precision_names import AUTO, FLOAT32
from engine.saved_model import GRAPH_FILE, Signatures
from engine.signatures import check_input_names, check_inputs, find_signature, resolve_outputs

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class CheckedCall:
    """A call that fits its signature.

    Attributes:
        signature: its name.
        inputs: every input by name.
        outputs: the names that are wanted; never empty.
    """

    signature: str
    inputs: Mapping[str, NDArray[Any]]
    outputs: Sequence[str]


class Engine(abc.ABC):
    """A loaded model; `run` may be called from several threads at once.

    Args:
        signatures: by name, as `engine.saved_model.read_signatures` gives them.

    Attributes:
        name: the runtime, such as "tensorflow".
        precision: of the arithmetic inside, such as "float32".
        signatures: of the model, by name.
        any_rank: whether the runtime feeds inputs of another rank than the signature's, and its graph decides.
        has_streams: whether the runtime heeds `LoadSettings.num_streams` and `LoadSettings.single_row`.
    """

    name: ClassVar[str]
    any_rank: ClassVar[bool] = False
    has_streams: ClassVar[bool] = False
    precision: str = "float32"

    def __init__(self, signatures: Signatures) -> None:
        self.signatures = signatures

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> Arrays:
        """Run one signature.

        Args:
            signature: its name.
            inputs: every input by name, dtype and shape as the signature says.
            outputs: names of the outputs that are wanted; None or empty means all.

        Returns:
            The outputs by name; string tensors are object arrays of bytes.

        Raises:
            SignatureError: if there is no such signature.
            InputError: if a name, dtype or shape does not fit it.
            RunError: if the runtime fails.
        """
        checked = self.check(signature, inputs, outputs or ())
        return self.execute(signature, inputs, checked.outputs)

    def check(self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> CheckedCall:
        """Check a call without running it.

        Raises:
            SignatureError: if there is no such signature.
            InputError: if a name, dtype or shape does not fit it.
        """
        definition = find_signature(self.signatures, signature)
        check_input_names(definition, inputs)
        wanted = resolve_outputs(definition, outputs)
        check_inputs(definition, inputs, any_rank=self.any_rank)
        return CheckedCall(signature, inputs, wanted)

    @abc.abstractmethod
    def execute(self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        """Run a call that is checked, or a batch of such calls.

        Raises:
            RunError: if the runtime fails.
        """

    def precision_of(self, signature: str) -> str:
        """Return the precision at which a signature is computed, where it is another than the model's."""
        return self.precision

    def trim(self) -> None:  # noqa: B027 - most runtimes have nothing to give back
        """Give memory that loading and warming up took back to the machine; runs go on meanwhile."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release the model's memory; it must not run afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """Settings with which a runtime loads a model.

    Attributes:
        precision: "auto" or one that `Runtime.precisions` lists.
        num_threads: threads of the model; 0 means one for each core.
        num_streams: runs at a time, each on its share of the threads; 0 leaves it to the runtime.
        single_row: whether the model is asked for one row of `serving_default` at a time, and for nothing else.
        prepare: whether every signature but those of `ON_DEMAND` is compiled now; otherwise `serving_default` is,
            others at their first run.
    """

    precision: str = AUTO
    num_threads: int = 0
    num_streams: int = 0
    single_row: bool = False
    prepare: bool = False


class Runtime(abc.ABC):
    """A library that runs models; its package is imported at the first use, not with the class.

    Attributes:
        name: of its distribution, which is also its name in settings, verification.json and metrics.
        title: its name in sentences.
        is_reference: whether other runtimes are compared with it before a version is published.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    is_reference: ClassVar[bool] = False

    def reads(self, directory: Path) -> bool:
        """Return whether a folder holds a model in this runtime's format, without parsing it."""
        return (directory / GRAPH_FILE).exists()

    def precisions(self, directory: Path | None = None) -> tuple[str, ...]:
        """Return the precisions that this machine computes at: float32, then those that may be faster.

        Args:
            directory: a version's folder, for precisions that need a file of it.

        Raises:
            UnreadableError: if the runtime is not installed.
        """
        return (FLOAT32,)

    @abc.abstractmethod
    def import_package(self) -> Any:
        """Return the runtime's module; the first import may take seconds.

        Raises:
            UnreadableError: if the runtime is not installed.
        """

    @abc.abstractmethod
    def load(self, directory: Path, settings: LoadSettings) -> Engine:
        """Load a model.

        Raises:
            ModelLoadError: if the model is missing or corrupt, or the machine does not have the precision.
            UnreadableError: if this runtime cannot read the model.
        """
