"""OpenVINO's CPU runtime: reads a SavedModel as it is, without TensorFlow, or a network of its own.

`describe` needs no runtime: it is the contract, which lies beside the graph. `openvino_graph.py` reads the others.
"""

from __future__ import annotations

import functools
import importlib
import logging
import platform
import sys
import threading
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.files.regular import read_regular
from contract.store import CONTRACT_FILE, INT8_FILE
from contract.tensors import types_pb2
from engine.engine import Arrays, Engine, LoadSettings, Runtime
from engine.errors import ModelLoadError, RunError, UnreadableError
from engine.kept import check_int8_files, check_network_files
from engine.memory import return_freed_memory
from engine.network_file import has_network_file, network_path, read_version_signatures
from engine.precision import choose_precision
from engine.precision_names import AUTO, FLOAT32, INT8
from engine.processor import processor_flags
from engine.runtimes.openvino_graph import Graph, identify_file, read_graph
from engine.saved_model import DEFAULT_SIGNATURE, ON_DEMAND, SignatureDef, Signatures
from engine.signatures import data_type_of, is_batched

logger = logging.getLogger(__name__)

_TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", INT8: "f32"}  # of what is not int8
# The CPU plugin's names of precisions that may be faster than float32, the fastest first.
_CAPABILITIES = {"BF16": "bfloat16", "FP16": "float16"}
_TOOLS = "openvino.tools.ovc"
_NO_REASON = ("Exception from ", "Check '", "To facilitate ")


class PrecisionError(ModelLoadError):
    """OpenVINO computes at another precision than it was asked for."""

    code = "FAILED_PRECONDITION"


class OpenVINOEngine(Engine):
    """A version on OpenVINO; a signature is compiled at its first run, or by `prepare`.

    Args:
        directory: the version's folder; must stay as it is as long as a signature may still be compiled.
        signatures: of the version.
        precision: of the arithmetic, such as "float32"; at int8 `serving_default` is the version's int8 model, other
            signatures are float32.
        num_threads: of all streams together; 0 means one for each core.
        num_streams: runs that are computed at a time, each on its share of the threads; more of them wait in line.
        single_row: whether what can be batched is compiled for batches of one, and more rows are run one by one: that
            spares the runtime its work on shapes at each run, 1 to 2 ms of ResNet50's 20.
    """

    name = "openvino"
    has_streams = True

    def __init__(
        self,
        directory: Path,
        signatures: Signatures,
        *,
        precision: str,
        num_threads: int = 0,
        num_streams: int = 1,
        single_row: bool = False,
    ) -> None:
        super().__init__(signatures)
        self.precision = precision
        self._directory = directory
        self._file = identify_file(directory)
        self._single_row = single_row
        self._settings = _compile_settings(precision, num_threads, num_streams)
        self._contract = _read_contract(directory, signatures)
        self._compiled: dict[str, _Compiled] = {}
        self._compiling = threading.Lock()

    def prepare(self, signatures: Sequence[str] | None = None) -> None:
        """Compile signatures, all but those on demand unless some are named, ahead of their first run.

        Raises:
            ModelLoadError: if its files are gone.
            UnreadableError: if OpenVINO cannot read or compile one.
        """
        for signature in self.signatures.keys() - ON_DEMAND if signatures is None else signatures:
            if not self._is_described(signature):
                self._signature(signature)

    def trim(self) -> None:
        """Give back what compiling and the runs so far took and the next run can do without."""
        for compiled in tuple(self._compiled.values()):
            compiled.trim()
        return_freed_memory()

    def precision_of(self, signature: str) -> str:
        """Return the model's precision; float32 for signatures that the int8 model lacks, but for `describe`."""
        is_other = signature not in (DEFAULT_SIGNATURE, "describe")
        return FLOAT32 if is_other and self.precision == INT8 else self.precision

    def execute(self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        """Run a signature, which is compiled at its first run."""
        if self._is_described(signature):
            (rows,) = inputs.values()
            return {alias: np.full(len(rows), self._contract, np.object_) for alias in outputs}
        try:
            if self._single_row and is_batched(self.signatures[signature]):
                return self._run_row_by_row(signature, inputs, outputs)
            return self._signature(signature).run(inputs, outputs)
        except ModelLoadError as err:
            raise RunError(f"{signature}: {err}", code=err.code) from err
        except RuntimeError as err:
            raise RunError(f"OpenVINO: {openvino_reason(err)}") from err

    def _run_row_by_row(self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        (num_rows,) = {len(array) for array in inputs.values()}
        if num_rows <= 1:
            return self._signature(signature).run(inputs, outputs)
        rows = [
            self._signature(signature).run({alias: array[row : row + 1] for alias, array in inputs.items()}, outputs)
            for row in range(num_rows)
        ]
        return {alias: np.concatenate([row[alias] for row in rows]) for alias in outputs}

    def close(self) -> None:
        """Free the compiled signatures."""
        self._compiled.clear()
        return_freed_memory()

    def _is_described(self, signature: str) -> bool:
        return signature == "describe" and self._contract is not None

    def _signature(self, signature: str) -> _Compiled:
        compiled = self._compiled.get(signature)
        if compiled is None:
            with self._compiling:
                compiled = self._compiled.get(signature)
                if compiled is None:
                    compiled = self._compiled[signature] = self._compile(signature)
        return compiled

    def _compile(self, signature: str) -> _Compiled:
        if identify_file(self._directory) not in (self._file, None):
            raise ModelLoadError(
                f"{network_path(self._directory).name} was replaced after the version was loaded; publish a new "
                "version instead",
                code="FAILED_PRECONDITION",
            )
        try:
            graph = self._read_graph(signature)
            model = graph.model
            if self._single_row and is_batched(self.signatures[signature]):
                model = model.clone()
                model.reshape({port: _one_row(port.get_partial_shape()) for port in model.inputs})
            compiled = _core().compile_model(model, "CPU", self._settings)
        except RuntimeError as err:
            raise UnreadableError(f"OpenVINO cannot read {signature}: {openvino_reason(err)}") from err
        _check_ports(signature, self.signatures[signature], compiled)
        _check_precision(compiled, self.precision)
        return_freed_memory()
        return _Compiled(compiled, graph)

    def _read_graph(self, signature: str) -> Graph:
        if signature == DEFAULT_SIGNATURE and self.precision == INT8:
            path = self._directory / INT8_FILE
            return Graph(_core().read_model(path), path.with_suffix(".bin"))
        return read_graph(import_openvino(), _core(), self._directory, signature)


class _Compiled:
    """A compiled signature, with as many requests as have ever run on it at the same time."""

    def __init__(self, compiled: Any, graph: Graph) -> None:
        self._compiled = compiled
        self._graph = graph  # as long as this stays, another engine of the same model shares its weights
        self._tensor = import_openvino().Tensor
        self._idle: deque[Any] = deque()  # append and pop are atomic
        self._has_run = False

    def trim(self) -> None:
        self._compiled.release_memory()
        self._graph.drop_pages()

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        # OpenVINO shares memory with arrays that are contiguous and writable; others, such as views of a message's
        # bytes, are copied: 10 microseconds an image.
        arrays = {alias: np.require(array, requirements=("C", "W")) for alias, array in inputs.items()}
        try:
            for alias, array in arrays.items():
                request.set_tensor(alias, self._tensor(array, shared_memory=True))
            request.infer()
            return {alias: request.get_tensor(alias).data.copy() for alias in outputs}
        finally:
            self._idle.append(request)
            if not self._has_run:  # the first run reads the weights once more, to arrange them
                self._has_run = True
                self._graph.drop_pages()


@functools.cache
def import_openvino() -> Any:
    """Return the module `openvino`, without its conversion tools.

    Those would be imported with it, and they bring a package that reports usage to a server (openvino-telemetry);
    nothing here converts anything.

    Raises:
        UnreadableError: if it is not installed.
    """
    blocked = _TOOLS not in sys.modules and "openvino" not in sys.modules
    if blocked:
        sys.modules[_TOOLS] = None  # type: ignore[assignment]  # the import system's own sign for "there is none"
    try:
        return importlib.import_module("openvino")
    except ImportError as err:
        raise UnreadableError(f"OpenVINO is not installed: {err}") from err
    finally:
        if blocked:
            del sys.modules[_TOOLS]


@functools.cache
def _core() -> Any:
    return import_openvino().Core()


def faster_precisions() -> tuple[str, ...]:
    """Return what this machine computes faster than float32, the fastest first."""
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return select_faster(capabilities, machine=platform.machine(), flags=processor_flags())


def select_faster(capabilities: Collection[str], *, machine: str, flags: Collection[str]) -> tuple[str, ...]:
    """Return which of the plugin's capabilities are faster than float32, the fastest first.

    On x86 the plugin also offers float16 where there are vector units for it alone (AVX512-FP16): ResNet50 then takes
    1.6 times as long as at float32 (docs/decisions/0012-models-run-on-openvino.md). It pays with matrix units for it.

    Args:
        capabilities: in OpenVINO's words, such as "BF16".
        machine: as `platform.machine` names it.
        flags: of the processor, as `processor_flags` gives them.
    """
    has_fast_half = machine not in ("x86_64", "AMD64") or "amx_fp16" in flags
    return tuple(
        precision
        for name, precision in _CAPABILITIES.items()
        if name in capabilities and (precision != "float16" or has_fast_half)
    )


class OpenVINORuntime(Runtime):
    """OpenVINO on the CPU."""

    name = OpenVINOEngine.name
    title = "OpenVINO"

    def import_package(self) -> Any:
        """Return the module `openvino`, without its conversion tools."""
        return import_openvino()

    def reads(self, directory: Path) -> bool:
        """Return whether a folder holds a SavedModel or a network of OpenVINO's own."""
        return super().reads(directory) or has_network_file(directory)

    def precisions(self, directory: Path | None = None) -> tuple[str, ...]:
        """Return float32, what this machine computes faster, and int8 if the version's folder has such a model."""
        has_int8 = directory is not None and (directory / INT8_FILE).exists()
        return (FLOAT32, *faster_precisions(), *((INT8,) if has_int8 else ()))

    def load(self, directory: Path, settings: LoadSettings) -> OpenVINOEngine:
        """Load a version; no number of streams means 1, which gives each run all threads."""
        signatures = read_version_signatures(directory)
        if has_network_file(directory):
            check_network_files(directory)
        default = {name: signature for name, signature in signatures.items() if name == DEFAULT_SIGNATURE}
        offered = self.precisions(directory)[1:]
        chosen = choose_precision(directory, settings.precision, engine=self.name, offered=offered)
        if chosen == INT8:
            check_int8_files(directory)
        wanted = None if settings.prepare else list(default)
        build = functools.partial(
            OpenVINOEngine,
            directory,
            default if settings.single_row else signatures,
            num_threads=settings.num_threads,
            num_streams=settings.num_streams or 1,
            single_row=settings.single_row,
        )
        engine = build(precision=chosen)
        try:
            engine.prepare(wanted)
        except PrecisionError as err:
            if settings.precision != AUTO:
                raise
            logger.warning("%s: %s; it runs at %s", directory, err, FLOAT32)
            engine = build(precision=FLOAT32)
            engine.prepare(wanted)
        return engine


RUNTIME = OpenVINORuntime()


def _one_row(shape: Any) -> Any:
    """Return a shape with 1 as its first dimension, the others as they are."""
    return import_openvino().PartialShape([1, *list(shape)[1:]])


def _compile_settings(precision: str, num_threads: int, num_streams: int) -> dict[str, Any]:
    settings: dict[str, Any] = {
        # Said also where it is float32: on CPUs that have bfloat16 the plugin would take that by itself.
        "INFERENCE_PRECISION_HINT": _TYPES[precision],
        "NUM_STREAMS": num_streams,
        # Two models, or a model and the threads that decode images, would be pinned to the same cores.
        "ENABLE_CPU_PINNING": False,
    }
    if num_threads:
        settings["INFERENCE_NUM_THREADS"] = num_threads
    return settings


def _read_contract(directory: Path, signatures: Signatures) -> bytes | None:
    """Return what `describe` answers, if it is the signature that returns the contract; None otherwise."""
    describe = signatures.get("describe")
    if describe is None or (set(describe.inputs), set(describe.outputs)) != ({"row"}, {"contract"}):
        return None
    try:
        return read_regular(directory / CONTRACT_FILE)
    except OSError:
        return None


def _check_ports(signature: str, definition: SignatureDef, compiled: Any) -> None:
    """Check that a compiled model's inputs and outputs fit its signature.

    Raises:
        UnreadableError: if a tensor is missing or of another type; texts are none of OpenVINO's.
    """
    for infos, ports in ((definition.inputs, compiled.inputs), (definition.outputs, compiled.outputs)):
        found = {name: data_type_of(port.get_element_type().to_dtype()) for port in ports for name in port.get_names()}
        wanted = {alias: info.dtype for alias, info in infos.items()}
        if wrong := {
            alias for alias, dtype in wanted.items() if found.get(alias) != dtype or dtype == types_pb2.DT_STRING
        }:
            raise UnreadableError(f"OpenVINO cannot read {signature}: it finds {', '.join(sorted(wrong))} otherwise")


def _check_precision(compiled: Any, precision: str) -> None:
    """Check the precision: the plugin silently takes another one where it lacks the wanted one.

    Raises:
        PrecisionError: if it is another one.
    """
    actual = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if actual != _TYPES[precision]:
        raise PrecisionError(f"precision: expected {_TYPES[precision]}. Received from OpenVINO: {actual}")


def openvino_reason(err: Exception) -> str:
    """Return what an error of OpenVINO says, without the places in its source and the addresses of its manual."""
    lines = [line.strip(" -") for line in str(err).splitlines()]
    said = [line for line in lines if line and not line.startswith(_NO_REASON) and not line.endswith(":")]
    return said[-1] if said else type(err).__name__
