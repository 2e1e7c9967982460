"""/v1/review: the images that /v1/feedback has kept, for people who accept, correct or delete them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.gateway.access.same_site import check_site
from service.gateway.bodies.body_stream import join_chunks
from service.gateway.components import Components, Wired
from service.gateway.context.errors import (
    BodyTooLargeError,
    FeedbackNotFoundError,
    GatewayError,
    InvalidValueError,
    MalformedRequestError,
)
from service.gateway.context.request_context import RequestContext, context_of
from service.gateway.documentation.error_responses import error_replies
from service.gateway.documentation.groups import ADMINISTRATION
from service.gateway.images.uploads import Form, UploadLimits, read_form
from service.gateway.inference.image_results import Classified
from service.gateway.inference.prediction import PredictSignature
from service.gateway.inference.version_resolution import Choice
from service.gateway.records.audit_log import hash_bytes
from service.gateway.records.feedback import QUEUE_FIELDS, Kept, QueueForm, find_label
from service.gateway.records.feedback_store import NO_LABEL
from service.gateway.records.review_store import (
    Entry,
    Judgement,
    Order,
    State,
    find_model,
    list_entries,
    write_judgement,
)
from service.gateway.routes.request_schemas import image_form

router = APIRouter(tags=[ADMINISTRATION])

_MAX_DECISION_BYTES = 4096
_QUEUE_SAMPLE = "curl -F file=@eye.jpg -F consent=true http://127.0.0.1:8000/v1/review"
_IMAGE_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
_TYPES = {".jpg": "image/jpeg", ".png": "image/png"}
Id = Annotated[str, Path(max_length=64, description="As POST /v1/feedback or POST /v1/review gave it.")]


class ReviewQuery(BaseModel):
    """Query of GET /v1/review."""

    model_config = ConfigDict(extra="forbid")

    state: State = Field("waiting", description="waiting for a reviewer, unlabelled, reviewed, or all.")
    model: str | None = Field(None, min_length=1, max_length=64, description="Images of this model alone.")
    order: Order = Field(
        "doubt", description="doubt: the greater of disagreement and uncertainty first; or one of the two; or newest."
    )
    limit: int = Field(50, ge=1, le=200, description="Entries in the reply.")
    offset: int = Field(0, ge=0, le=10**9, description="Entries to pass over.")


class ClassName(BaseModel):
    """A class of a model."""

    id: str
    name: str


class ReviewEntry(BaseModel):
    """An image in the review."""

    id: str
    created: str = Field(description="When it came in, UTC.")
    model: str
    version: int = Field(description="The version that the image was sent to.")
    label: str | None = Field(description="Id of its class; null if it waits for one.")
    request_id: str | None = Field(description="Of the prediction, if the sender gave it.")
    note: str | None = Field(description="The sender's.")
    key: str | None = Field(description="Name of the sender's API key.")
    reviewed: bool = Field(description="Whether a reviewer accepted or corrected it.")
    predicted: str | None = Field(description="Id of the most probable class; null if no model has judged it.")
    probability: float | None = Field(description="Of that class.")
    label_probability: float | None = Field(description="Of the given label.")
    warnings: list[str]
    disagreement: float = Field(description="1 minus the probability of the given label; 0 without a label.")
    uncertainty: float = Field(description="1 minus the distance of the first two classes; 1 with a warning.")


class ReviewReply(BaseModel):
    """Reply of GET /v1/review."""

    entries: list[ReviewEntry]
    total: int = Field(description="Entries of this state and model.")
    counts: dict[str, int] = Field(description="Entries by state, of this model or of all.")
    classes: dict[str, list[ClassName]] = Field(description="Classes of the entries' models that are served.")
    request_id: str


class QueuedReply(BaseModel):
    """Reply of POST /v1/review."""

    id: str
    model: str
    request_id: str


class Decision(BaseModel):
    """Body of PUT /v1/review/{id}."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field(min_length=1, max_length=200, description="Id of the true class, or its name.")


@router.get("/v1/review", summary="List images for review", responses=error_replies(401, 403, 404, 422, 429, 503))
async def list_review(request: Request, query: Annotated[ReviewQuery, Query()], wired: Wired) -> ReviewReply:
    """List the images that are kept, the most doubtful first."""
    store = wired.feedback.check_open()
    check_site(request)
    context = context_of(request.scope)
    page = await wired.feedback.run(
        lambda: list_entries(
            store, state=query.state, model=query.model, order=query.order, limit=query.limit, offset=query.offset
        ),
        caller=context.caller,
    )
    classes: dict[str, list[ClassName]] = {}
    for name in sorted({entry.model for entry in page.entries}):
        with contextlib.suppress(GatewayError):  # no longer served, or not loaded
            classes[name] = await _list_classes(wired, name)
    return ReviewReply(
        entries=[_describe(entry) for entry in page.entries],
        total=page.total,
        counts=page.counts,
        classes=classes,
        request_id=context.id,
    )


@router.post(
    "/v1/review",
    status_code=201,
    summary="Queue an image without a label",
    responses=error_replies(400, 401, 403, 404, 409, 413, 415, 422, 429, 503),
    openapi_extra=image_form(QueueForm, "A form with one image.", sample=_QUEUE_SAMPLE),
)
async def queue_image(request: Request, wired: Wired) -> QueuedReply:
    """Keep an image without metadata until a reviewer gives it a label; training does not see it before."""
    wired.feedback.check_open()
    check_site(request)
    context = context_of(request.scope)
    form = await read_form(request, context, UploadLimits(wired.settings.max_body_bytes, 1), fields=QUEUE_FIELDS)
    kept = await wired.feedback.queue(form, context)
    await judge(wired, context, kept, form)
    await _record(wired, context, "queue_review", kept.id, sha256=hash_bytes(form.uploads[0].data))
    return QueuedReply(id=kept.id, model=kept.feedback.model, request_id=context.id)


@router.get(
    "/v1/review/{feedback_id}/image",
    summary="Show an image for review",
    response_class=Response,
    responses={
        200: {
            "description": "The picture, without metadata.",
            "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in _TYPES.values()},
        },
        **error_replies(401, 403, 404, 422, 429, 503),
    },
)
async def show_image(request: Request, feedback_id: Id, wired: Wired) -> Response:
    """Return the picture of an image that is kept."""
    store = wired.feedback.check_open()
    check_site(request)
    image = await wired.feedback.run(lambda: store.read_image(feedback_id), caller=context_of(request.scope).caller)
    return Response(image.data, media_type=_TYPES[image.suffix], headers=_IMAGE_HEADERS)


@router.put(
    "/v1/review/{feedback_id}",
    status_code=204,
    summary="Accept or correct a label",
    response_class=Response,
    responses=error_replies(400, 401, 403, 404, 413, 422, 429, 503),
    openapi_extra={
        "x-codeSamples": [
            {
                "lang": "Shell",
                "source": "curl -X PUT -H 'content-type: application/json' -d '{\"label\": \"glaucoma\"}' "
                "http://127.0.0.1:8000/v1/review/0d5f8c4e4c5f4f0c8f6f3f1b5f1e9a77",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": Decision.model_json_schema(), "example": {"label": "glaucoma"}}},
        },
    },
)
async def decide(request: Request, feedback_id: Id, wired: Wired) -> None:
    """Give an image its class: the one that it has is accepted, another one corrects it.

    The file moves to the class's folder, where the next training finds it.
    """
    store = wired.feedback.check_open()
    check_site(request)
    context = context_of(request.scope)
    decision = await _read_decision(request, context)
    model = await wired.feedback.run(lambda: find_model(store, feedback_id), caller=context.caller)
    if model is None:
        raise FeedbackNotFoundError("no feedback is kept under this id")
    target = await wired.catalog.resolve(Choice(model))
    label = find_label(decision.label, await wired.contracts.fetch(target.name, target.versions[0]))
    await wired.feedback.run(lambda: store.relabel(feedback_id, label), caller=context.caller)
    await _record(wired, context, "review", feedback_id, label=label)


@router.delete(
    "/v1/review/{feedback_id}",
    status_code=204,
    summary="Delete an image from the review",
    response_class=Response,
    responses=error_replies(401, 403, 404, 422, 429, 503),
)
async def delete_image(request: Request, feedback_id: Id, wired: Wired) -> None:
    """Delete an image and everything that is known of it."""
    wired.feedback.check_open()
    check_site(request)
    await wired.feedback.delete(feedback_id)
    await _record(wired, context_of(request.scope), "delete_feedback", feedback_id)


async def judge(wired: Components, context: RequestContext, kept: Kept, form: Form) -> None:
    """Keep what the model says of an image, for the order of the review; an image may stay without it."""
    store, given = wired.feedback.check_open(), kept.feedback
    with contextlib.suppress(GatewayError):
        async with wired.admission.place():
            top = PredictSignature(len(kept.contract.labels))
            answer = await wired.call.answer(context, Choice(given.model, given.version), form.uploads, top)
        entry = answer.entries[0]
        if isinstance(entry, Classified):
            judgement = _judge(entry, given.label)
            await wired.feedback.run(lambda: write_judgement(store, kept.id, judgement), caller=context.caller)


def _judge(entry: Classified, label: str) -> Judgement:
    first, second = entry.top[0], entry.top[1:2]
    margin = first.probability - (second[0].probability if second else 0.0)
    by_id = {prediction.id: float(prediction.probability) for prediction in entry.top}
    found = None if label == NO_LABEL else by_id.get(label)
    return Judgement(first.id, float(first.probability), float(margin), found, entry.warnings)


async def _list_classes(wired: Components, model: str) -> list[ClassName]:
    target = await wired.catalog.resolve(Choice(model))
    contract = await wired.contracts.fetch(target.name, target.versions[0])
    return [ClassName(id=label.id, name=label.name) for label in contract.labels]


async def _read_decision(request: Request, context: RequestContext) -> Decision:
    try:
        return Decision.model_validate_json(await join_chunks(request, context, _MAX_DECISION_BYTES))
    except BodyTooLargeError as err:
        raise BodyTooLargeError(
            f"request body is larger than a decision's limit of {_MAX_DECISION_BYTES:,} bytes"
        ) from err
    except ValidationError as err:
        error = err.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, error["loc"]))
        if not where:
            raise MalformedRequestError('expected JSON of the form {"label": "..."}') from err
        raise InvalidValueError(f"{where}: {error['msg']}") from err


def _describe(entry: Entry) -> ReviewEntry:
    return ReviewEntry(
        id=entry.id,
        created=datetime.fromtimestamp(entry.created, UTC).isoformat(timespec="seconds"),
        model=entry.model,
        version=entry.version,
        label=None if entry.label == NO_LABEL else entry.label,
        request_id=entry.request_id,
        note=entry.note,
        key=entry.key,
        reviewed=entry.reviewed,
        predicted=entry.predicted,
        probability=entry.probability,
        label_probability=entry.label_probability,
        warnings=list(entry.warnings),
        disagreement=entry.disagreement,
        uncertainty=entry.uncertainty,
    )


async def _record(wired: Components, context: RequestContext, action: str, feedback_id: str, **facts: str) -> None:
    if wired.audit is not None:
        await wired.audit.record(context, action, lambda: {"feedback": feedback_id, **facts})
