"""What every engine offers: named signatures over numpy arrays, with inputs checked before anything runs."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray

from engine.saved_model import Signatures
from engine.signatures import check_input_names, check_inputs, find_signature, resolve_outputs

Arrays = dict[str, NDArray[Any]]


class Engine(abc.ABC):
    """A loaded model; `run` may be called from several threads at once.

    Args:
        signatures: by name, as `engine.saved_model.read_signatures` gives them.

    Attributes:
        name: the runtime, such as "tensorflow".
        precision: of the arithmetic inside, such as "float32".
        signatures: what the model can be asked.
        any_rank: whether the runtime feeds inputs of another rank than the signature's, and its graph decides.
    """

    name: ClassVar[str]
    any_rank: ClassVar[bool] = False
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
        definition = find_signature(self.signatures, signature)
        check_input_names(definition, inputs)
        names = resolve_outputs(definition, outputs or ())
        check_inputs(definition, inputs, any_rank=self.any_rank)
        return self._execute(signature, inputs, names)

    @abc.abstractmethod
    def _execute(self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        """Run a signature whose inputs and outputs are known to fit."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release what the model holds; nothing runs on it any more."""
