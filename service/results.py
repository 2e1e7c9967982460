"""The service's replies as Python values; imports nothing of the project."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class FoveaError(Exception):
    """The service did not do as asked; the text is the service's own, or says why it could not be reached.

    Attributes:
        code: the service's stable name of the reason; "unreachable", "timeout" or "not_fovea" if it did not say.
        status_code: HTTP status; None if there was no reply.
        request_id: to find the request in the service's log.
        retry_after_s: when the service expects to be able to answer, seconds; None if it did not say.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status_code: int | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status_code = status_code
        self.request_id = request_id
        self.retry_after_s = retry_after_s


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
class Decision:
    """One of the model's thresholds, applied to one image.

    Attributes:
        id: the class that the threshold is for.
        label: its name for people.
        probability: of that class, 0 to 1.
        threshold: probability from which on the class is called.
        called: whether it is.
    """

    id: str
    label: str
    probability: float
    threshold: float
    called: bool


@dataclass(frozen=True, slots=True)
class ImagePrediction:
    """The prediction of one image, or its error.

    Attributes:
        name: the file's name.
        top: most probable classes first; empty if the image was refused.
        error: why it was refused, None if it was not.
        error_code: the service's stable name of that reason.
        warnings: such as "unlike_training_images".
        decisions: one for each of the model's thresholds.
    """

    name: str
    top: tuple[ClassProbability, ...]
    error: str | None
    error_code: str | None = None
    warnings: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageExplanation(ImagePrediction):
    """The explanation of one image, or its error.

    Attributes:
        explained: the class; None if the image was refused.
        saliency: 0 to 1, a grid over the whole picture as the model saw it, row 0 at the top; empty if refused.
    """

    explained: ClassProbability | None = None
    saliency: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class ImageEmbedding:
    """One image as a vector, or the reason for its refusal.

    Attributes:
        name: the file's name.
        vector: the pooled features of the network's last stage; empty if the image was refused.
        error: why it was refused, None if it was not.
        error_code: the service's stable name of that reason.
        warnings: such as "unlike_training_images".
    """

    name: str
    vector: tuple[float, ...]
    error: str | None
    error_code: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """Fields that every reply of a model has.

    Attributes:
        model: the model that answered.
        version: its version.
        contract: hash of the version's contract.
        request_id: to find the request in the service's log.
        document: the reply's JSON.
    """

    model: str
    version: int
    contract: str
    request_id: str
    document: Mapping[str, Any]

    @property
    def precision(self) -> str:
        """The precision that answered, such as "float32" or "int8"."""
        return str(self.document["model"].get("precision", "float32"))


@dataclass(frozen=True, slots=True)
class PredictResult(Answer):
    """Reply to `predict`.

    Attributes:
        predictions: one for each image, in the order sent.
    """

    predictions: tuple[ImagePrediction, ...]

    def _repr_html_(self) -> str:
        """Return a table for notebooks: a line for each image and class."""
        return _html_table(self, self.predictions)


@dataclass(frozen=True, slots=True)
class ExplainResult(Answer):
    """Reply to `explain`.

    Attributes:
        explanations: one for each image, in the order sent.
    """

    explanations: tuple[ImageExplanation, ...]

    def _repr_html_(self) -> str:
        """Return a table for notebooks; `FoveaClient.heat_map` has pictures."""
        return _html_table(self, self.explanations)


@dataclass(frozen=True, slots=True)
class EmbedResult(Answer):
    """Reply to `embed`.

    Attributes:
        dimension: numbers in each vector.
        embeddings: one for each image, in the order sent.
    """

    dimension: int
    embeddings: tuple[ImageEmbedding, ...]

    @property
    def vectors(self) -> list[tuple[float, ...]]:
        """The vectors of the images that were not refused, for `numpy.array`."""
        return [entry.vector for entry in self.embeddings if entry.error is None]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A picture of an explanation.

    Attributes:
        png: the image as the model saw it in grey, coloured where the class was seen.
        model: the model that answered.
        version: its version.
        class_index: the class, by its position in the model's output.
    """

    png: bytes
    model: str
    version: int
    class_index: int

    def _repr_png_(self) -> bytes:
        """Return the picture, for notebooks."""
        return self.png


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One version of a model.

    Attributes:
        version: its number.
        state: "AVAILABLE" if it answers.
        labels: "live", "previous", "candidate": which of them it is.
        contract: hash of its contract; None while it is not loaded.
    """

    version: int
    state: str
    labels: tuple[str, ...]
    contract: str | None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model.

    Attributes:
        name: its name.
        labels: the version that each of "live", "previous" and "candidate" stands for.
        versions: newest first.
        contract: the live version's; None in a list of models, and while it is not loaded.
        trial: of the candidate on live traffic, as GET /v1/models has it; None without one.
    """

    name: str
    labels: Mapping[str, int]
    versions: tuple[VersionInfo, ...]
    contract: Mapping[str, Any] | None = None
    trial: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """Readiness of the service to answer predictions; true or false in an `if`.

    Attributes:
        ready: whether it does.
        models: the models that answer, and the version that does.
        reason: the missing part; None if it is ready.
    """

    ready: bool
    models: Mapping[str, int]
    reason: str | None

    def __bool__(self) -> bool:
        """Return `ready`."""
        return self.ready


def parse_prediction(entry: Mapping[str, Any]) -> ImagePrediction:
    """Return one entry of a predict reply."""
    return ImagePrediction(**_image_fields(entry))


def parse_explanation(entry: Mapping[str, Any]) -> ImageExplanation:
    """Return one entry of an explain reply."""
    found = entry.get("class")
    values = entry["saliency"]["values"] if entry.get("saliency") else ()
    explained = None if found is None else _class_probability(found)
    return ImageExplanation(**_image_fields(entry), explained=explained, saliency=tuple(tuple(row) for row in values))


def parse_embedding(entry: Mapping[str, Any]) -> ImageEmbedding:
    """Return one entry of an embed reply."""
    error: Mapping[str, str] = entry.get("error") or {}
    return ImageEmbedding(
        name=entry["name"],
        vector=tuple(entry.get("embedding") or ()),
        error=error.get("message"),
        error_code=error.get("code"),
        warnings=tuple(entry.get("warnings") or ()),
    )


def parse_embed_result(document: Mapping[str, Any]) -> EmbedResult:
    """Return an embed reply."""
    entries = tuple(parse_embedding(entry) for entry in document["embeddings"])
    return EmbedResult(**parse_answer(document), dimension=document["dimension"], embeddings=entries)


def parse_answer(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `Answer`."""
    model = document["model"]
    return {
        "model": model["name"],
        "version": model["version"],
        "contract": model["contract"],
        "request_id": document["request_id"],
        "document": document,
    }


def parse_model(document: Mapping[str, Any]) -> ModelInfo:
    """Return one model of a list, or a model's own reply."""
    versions = tuple(
        VersionInfo(int(item["version"]), item["state"], tuple(item["labels"]), item.get("contract"))
        for item in document["model_version_status"]
    )
    contract, trial = document.get("contract"), document.get("trial")
    return ModelInfo(document["name"], document["labels"], versions, contract, trial)


def _image_fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    error: Mapping[str, str] = entry.get("error") or {}
    return {
        "name": entry["name"],
        "top": tuple(_class_probability(item) for item in entry.get("top") or ()),
        "error": error.get("message"),
        "error_code": error.get("code"),
        "warnings": tuple(entry.get("warnings") or ()),
        "decisions": _parse_decisions(entry.get("decision") or ()),
    }


def _parse_decisions(items: Sequence[Mapping[str, Any]]) -> tuple[Decision, ...]:
    fields = ("id", "label", "probability", "threshold", "called")
    return tuple(Decision(**{field: item[field] for field in fields}) for item in items)


def _html_table(answer: Answer, predictions: Sequence[ImagePrediction]) -> str:
    rows = [row for prediction in predictions for row in _html_rows(prediction)]
    title = html.escape(f"{answer.model} version {answer.version}")
    header = "<tr><th>image</th><th>class</th><th>probability</th></tr>"
    return f"<table><caption>{title}</caption>{header}{''.join(rows)}</table>"


def _html_rows(prediction: ImagePrediction) -> list[str]:
    name = html.escape(prediction.name)
    if prediction.error is not None:
        return [f'<tr><td>{name}</td><td colspan="2">refused: {html.escape(prediction.error)}</td></tr>']
    rows = [
        f"<tr><td>{name if number == 0 else ''}</td><td>{html.escape(item.label)}</td>"
        f"<td>{100 * item.probability:.2f} %</td></tr>"
        for number, item in enumerate(prediction.top)
    ]
    words = [warning.replace("_", " ") for warning in prediction.warnings]
    return rows + [f'<tr><td></td><td colspan="2">warning: {html.escape(text)}</td></tr>' for text in words]


def _class_probability(item: Mapping[str, Any]) -> ClassProbability:
    return ClassProbability(item["index"], item["id"], item["label"], item["probability"])
