"""A client for Python users: images in, named classes out.

with FoveaClient("http://127.0.0.1:8000") as client:
    for prediction in client.predict(["eye.jpg"]).predictions:
        print(prediction.name, prediction.top[0].label, prediction.top[0].probability)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2

DEFAULT_URL = "http://127.0.0.1:8000"

Image = str | Path | bytes


class FoveaError(Exception):
    """The service did not do as asked; the text is the service's own, or says why it could not be reached.

    Attributes:
        code: the service's stable name of the reason; "unreachable" or "not_fovea" if the service did not say.
        status_code: HTTP status; None if there was no reply.
    """

    def __init__(self, message: str, *, code: str, status_code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status_code = status_code


@dataclass(frozen=True, slots=True)
class ClassProbability:
    """One class.

    Attributes:
        index: position in the model's output.
        id: stable identifier.
        label: name for people.
        probability: 0 to 1.
    """

    index: int
    id: str
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class ImagePrediction:
    """What became of one image.

    Attributes:
        name: the file's name.
        top: most probable classes first; empty if the image was refused.
        error: why it was refused, None if it was not.
    """

    name: str
    top: tuple[ClassProbability, ...]
    error: str | None


@dataclass(frozen=True, slots=True)
class PredictResult:
    """One reply.

    Attributes:
        model: the model that answered.
        version: its version.
        contract: hash of the version's contract.
        predictions: one for each image, in the order sent.
        request_id: to find the request in the service's log.
        document: the reply's JSON.
    """

    model: str
    version: int
    contract: str
    predictions: tuple[ImagePrediction, ...]
    request_id: str
    document: Mapping[str, Any]


class FoveaClient:
    """A connection to a Fovea service; use it in a `with` block, or call `close`.

    Args:
        url: where the service is.
        timeout_s: longest wait for a reply, seconds.
    """

    def __init__(self, url: str = DEFAULT_URL, *, timeout_s: float = 60.0) -> None:
        # A proxy for the internet cannot reach this machine's own loopback address.
        self._http = httpx2.Client(base_url=url, timeout=timeout_s, trust_env=not _is_loopback(url))

    def __enter__(self) -> FoveaClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def predict(
        self,
        images: Sequence[Image],
        *,
        model: str | None = None,
        version: int | None = None,
        label: str | None = None,
        top: int | None = None,
    ) -> PredictResult:
        """Classify images.

        Args:
            images: paths of image files, or their bytes; at least one.
            model: the model; may be left out when exactly one is served.
            version: exactly this version; not together with `label`.
            label: "live" (the default), "previous" or "candidate".
            top: classes an image, best first.

        Raises:
            FoveaError: if the service refuses or cannot be reached.
            OSError: if a file cannot be read.
        """
        query = {"model": model, "version": version, "label": label, "top": top}
        files = [("file", _read_image(image, position)) for position, image in enumerate(images)]
        if not files:
            raise ValueError("images: expected at least one. Received: none")
        params = {name: value for name, value in query.items() if value is not None}
        return _parse_result(self._request("POST", "/v1/predict", params=params, files=files))

    def models(self) -> list[dict[str, Any]]:
        """Return what is served: name, labels, and the state of each version.

        Raises:
            FoveaError: if the service cannot be reached.
        """
        listed: list[dict[str, Any]] = self._request("GET", "/v1/models")["models"]
        return listed

    def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            reply = self._http.request(method, path, **options)
        except httpx2.HTTPError as err:
            raise FoveaError(
                f"no answer from {self._http.base_url}: {err or type(err).__name__}", code="unreachable"
            ) from err
        try:
            document = reply.json()
        except ValueError:
            document = None
        if reply.is_success and isinstance(document, dict):
            return document
        raise _build_error(reply.status_code, document)


def _build_error(status_code: int, document: object) -> FoveaError:
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict) or not {"message", "code"} <= error.keys():
        return FoveaError(
            f"expected a Fovea service. Received: status {status_code}", code="not_fovea", status_code=status_code
        )
    return FoveaError(str(error["message"]), code=str(error["code"]), status_code=status_code)


def _parse_result(document: dict[str, Any]) -> PredictResult:
    model = document["model"]
    return PredictResult(
        model=model["name"],
        version=model["version"],
        contract=model["contract"],
        predictions=tuple(_parse_prediction(entry) for entry in document["predictions"]),
        request_id=document["request_id"],
        document=document,
    )


def _parse_prediction(entry: dict[str, Any]) -> ImagePrediction:
    top = tuple(
        ClassProbability(item["index"], item["id"], item["label"], item["probability"]) for item in entry.get("top", ())
    )
    return ImagePrediction(entry["name"], top, entry["error"]["message"] if "error" in entry else None)


def _read_image(image: Image, position: int) -> tuple[str, bytes]:
    if isinstance(image, bytes):
        return f"image[{position}]", image
    path = Path(image)
    return path.name, path.read_bytes()


def _is_loopback(url: str) -> bool:
    host = httpx2.URL(url).host
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
