"""An engine on plain numpy that can be held, and that remembers what it ran: for tests of what surrounds engines."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.tensors import meta_graph_pb2, types_pb2
from engine.engine import Arrays, Engine
from engine.errors import RunError

POISON = -1  # a number that makes the whole batch fail


def build_signature(inputs: Mapping[str, Sequence[int]], outputs: Mapping[str, Sequence[int]]) -> Any:
    """Return a SignatureDef of int64 tensors by name and shape; -1 is a free dimension."""
    signature = meta_graph_pb2.SignatureDef()
    for infos, shapes in ((signature.inputs, inputs), (signature.outputs, outputs)):
        for name, shape in shapes.items():
            infos[name].name = f"{name}:0"
            infos[name].dtype = types_pb2.DT_INT64
            infos[name].tensor_shape.SetInParent()
            for size in shape:
                infos[name].tensor_shape.dim.add().size = size
    return signature


SIGNATURES = {
    "echo": build_signature({"numbers": (-1, -1)}, {"doubled": (-1, -1), "sums": (-1,)}),
    "whole": build_signature({"numbers": (-1, -1)}, {"doubled": (-1, -1), "total": ()}),
    "liar": build_signature({"numbers": (-1, -1)}, {"sums": (-1,)}),  # one row whatever it is asked
}


class EchoEngine(Engine):
    """Doubles and sums rows of numbers.

    Attributes:
        gate: while it is clear, runs that have begun do not end.
        begun: counts runs.
        batches: (signature, rows) of every run, in order.
    """

    name = "echo"

    def __init__(self) -> None:
        super().__init__(SIGNATURES)
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)
        self.batches: list[tuple[str, list[int]]] = []
        self.is_closed = False

    def execute(self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        """Run once the gate is open."""
        numbers = inputs["numbers"]
        self.batches.append((signature, [int(row[0]) for row in numbers]))
        self.begun.release()
        if not self.gate.wait(60):
            raise TimeoutError("the gate stayed shut")
        if self.is_closed:
            raise AssertionError("run after close")
        if (numbers == POISON).any():
            raise RunError("poisoned", code="INVALID_ARGUMENT")
        results = {"doubled": numbers * 2, "sums": numbers.sum(axis=1), "total": np.asarray(numbers.sum())}
        if signature == "liar":
            results["sums"] = results["sums"][:1]
        return {name: results[name] for name in outputs}

    def close(self) -> None:
        """Remember that it was closed."""
        self.is_closed = True

    def wait_for_runs(self, count: int) -> None:
        """Wait until so many more runs have begun.

        Raises:
            TimeoutError: if they do not.
        """
        for _ in range(count):
            if not self.begun.acquire(timeout=60):
                raise TimeoutError("the engine was not run")
