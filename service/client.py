"""Clients for Python users: images in, named classes out.

with FoveaClient("http://127.0.0.1:8000") as client:
    for prediction in client.predict(["eye.jpg"]).predictions:
        print(prediction.name, prediction.top[0].label, prediction.top[0].probability)

`AsyncFoveaClient` has the same methods, to be awaited. A service that is busy (429, 503) is asked again when its
Retry-After says so, a bounded number of times and never beyond the total time. A prediction or explanation whose kept
connection ended before a reply began is asked for once more, on a new connection.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, Unpack

import httpx2

from service.client_calls import (
    Attempts,
    Call,
    FeedbackOptions,
    Image,
    Options,
    build_delete_feedback,
    build_explain,
    build_feedback,
    build_heat_map,
    build_model,
    build_models,
    build_predict,
    build_ready,
)
from service.client_connections import ConnectionWatch
from service.client_replies import ExplainResult, FoveaError, HeatMap, ModelInfo, PredictResult, Readiness

__all__ = [
    "DEFAULT_URL",
    "AsyncFoveaClient",
    "ExplainResult",
    "FoveaClient",
    "FoveaError",
    "HeatMap",
    "ModelInfo",
    "PredictResult",
    "Readiness",
]

DEFAULT_URL = "http://127.0.0.1:8000"
_POLL_S = 0.2

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
        self._timeout_s = timeout_s
        self._retries = retries
        self._options = _transport_options(url, key, ca_file)
        self._http = httpx2.Client(**self._options)

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
        return self._send(build_predict(images, options))

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
        return self._send(build_explain(images, class_, options))

    def heat_map(self, image: Image, *, class_: str | int | None = None, **options: Unpack[Options]) -> HeatMap:
        """Return where in one image a class was seen, as a picture; arguments and errors as `explain`."""
        return self._send(build_heat_map(image, class_, options))

    def feedback(self, image: Image, label: str, *, consent: bool, **options: Unpack[FeedbackOptions]) -> str:
        """Give the service an image with its true class, for the next training, and return the id to delete it by.

        Args:
            image: path of an image file, or its bytes.
            label: id or name of the true class.
            consent: True if whoever may decide so agrees that the image is kept and used for training.
            options: model, version, request_id of the prediction, note; see `FeedbackOptions`.

        Raises:
            FoveaError: if the service takes no feedback, refuses or cannot be reached.
            ValueError: without consent.
        """
        return self._send(build_feedback(image, label, consent=consent, options=options))

    def delete_feedback(self, feedback_id: str) -> None:
        """Delete an image that was given as feedback; errors as `feedback`."""
        self._send(build_delete_feedback(feedback_id))

    def models(self) -> list[ModelInfo]:
        """Return what is served.

        Raises:
            FoveaError: if the service refuses or cannot be reached.
        """
        return self._send(build_models())

    def model(self, name: str) -> ModelInfo:
        """Return one model with the live version's contract; errors as `models`."""
        return self._send(build_model(name))

    def ready(self) -> Readiness:
        """Return whether the service answers predictions, and if not, what it waits for.

        Raises:
            FoveaError: if it cannot be reached.
        """
        return self._send(build_ready())

    def wait_until_ready(self, timeout_s: float = 60.0) -> Readiness:
        """Wait for a service that is starting.

        Args:
            timeout_s: longest wait, seconds.

        Raises:
            FoveaError: if it is not ready in time; the text says what it waited for.
        """
        end = time.monotonic() + timeout_s
        while True:
            try:
                found = self.ready()
                if found.ready:
                    return found
                reason, code = found.reason, "not_ready"
            except FoveaError as err:
                if err.code not in ("unreachable", "timeout"):
                    raise
                reason, code = str(err), err.code
            if time.monotonic() >= end:
                raise FoveaError(f"not ready within {timeout_s:g} s: {reason}", code=code)
            time.sleep(_POLL_S)

    def _send(self, call: Call[T]) -> T:
        attempts = Attempts(self._retries, self._timeout_s)
        while True:
            try:
                reply = self._request(call, attempts)
            except httpx2.HTTPError as err:
                raise attempts.build_error(call, self._http.base_url, err) from err
            wait_s = attempts.find_wait(call, reply)
            if wait_s is None:
                return call.parse(reply)
            time.sleep(wait_s)

    def _request(self, call: Call[Any], attempts: Attempts) -> httpx2.Response:
        """Send one request; once more, on a new connection, if a kept one has ended."""
        with ConnectionWatch() as watch:
            options = {**attempts.build_options(call), "extensions": {"trace": watch.trace}}
            try:
                return self._http.request(call.method, call.path, **options)
            except httpx2.HTTPError as err:
                if not (call.repeatable and watch.allows_repeat(err)):
                    raise
        with httpx2.Client(**self._options) as fresh:
            return fresh.request(call.method, call.path, **attempts.build_options(call))


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
        self._timeout_s = timeout_s
        self._retries = retries
        self._options = _transport_options(url, key, ca_file)
        self._http = httpx2.AsyncClient(**self._options)

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
        return await self._send(await asyncio.to_thread(build_predict, images, options))

    async def explain(
        self, images: Image | Sequence[Image], *, class_: str | int | None = None, **options: Unpack[Options]
    ) -> ExplainResult:
        """As `FoveaClient.explain`."""
        return await self._send(await asyncio.to_thread(build_explain, images, class_, options))

    async def heat_map(self, image: Image, *, class_: str | int | None = None, **options: Unpack[Options]) -> HeatMap:
        """As `FoveaClient.heat_map`."""
        return await self._send(await asyncio.to_thread(build_heat_map, image, class_, options))

    async def feedback(self, image: Image, label: str, *, consent: bool, **options: Unpack[FeedbackOptions]) -> str:
        """As `FoveaClient.feedback`."""
        return await self._send(await asyncio.to_thread(build_feedback, image, label, consent=consent, options=options))

    async def delete_feedback(self, feedback_id: str) -> None:
        """As `FoveaClient.delete_feedback`."""
        await self._send(build_delete_feedback(feedback_id))

    async def models(self) -> list[ModelInfo]:
        """As `FoveaClient.models`."""
        return await self._send(build_models())

    async def model(self, name: str) -> ModelInfo:
        """As `FoveaClient.model`."""
        return await self._send(build_model(name))

    async def ready(self) -> Readiness:
        """As `FoveaClient.ready`."""
        return await self._send(build_ready())

    async def _send(self, call: Call[T]) -> T:
        attempts = Attempts(self._retries, self._timeout_s)
        while True:
            try:
                async with asyncio.timeout(attempts.remaining_s):
                    reply = await self._request(call, attempts)
            except (httpx2.HTTPError, TimeoutError) as err:
                raise attempts.build_error(call, self._http.base_url, err) from err
            wait_s = attempts.find_wait(call, reply)
            if wait_s is None:
                return call.parse(reply)
            await asyncio.sleep(wait_s)

    async def _request(self, call: Call[Any], attempts: Attempts) -> httpx2.Response:
        """As `FoveaClient._request`."""
        with ConnectionWatch() as watch:
            options = {**attempts.build_options(call), "extensions": {"trace": watch.trace_async}}
            try:
                return await self._http.request(call.method, call.path, **options)
            except httpx2.HTTPError as err:
                if not (call.repeatable and watch.allows_repeat(err)):
                    raise
        async with httpx2.AsyncClient(**self._options) as fresh:
            return await fresh.request(call.method, call.path, **attempts.build_options(call))


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
