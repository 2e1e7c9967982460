"""Builds the request of each call and reads its reply."""

from __future__ import annotations

import email.utils
import random
import time
import urllib.parse
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar

import httpx2

from service.results import (
    EmbedResult,
    ExplainResult,
    FoveaError,
    HeatMap,
    ModelInfo,
    PredictResult,
    Readiness,
    parse_answer,
    parse_embed_result,
    parse_explanation,
    parse_model,
    parse_prediction,
)

T = TypeVar("T")
Image = str | Path | bytes

REQUEST_ID = "X-Request-ID"
_FULL_DOCUMENT = "application/vnd.fovea+json"  # of a model; by default it is TensorFlow Serving's status alone
_BUSY = frozenset({429, 503})  # the service did not take the request; Retry-After says when it may


class VersionOptions(TypedDict, total=False):
    """The choice of the model that answers; every field may be left out.

    Attributes:
        model: the model; needed unless exactly one is served.
        version: exactly this version; not together with `label`.
        label: "live" (the default), "previous" or "candidate".
        request_id: to find the request in the service's log; by default one is made.
    """

    model: str
    version: int
    label: str
    request_id: str


class Options(VersionOptions, total=False):
    """The choice of the model that answers, and the number of classes; every field may be left out.

    Attributes:
        top: classes an image, best first.
    """

    top: int


class FeedbackOptions(TypedDict, total=False):
    """Further facts of a labelled image; all are optional.

    Attributes:
        model: the model; needed unless exactly one is served.
        version: the version that predicted, if it matters.
        request_id: of the prediction.
        note: free text; leave out names of people.
    """

    model: str
    version: int
    request_id: str
    note: str


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and what its reply becomes.

    Attributes:
        method: of HTTP.
        path: below the service's address.
        parse: a successful reply to the result.
        request_id: sent with it.
        parts: httpx's `params`, `files`, `data` or `headers`.
        retried: whether to try again when the service is busy.
        repeatable: whether to send the request once more when it is not known to have been taken.
    """

    method: str
    path: str
    parse: Callable[[httpx2.Response], T]
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    parts: Mapping[str, Any] = field(default_factory=dict)
    retried: bool = True
    repeatable: bool = False


class Attempts:
    """The attempts of one call, with their deadline.

    Args:
        retries: most further attempts after a busy reply.
        timeout_s: all attempts and waits together, seconds.
    """

    def __init__(self, retries: int, timeout_s: float) -> None:
        self._left = retries
        self._timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s

    @property
    def remaining_s(self) -> float:
        """Seconds that are left; never 0, which would mean no limit to httpx."""
        return max(0.001, self._end - time.monotonic())

    def build_options(self, call: Call[Any]) -> dict[str, Any]:
        """Return what httpx sends in the next attempt, and how long it waits."""
        return {**call.parts, "headers": self.build_headers(call), "timeout": self.remaining_s}

    def build_headers(self, call: Call[Any]) -> dict[str, str]:
        """Return the headers of the next attempt; the service drops requests whose client has left."""
        waits = f"{min(self.remaining_s, 3600):.3f}"
        return {**call.parts.get("headers", {}), REQUEST_ID: call.request_id, "X-Request-Timeout": waits}

    def find_wait(self, call: Call[Any], reply: httpx2.Response) -> float | None:
        """Return how long to wait before the next attempt, seconds; None if this reply is the answer."""
        after = read_retry_after(reply)
        if not call.retried or reply.status_code not in _BUSY or after is None or self._left == 0:
            return None
        # Clients that were refused together must not come back together.
        wait_s = after * random.uniform(1.0, 1.1)
        if wait_s >= self.remaining_s:
            return None
        self._left -= 1
        return wait_s

    def build_error(self, call: Call[Any], url: httpx2.URL, err: Exception) -> FoveaError:
        """Return the error for an attempt that was not answered."""
        if isinstance(err, httpx2.TimeoutException | TimeoutError) and not isinstance(err, httpx2.ConnectTimeout):
            words, code = f"no answer from {url} within {self._timeout_s:g} s", "timeout"
        else:
            words, code = f"no answer from {url}: {err or type(err).__name__}", "unreachable"
        return FoveaError(words, code=code, request_id=call.request_id)


def build_predict(images: Image | Sequence[Image], options: Options) -> Call[PredictResult]:
    """Return the call of `predict`."""

    def parse(reply: httpx2.Response) -> PredictResult:
        document = read_document(reply)
        entries = tuple(parse_prediction(entry) for entry in document["predictions"])
        return PredictResult(**parse_answer(document), predictions=entries)

    return _with_images("/v1/predict", parse, images, options)


def build_embed(images: Image | Sequence[Image], options: VersionOptions) -> Call[EmbedResult]:
    """Return the call of `embed`."""
    return _with_images("/v1/embed", lambda reply: parse_embed_result(read_document(reply)), images, options)


def build_explain(images: Image | Sequence[Image], class_: str | int | None, options: Options) -> Call[ExplainResult]:
    """Return the call of `explain`."""

    def parse(reply: httpx2.Response) -> ExplainResult:
        document = read_document(reply)
        entries = tuple(parse_explanation(entry) for entry in document["explanations"])
        return ExplainResult(**parse_answer(document), explanations=entries)

    return _with_images("/v1/explain", parse, images, options, {"class": class_})


def build_heat_map(image: Image, class_: str | int | None, options: Options) -> Call[HeatMap]:
    """Return the call of `heat_map`."""

    def parse(reply: httpx2.Response) -> HeatMap:
        check_reply(reply)
        headers = reply.headers
        version, class_index = int(headers["x-model-version"]), int(headers["x-class-index"])
        return HeatMap(reply.content, headers["x-model-name"], version, class_index)

    call = _with_images("/v1/explain", parse, [image], options, {"class": class_})
    return replace(call, parts={**call.parts, "headers": {"Accept": "image/png"}})


def build_feedback(image: Image, label: str, *, consent: bool, options: FeedbackOptions) -> Call[str]:
    """Return the call of `feedback`."""
    if not consent:
        raise ValueError("consent: expected True; without it an image may not be kept. Received: False")
    known = {name: str(value) for name, value in options.items() if value is not None}
    texts = {"label": label, "consent": "true", **known}
    parts = {"data": texts, "files": [("file", _read_image(image, 0))]}
    return Call("POST", "/v1/feedback", lambda reply: str(read_document(reply)["id"]), parts=parts)


def build_delete_feedback(feedback_id: str) -> Call[None]:
    """Return the call of `delete_feedback`."""
    return Call("DELETE", f"/v1/feedback/{_path_part(feedback_id)}", check_reply)


def build_models() -> Call[list[ModelInfo]]:
    """Return the call of `models`."""
    return Call("GET", "/v1/models", lambda reply: [parse_model(item) for item in read_document(reply)["models"]])


def build_model(name: str) -> Call[ModelInfo]:
    """Return the call of `model`."""
    parts = {"headers": {"Accept": _FULL_DOCUMENT}}
    return Call("GET", f"/v1/models/{_path_part(name)}", lambda reply: parse_model(read_document(reply)), parts=parts)


def build_ready() -> Call[Readiness]:
    """Return the call of `ready`."""

    def parse(reply: httpx2.Response) -> Readiness:
        try:
            return Readiness(True, read_document(reply)["models"], None)
        except FoveaError as err:
            if err.status_code != 503 or err.code == "not_fovea":
                raise
            return Readiness(False, {}, str(err))

    return Call("GET", "/readyz", parse, retried=False)


def read_document(reply: httpx2.Response) -> dict[str, Any]:
    """Return a reply's JSON object.

    Raises:
        FoveaError: if the service refused, or something else answered.
    """
    check_reply(reply)
    try:
        document = reply.json()
    except ValueError as err:
        raise _not_fovea(reply) from err
    if not isinstance(document, dict):
        raise _not_fovea(reply)
    return document


def check_reply(reply: httpx2.Response) -> None:
    """Raise the error that the service reports.

    Raises:
        FoveaError: if the reply is not a success.
    """
    if reply.is_success:
        return
    try:
        error = reply.json()["error"]
        message, code = str(error["message"]), str(error["code"])
    except (ValueError, KeyError, TypeError) as err:
        raise _not_fovea(reply) from err
    raise FoveaError(
        message,
        code=code,
        status_code=reply.status_code,
        request_id=reply.headers.get(REQUEST_ID),
        retry_after_s=read_retry_after(reply),
    )


def read_retry_after(reply: httpx2.Response) -> float | None:
    """Return the seconds that a reply's Retry-After stands for, a number or a date; None without one."""
    value = reply.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _with_images(
    path: str,
    parse: Callable[[httpx2.Response], T],
    images: Image | Sequence[Image],
    options: VersionOptions,
    query: Mapping[str, object] | None = None,
) -> Call[T]:
    several = [images] if isinstance(images, str | Path | bytes) else images
    files = [("file", _read_image(image, position)) for position, image in enumerate(several)]
    if not files:
        raise ValueError("images: expected at least one. Received: none")
    values: dict[str, object] = {**options, **(query or {})}
    request_id = str(values.pop("request_id", None) or uuid.uuid4().hex)
    params = {name: value for name, value in values.items() if value is not None}
    return Call("POST", path, parse, request_id, parts={"params": params, "files": files}, repeatable=True)


def _path_part(text: str) -> str:
    """Return a name as one part of a path, whatever is in it."""
    return urllib.parse.quote(text, safe="")


def _read_image(image: Image, position: int) -> tuple[str, bytes]:
    if isinstance(image, bytes):
        return f"image[{position}]", image
    path = Path(image)
    return path.name, path.read_bytes()


def _not_fovea(reply: httpx2.Response) -> FoveaError:
    return FoveaError(
        f"expected a Fovea service. Received: status {reply.status_code}",
        code="not_fovea",
        status_code=reply.status_code,
    )
