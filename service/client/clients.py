"""The two clients: the same methods, plain and awaited; `flows` decides their steps."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, Unpack

import httpx2

from service.client.calls import (
    Call,
    FeedbackOptions,
    Image,
    Options,
    VersionOptions,
    build_delete_feedback,
    build_embed,
    build_explain,
    build_feedback,
    build_heat_map,
    build_model,
    build_models,
    build_predict,
    build_ready,
)
from service.client.flows import Policy, Send, Wait, run, run_async
from service.results import EmbedResult, ExplainResult, HeatMap, ModelInfo, PredictResult, Readiness

DEFAULT_URL = "http://127.0.0.1:8000"

P = ParamSpec("P")
T = TypeVar("T")


class FoveaClient:
    """A connection to a Fovea service; use it in a `with` block, or call `close`. Threads may share it.

    Args:
        url: where the service is.
        key: API key, if the service wants one.
        timeout_s: longest wait for an answer, seconds, all attempts together.
        retries: most further attempts when the service is busy and says when to come back.
        ca_file: certificates (PEM) to trust instead of the system's.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        retries: int = 3,
        ca_file: str | Path | None = None,
    ) -> None:
        self._options = _transport_options(url, key, ca_file)
        self._http = httpx2.Client(**self._options)
        self._policy = Policy(self._http.base_url, timeout_s, retries)

    def __enter__(self) -> FoveaClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def predict(self, images: Image | Sequence[Image], **options: Unpack[Options]) -> PredictResult:
        """Classify images.

        Args:
            images: path of an image file or its bytes, or several of them.
            options: model, version or label, top, request_id; see `Options`.

        Raises:
            FoveaError: if the service refuses or cannot be reached.
            OSError: if a file cannot be read.
        """
        return self._call(build_predict, images, options)

    def explain(
        self, images: Image | Sequence[Image], *, class_: str | int | None = None, **options: Unpack[Options]
    ) -> ExplainResult:
        """Return where in the images a class was seen, as numbers.

        Args:
            images: as `predict`.
            class_: id, name or index of the class; by default each image's most probable one.
            options: as `predict`.

        Raises:
            FoveaError: if the service refuses or cannot be reached, or the model has no explanations.
            OSError: if a file cannot be read.
        """
        return self._call(build_explain, images, class_, options)

    def embed(self, images: Image | Sequence[Image], **options: Unpack[VersionOptions]) -> EmbedResult:
        """Return images as vectors: the pooled features of the network's last stage.

        Args:
            images: as `predict`.
            options: model, version or label, request_id; see `VersionOptions`.

        Raises:
            FoveaError: if the service refuses or cannot be reached, or the model has no embeddings.
            OSError: if a file cannot be read.
        """
        return self._call(build_embed, images, options)

    def heat_map(self, image: Image, *, class_: str | int | None = None, **options: Unpack[Options]) -> HeatMap:
        """Return where in one image a class was seen, as a picture; arguments and errors as `explain`."""
        return self._call(build_heat_map, image, class_, options)

    def feedback(self, image: Image, label: str, *, consent: bool, **options: Unpack[FeedbackOptions]) -> str:
        """Give the service an image with its true class, for the next training, and return the id to delete it by.

        Args:
            image: path of an image file, or its bytes.
            label: id or name of the true class.
            consent: True if the person who may consent agrees that the image is kept and used for training.
            options: model, version, request_id of the prediction, note; see `FeedbackOptions`.

        Raises:
            FoveaError: if the service takes no feedback, refuses or cannot be reached.
            ValueError: without consent.
        """
        return self._call(build_feedback, image, label, consent=consent, options=options)

    def delete_feedback(self, feedback_id: str) -> None:
        """Delete an image that was given as feedback; errors as `feedback`."""
        self._call(build_delete_feedback, feedback_id)

    def models(self) -> list[ModelInfo]:
        """Return the served models.

        Raises:
            FoveaError: if the service refuses or cannot be reached.
        """
        return self._call(build_models)

    def model(self, name: str) -> ModelInfo:
        """Return one model with the live version's contract; errors as `models`."""
        return self._call(build_model, name)

    def ready(self) -> Readiness:
        """Return whether the service answers predictions, and the missing part if not.

        Raises:
            FoveaError: if it cannot be reached.
        """
        return self._call(build_ready)

    def wait_until_ready(self, timeout_s: float = 60.0) -> Readiness:
        """Wait for a service that is starting.

        Args:
            timeout_s: longest wait, seconds.

        Raises:
            FoveaError: if it is not ready in time; the text names the missing part.
        """
        return run(self._policy.wait_until_ready(timeout_s), self._perform)

    def _call(self, build: Callable[P, Call[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return run(self._policy.send(build(*args, **kwargs)), self._perform)

    def _perform(self, step: Send | Wait) -> httpx2.Response | None:
        if isinstance(step, Wait):
            time.sleep(step.seconds)
            return None
        if step.watch is None:
            with httpx2.Client(**self._options) as fresh:
                return fresh.request(step.method, step.path, **step.options)
        with step.watch:
            extensions = {"trace": step.watch.trace}
            return self._http.request(step.method, step.path, **step.options, extensions=extensions)


class AsyncFoveaClient:
    """As `FoveaClient`, for asyncio; use it in an `async with` block, or await `close`."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        retries: int = 3,
        ca_file: str | Path | None = None,
    ) -> None:
        self._options = _transport_options(url, key, ca_file)
        self._http = httpx2.AsyncClient(**self._options)
        self._policy = Policy(self._http.base_url, timeout_s, retries)

    async def __aenter__(self) -> AsyncFoveaClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def predict(self, images: Image | Sequence[Image], **options: Unpack[Options]) -> PredictResult:
        """As `FoveaClient.predict`."""
        return await self._call(build_predict, images, options)

    async def explain(
        self, images: Image | Sequence[Image], *, class_: str | int | None = None, **options: Unpack[Options]
    ) -> ExplainResult:
        """As `FoveaClient.explain`."""
        return await self._call(build_explain, images, class_, options)

    async def embed(self, images: Image | Sequence[Image], **options: Unpack[VersionOptions]) -> EmbedResult:
        """As `FoveaClient.embed`."""
        return await self._call(build_embed, images, options)

    async def heat_map(self, image: Image, *, class_: str | int | None = None, **options: Unpack[Options]) -> HeatMap:
        """As `FoveaClient.heat_map`."""
        return await self._call(build_heat_map, image, class_, options)

    async def feedback(self, image: Image, label: str, *, consent: bool, **options: Unpack[FeedbackOptions]) -> str:
        """As `FoveaClient.feedback`."""
        return await self._call(build_feedback, image, label, consent=consent, options=options)

    async def delete_feedback(self, feedback_id: str) -> None:
        """As `FoveaClient.delete_feedback`."""
        await self._call(build_delete_feedback, feedback_id)

    async def models(self) -> list[ModelInfo]:
        """As `FoveaClient.models`."""
        return await self._call(build_models)

    async def model(self, name: str) -> ModelInfo:
        """As `FoveaClient.model`."""
        return await self._call(build_model, name)

    async def ready(self) -> Readiness:
        """As `FoveaClient.ready`."""
        return await self._call(build_ready)

    async def wait_until_ready(self, timeout_s: float = 60.0) -> Readiness:
        """As `FoveaClient.wait_until_ready`."""
        return await run_async(self._policy.wait_until_ready(timeout_s), self._perform)

    async def _call(self, build: Callable[P, Call[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        call = await asyncio.to_thread(build, *args, **kwargs)  # which may read files
        return await run_async(self._policy.send(call), self._perform)

    async def _perform(self, step: Send | Wait) -> httpx2.Response | None:
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
            return None
        async with asyncio.timeout(step.timeout_s):
            if step.watch is None:
                async with httpx2.AsyncClient(**self._options) as fresh:
                    return await fresh.request(step.method, step.path, **step.options)
            with step.watch:
                extensions = {"trace": step.watch.trace_async}
                return await self._http.request(step.method, step.path, **step.options, extensions=extensions)


def _transport_options(url: str, key: str | None, ca_file: str | Path | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "base_url": url,
        "headers": {} if key is None else {"X-API-Key": key},
        # A proxy for the internet cannot reach this machine's own loopback address.
        "trust_env": not _is_loopback(url),
    }
    if ca_file is not None:
        options["verify"] = ssl.create_default_context(cafile=ca_file)
    return options


def _is_loopback(url: str) -> bool:
    host = httpx2.URL(url).host
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
