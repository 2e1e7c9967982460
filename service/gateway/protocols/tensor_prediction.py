"""Predictions for programs that send tensors: any signature of one version.

The bodies are those of TensorFlow Serving's REST API (`tensorflow_rest.py`) or of the Open Inference Protocol
(`open_inference.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from contract.model import InputSpec
from contract.tensors import types_pb2
from service.gateway.backend.backend import TensorOutputs
from service.gateway.backend.model_server import ModelServer
from service.gateway.bodies.json_bodies import INLINE_BYTES, JsonBodies
from service.gateway.bodies.json_document import B64, Load, echo
from service.gateway.context.errors import (
    BrokenContractError,
    InvalidArgumentError,
    NotLoadedError,
    RefusedImageError,
    TooManyImagesError,
)
from service.gateway.context.request_context import RequestContext
from service.gateway.images.decoding import Decoder
from service.gateway.inference.contract_cache import ContractCache
from service.gateway.inference.fallback_versions import Attempts
from service.gateway.inference.signature import PREDICT
from service.gateway.inference.version_resolution import Catalog, Choice
from service.gateway.protocols.signature_cache import SignatureCache, read_inputs
from service.gateway.protocols.tensor_json import TensorSpec, decode_binary, is_binary
from service.gateway.telemetry.metrics import Metrics

T = TypeVar("T")
DEFAULT_SIGNATURE = PREDICT


class TensorRequest(Protocol):
    """A parsed body, of whichever protocol."""

    @property
    def signature(self) -> str:
        """The signature's name; empty for the default."""

    def split(self, inputs: Mapping[str, TensorSpec], outputs: Collection[str]) -> dict[str, Any]:
        """Return the value of each input of a signature; in a list, bytes or `{"b64": ...}` may stand for an image.

        Raises:
            InvalidArgumentError: if the body does not fit the signature's inputs and outputs.
        """

    def build(self, value: Any, spec: TensorSpec) -> NDArray[Any]:
        """Return the array of one such value, in which images are arrays by now.

        Raises:
            InvalidArgumentError: if the value makes no array of that type and shape.
        """

    @property
    def wants_labels(self) -> bool:
        """True if the reply names classes."""

    def dump(
        self,
        name: str,
        version: int,
        outputs: Mapping[str, NDArray[Any]],
        *,
        labels: Sequence[str],
        request_id: str,
    ) -> TensorReply:
        """Returns the reply.

        Args:
            name: the model.
            version: the version that answered.
            outputs: by name.
            labels: names of the classes, in the order of the output `probabilities`; empty if they are not known.
            request_id: of the request.

        Raises:
            GatewayError: if the outputs cannot be said in it.
        """


@dataclass(frozen=True, slots=True)
class TensorReply:
    """The body of a reply.

    Attributes:
        content: its bytes.
        media_type: its type.
        headers: that belong to this body.
    """

    content: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """The answer to one REST request.

    Attributes:
        name: the model.
        version: the version that answered.
        reply: the reply's body.
        precision: that it was computed at.
    """

    name: str
    version: int
    reply: TensorReply
    precision: str


class TensorPredictor:
    """Answers requests with tensors.

    Args:
        backend: the model server.
        catalog: the served models.
        contracts: what each version promises; says how images are prepared.
        signatures: what each version's signatures take.
        decoder: bytes to pixels.
        metrics: where stages are timed.
        json_bodies: parses large bodies.
        max_images: most encoded images in one request.
    """

    def __init__(
        self,
        backend: ModelServer,
        catalog: Catalog,
        *,
        contracts: ContractCache,
        signatures: SignatureCache,
        decoder: Decoder,
        metrics: Metrics,
        json_bodies: JsonBodies,
        max_images: int,
    ) -> None:
        self._backend = backend
        self._catalog = catalog
        self._contracts = contracts
        self._signatures = signatures
        self._decoder = decoder
        self._metrics = metrics
        self._max_images = max_images
        self._json = json_bodies

    async def predict(
        self,
        context: RequestContext,
        body: bytes,
        choice: Choice,
        parse: Callable[[bytes, Load], TensorRequest],
        *,
        json_bytes: int | None = None,
    ) -> RestAnswer:
        """Run the signature that a body asks for.

        Args:
            context: of the request.
            body: JSON, perhaps with binary data after it.
            choice: the model and version.
            parse: reads the body, by the rules of its protocol; given what parses its JSON.
            json_bytes: how many bytes at the body's beginning are JSON; all of them by default.

        Raises:
            InvalidArgumentError: if the body does not fit the signature.
            TooMuchJsonError: if the body holds more values than are read.
            RefusedImageError: if an encoded image cannot be decoded.
            NotFoundError: if there is no such model, version or label.
            GatewayError: if the model server fails.
        """
        num_json_bytes = len(body) if json_bytes is None else json_bytes
        in_thread = len(body) > INLINE_BYTES
        with self._metrics.stage("read"):
            request = await self._json.read(body, parse, caller=context.caller, json_bytes=num_json_bytes)

        name, version, found = await self._answer(context, request, choice, in_thread=in_thread)
        with self._metrics.stage("encode"):
            labels = await self._class_names(name, version) if request.wants_labels else ()
            reply = await asyncio.to_thread(
                request.dump, name, version, found.outputs, labels=labels, request_id=context.id
            )
        return RestAnswer(name, version, reply, found.precision)

    async def describe(self, choice: Choice) -> tuple[str, int, dict[str, Any]]:
        """Return the model, the version and its SignatureDef messages by signature name."""
        attempts = Attempts(self._catalog, self._contracts, choice)
        async for attempt in attempts:
            with attempt:
                found = await self._signatures.fetch(attempt.name, attempt.version)
                return attempt.name, attempt.version, dict(found)
        raise attempts.failure()

    async def _answer(
        self, context: RequestContext, request: TensorRequest, choice: Choice, *, in_thread: bool
    ) -> tuple[str, int, TensorOutputs]:
        """Return the model, the version that has answered, and its outputs."""
        attempts = Attempts(self._catalog, self._contracts, choice)
        async for attempt in attempts:
            with attempt:
                name, version = attempt.name, attempt.version
                inputs = await self._build_inputs(context, request, name, version, in_thread=in_thread)
                return name, version, await self._infer(context, request, name, version, inputs)
        raise attempts.failure()

    async def _infer(
        self,
        context: RequestContext,
        request: TensorRequest,
        name: str,
        version: int,
        inputs: Mapping[str, NDArray[Any]],
    ) -> TensorOutputs:
        signature = request.signature or DEFAULT_SIGNATURE
        try:
            with self._metrics.stage("model"), self._metrics.version(name, version):
                return await self._backend.run(
                    name, signature, version=version, inputs=inputs, deadline=context.deadline
                )
        except NotLoadedError:
            self._signatures.drop(name, version)
            raise

    async def _build_inputs(
        self, context: RequestContext, request: TensorRequest, name: str, version: int, *, in_thread: bool
    ) -> dict[str, NDArray[Any]]:
        wanted = request.signature or DEFAULT_SIGNATURE
        found = (await self._signatures.fetch(name, version, deadline=context.deadline)).get(wanted)
        if found is None or not found.inputs:
            raise InvalidArgumentError(f"Serving signature name: {echo(wanted)} not found in signature def")
        specs = read_inputs(found)
        values = await _run(request.split, specs, list(found.outputs), in_thread=in_thread)
        for alias, spec in specs.items():
            if spec.data_type == types_pb2.DT_UINT8 and isinstance(values[alias], list):
                values[alias] = await self._decode_images(context, values[alias], spec, name, version)
        return await _run(_build_arrays, request, values, specs, in_thread=in_thread)

    async def _decode_images(
        self, context: RequestContext, values: list[Any], spec: TensorSpec, name: str, version: int
    ) -> list[Any]:
        """Put prepared images in the place of encoded ones; numbers stay as they are."""
        places = [i for i, value in enumerate(values) if isinstance(value, bytes) or is_binary(value)]
        if not places:
            return values
        if len(places) > self._max_images:
            raise TooManyImagesError(
                f"the request has {len(places)} images; the limit is {self._max_images} (FOVEA_MAX_IMAGES)"
            )
        contract_input = await self._contract_input(name, version)
        if contract_input is None or spec.shape is None or tuple(spec.shape[1:]) != contract_input.shape:
            raise InvalidArgumentError(
                "JSON Value: an encoded image, where the model's contract does not say how to prepare one"
            )
        sent = [values[place] for place in places]
        is_large = sum(len(value[B64]) for value in sent if not isinstance(value, bytes)) > INLINE_BYTES
        files = await _run(_read_files, sent, in_thread=is_large)
        with self._metrics.stage("decode"):
            images = await self._decoder.decode(files, contract_input, caller=context.caller)
        prepared = list(values)
        for place, image in zip(places, images, strict=True):
            if isinstance(image, RefusedImageError):
                raise image
            prepared[place] = image
        return prepared

    async def _contract_input(self, name: str, version: int) -> InputSpec | None:
        try:
            return (await self._contracts.fetch(name, version)).input
        except BrokenContractError:
            return None  # a model without `describe`

    async def _class_names(self, name: str, version: int) -> Sequence[str]:
        try:
            return [label.name for label in (await self._contracts.fetch(name, version)).labels]
        except BrokenContractError:
            return ()  # a model without `describe`


async def _run(work: Callable[..., T], *arguments: Any, in_thread: bool) -> T:
    return await asyncio.to_thread(work, *arguments) if in_thread else work(*arguments)


def _read_files(sent: Sequence[Any]) -> list[bytes]:
    return [value if isinstance(value, bytes) else decode_binary(value) for value in sent]


def _build_arrays(
    request: TensorRequest, values: dict[str, Any], specs: dict[str, TensorSpec]
) -> dict[str, NDArray[Any]]:
    # Not np.ascontiguousarray: it makes a vector of a scalar.
    return {alias: np.asarray(request.build(values[alias], spec), order="C") for alias, spec in specs.items()}
