"""The JSON of requests and replies, as /openapi.json documents it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

_SHA = "sha256:7c1b0f5e6c9f0f7e7f0a3e3f5f8d9c1b2a4d6e8f0a1b2c3d4e5f60718293a4b5"
_PREDICTIONS: list[JsonValue] = [
    {"index": 2, "id": "glaucoma", "label": "glaucoma", "probability": 0.9312847},
    {"index": 0, "id": "normal", "label": "normal", "probability": 0.06104321},
]


class VersionQuery(BaseModel):
    """Query that says which version answers; all of POST /v1/embed's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        default=None, min_length=1, max_length=64, description="The model; may be left out when exactly one is served."
    )
    version: int | None = Field(
        default=None, ge=1, le=2**63 - 1, description="Exactly this version; not together with label."
    )
    label: str | None = Field(
        default=None, min_length=1, max_length=64, description="live (the default), previous or candidate."
    )


class PredictQuery(VersionQuery):
    """Query of POST /v1/predict."""

    top: int | None = Field(
        default=None,
        ge=1,
        description="Classes an image, best first: 1 to the number of classes. Default 3, or all if fewer.",
    )


class ExplainQuery(PredictQuery):
    """Query of POST /v1/explain."""

    class_: str | None = Field(
        default=None,
        alias="class",
        min_length=1,
        max_length=256,
        description="The class to explain, by id, name or index (in that order). Default: the most probable one.",
    )


class ModelRef(BaseModel):
    """The model version that answered."""

    name: str
    version: int
    contract: str = Field(description="Hash of the version's contract: labels, input, provenance.")
    precision: str = Field(default="float32", description="Of the arithmetic that answered: float32, bfloat16, int8.")


class ClassProbability(BaseModel):
    """One class and its probability."""

    index: int = Field(description="Position of the class in the model's output.")
    id: str = Field(description="Stable identifier of the class.")
    label: str = Field(description="Name of the class for people.")
    probability: float = Field(description="0 to 1, with float32's digits.")


class EntryError(BaseModel):
    """The reason why one image of several was refused."""

    code: str
    message: str


class Decision(BaseModel):
    """One of the model's thresholds, applied to one image."""

    id: str = Field(description="The class that the threshold is for.")
    label: str = Field(description="Its name for people.")
    probability: float = Field(description="Of that class, whether or not it is in top.")
    threshold: float = Field(description="Probability from which on the class is called.")
    called: bool = Field(description="Whether the probability is at least the threshold.")
    sensitivity: float = Field(description="Share of the class's test images that the threshold found.")
    specificity: float = Field(description="Share of the other test images that it left alone.")


class PredictionEntry(BaseModel):
    """One image: its classes, or why it was refused."""

    name: str = Field(description="The image's name in the request.")
    top: list[ClassProbability] | None = Field(
        default=None, description="Most probable first; absent if there is an error."
    )
    decision: list[Decision] | None = Field(
        default=None, description="The model's operating points, in the contract's order; absent if it has none."
    )
    error: EntryError | None = Field(default=None, description="Absent if there are predictions.")
    warnings: list[str] = Field(
        default_factory=list,
        description='"unlike_training_images": the image is far from the training images; distrust top.',
    )


class PredictReply(BaseModel):
    """Reply of POST /v1/predict."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": {"name": "glaucoma", "version": 3, "contract": _SHA, "precision": "int8"},
                "predictions": [{"name": "eye.jpg", "top": _PREDICTIONS, "warnings": []}],
                "request_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            }
        }
    )

    model: ModelRef
    predictions: list[PredictionEntry]
    request_id: str


class Saliency(BaseModel):
    """The evidence for a class, as a grid over the model's whole input."""

    rows: int
    columns: int
    values: list[list[float]] = Field(description="rows lists of columns numbers, 0 to 1; row 0 is the top.")


class ExplanationEntry(PredictionEntry):
    """One image: its classes, and where in it the explained class was seen; or why it was refused."""

    model_config = ConfigDict(populate_by_name=True)

    class_: ClassProbability | None = Field(default=None, alias="class", description="The class that is explained.")
    saliency: Saliency | None = None


class ExplainReply(BaseModel):
    """Reply of POST /v1/explain."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": {"name": "glaucoma", "version": 3, "contract": _SHA, "precision": "int8"},
                "explanations": [
                    {
                        "name": "eye.jpg",
                        "top": _PREDICTIONS,
                        "warnings": [],
                        "class": _PREDICTIONS[0],
                        "saliency": {"rows": 2, "columns": 2, "values": [[0.0, 0.13], [1.0, 0.42]]},
                    }
                ],
                "request_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            }
        }
    )

    model: ModelRef
    explanations: list[ExplanationEntry]
    request_id: str


class EmbeddingEntry(BaseModel):
    """One image: its vector, or why it was refused."""

    name: str = Field(description="What the request called the image.")
    embedding: list[float] | None = Field(
        default=None, description="As many numbers as `dimension`, with float32's digits; absent if there is an error."
    )
    error: EntryError | None = Field(default=None, description="Absent if there is a vector.")
    warnings: list[str] = Field(default_factory=list, description="As in predictions.")


class EmbedReply(BaseModel):
    """Reply of POST /v1/embed."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": {"name": "glaucoma", "version": 3, "contract": _SHA, "precision": "int8"},
                "dimension": 4,
                "embeddings": [{"name": "eye.jpg", "embedding": [0.0, 1.25, 0.0371, 0.5], "warnings": []}],
                "request_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            }
        }
    )

    model: ModelRef
    dimension: int = Field(description="Numbers in each vector.")
    embeddings: list[EmbeddingEntry]
    request_id: str


class LoadStatus(BaseModel):
    """Status of loading a version, as TensorFlow Serving gives it."""

    error_code: str = Field(description='"OK", or a gRPC status.')
    error_message: str


class VersionStatusEntry(BaseModel):
    """One version, as TensorFlow Serving's ModelVersionStatus has it."""

    version: str
    state: str = Field(description="START, LOADING, AVAILABLE, UNLOADING, END or UNKNOWN.")
    status: LoadStatus


class VersionState(VersionStatusEntry):
    """One version with Fovea's labels and contract hash."""

    labels: list[str] = Field(description="live, previous, candidate: which of them this version is.")
    contract: str | None = Field(default=None, description="Hash of the contract; null while it is not loaded.")
    precision: str | None = Field(
        default=None, description="That it predicts at, such as int8; null until it has answered."
    )


class TrialFigures(BaseModel):
    """Figures of a trial that one gateway counted."""

    answers: int = Field(description="Calls that the candidate answered.")
    errors: int = Field(description="Calls that it failed.")
    not_loaded: int = Field(description="Calls for which it was not loaded.")
    unreachable: int = Field(description="Calls for which the model server could not be reached.")
    dropped: int = Field(description="Shadow calls that were not made for want of room.")
    images: int = Field(description="Images that the candidate classified.")
    agreed: int = Field(description="Of those, with the live version's class; of a shadow only.")
    warned: int = Field(description="Of those, with a warning by the candidate.")
    live_answers: int = Field(description="The live version's: of the same calls (shadow), of the others (canary).")
    live_errors: int
    live_images: int
    live_warned: int
    agreement: float | None = Field(description="agreed / images; null without images.")
    p50_s: float | None = Field(description="Median time of the candidate's answers, seconds, to a tenth.")
    p95_s: float | None
    live_p50_s: float | None
    live_p95_s: float | None


class TrialState(BaseModel):
    """Trial of a model's candidate on live traffic."""

    version: int = Field(description="The candidate.")
    started: str
    shadow: float = Field(description="Share of the requests that it is asked too, 0 to 1.")
    canary: float = Field(description="Share of the requests that it answers, 0 to 1.")
    stopped: str | None = Field(description="Why the canary was stopped; null if it was not.")
    found: dict[str, TrialFigures] = Field(description="What this gateway found, by `shadow` and `canary`.")


class ModelStatusReply(BaseModel):
    """Reply of GET /v1/models/{model}: TensorFlow Serving's GetModelStatusResponse, without further fields."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model_version_status": [
                    {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
                ]
            }
        }
    )

    model_version_status: list[VersionStatusEntry] = Field(description="Newest first.")


class ModelReply(BaseModel):
    """Reply of GET /v1/models/{model} with `Accept: application/vnd.fovea+json`: states, labels and contract."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "glaucoma",
                "labels": {"live": 3, "previous": 2},
                "model_version_status": [
                    {
                        "version": "3",
                        "state": "AVAILABLE",
                        "status": {"error_code": "OK", "error_message": ""},
                        "labels": ["live"],
                        "contract": _SHA,
                        "precision": "int8",
                    }
                ],
                "contract": {
                    "format": 1,
                    "task": "image-classification",
                    "labels": [{"id": "glaucoma", "name": "glaucoma"}, {"id": "normal", "name": "normal"}],
                    "input": {"height": 224, "width": 224, "channels": 3, "color": "rgb"},
                },
            }
        }
    )

    name: str
    labels: dict[str, int] = Field(description="Which version each label stands for.")
    model_version_status: list[VersionState] = Field(description="Newest first.")
    contract: dict[str, Any] | None = Field(
        description="Of the live version, or of the one asked for; null if not loaded."
    )
    trial: TrialState | None = Field(
        default=None, description="Of the candidate; left out without one.", exclude_if=lambda trial: trial is None
    )


class ModelSummary(BaseModel):
    """One model of the list."""

    name: str
    labels: dict[str, int]
    model_version_status: list[VersionState]
    trial: TrialState | None = Field(
        default=None, description="Of the candidate; left out without one.", exclude_if=lambda trial: trial is None
    )


class ModelsReply(BaseModel):
    """Reply of GET /v1/models."""

    models: list[ModelSummary]


class HealthReply(BaseModel):
    """Reply of GET /healthz."""

    status: str = Field(examples=["ok"])


class ReadyReply(BaseModel):
    """Reply of GET /readyz when ready."""

    status: str = Field(examples=["ready"])
    models: dict[str, int] = Field(description="Models that answer, and the version that does.", examples=[{"eye": 3}])
    pending: dict[str, str] | None = Field(
        default=None,
        description="Live models that do not answer yet, and why; absent if there are none.",
        examples=[{"teeth": "version 1 of teeth is loading (state LOADING)"}],
    )
    failed: dict[str, str] | None = Field(
        default=None,
        description="Live models that cannot answer, and why; absent if there are none.",
        examples=[{"skin": "version 4 of skin failed to load (DATA_LOSS); the model server's log says why"}],
    )


class ErrorDetail(BaseModel):
    """Code, message and request id of an error."""

    code: str = Field(description="Stable name, for programs.", examples=["unsupported_image"])
    message: str = Field(description="The fault, the limit or expected value, and the received one.")
    request_id: str


class ErrorReply(BaseModel):
    """Body of every reply that is not a success."""

    error: ErrorDetail
