"""POST and DELETE /v1/feedback: images that people have labelled, for the next training."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from service.gateway.access.same_site import check_site
from service.gateway.components import Wired
from service.gateway.context.request_context import context_of
from service.gateway.documentation.error_responses import error_replies
from service.gateway.documentation.groups import FOVEA
from service.gateway.images.uploads import Form, UploadLimits, read_form
from service.gateway.records.audit_log import hash_bytes
from service.gateway.records.feedback import FIELDS, FeedbackForm, Kept
from service.gateway.routes.request_schemas import image_form
from service.gateway.routes.review import judge

router = APIRouter(tags=[FOVEA])

_SAMPLE = (
    "curl -F file=@eye.jpg -F label=glaucoma -F consent=true -F request_id=4ca9fa8e5632407d895c9c25feb437b6 "
    "http://127.0.0.1:8000/v1/feedback"
)


class FeedbackReply(BaseModel):
    """Reply of POST /v1/feedback."""

    id: str = Field(description="To delete it by.", examples=["0d5f8c4e4c5f4f0c8f6f3f1b5f1e9a77"])
    model: str = Field(description="The model whose training set it belongs to.")
    label: str = Field(description="Id of the true class.")
    request_id: str


@router.post(
    "/v1/feedback",
    status_code=201,
    summary="Tell the true class of an image",
    responses=error_replies(400, 401, 403, 404, 409, 413, 415, 422, 429, 503),
    openapi_extra=image_form(FeedbackForm, "A form with the image and its true class.", sample=_SAMPLE),
)
async def give_feedback(request: Request, wired: Wired) -> FeedbackReply:
    """Keep an image with its true class for a later training, if this service takes feedback.

    Of the file only the picture is kept: no EXIF data, no thumbnail, no file name. The same image with the same label
    is kept once; under another label it is refused until the first is deleted. It goes when it is deleted by its id,
    or after the days that the service keeps feedback.
    """
    wired.feedback.check_open()
    check_site(request)
    context = context_of(request.scope)
    limits = UploadLimits(wired.settings.max_body_bytes, 1)
    form = await read_form(request, context, limits, fields=FIELDS)
    kept = await wired.feedback.keep(form, context)
    await judge(wired, context, kept, form)
    if wired.audit is not None:
        await wired.audit.record(context, "feedback", partial(_describe_kept, kept, form))
    return FeedbackReply(id=kept.id, model=kept.feedback.model, label=kept.feedback.label, request_id=context.id)


@router.delete(
    "/v1/feedback/{feedback_id}",
    status_code=204,
    summary="Delete feedback",
    response_class=Response,
    responses=error_replies(401, 403, 404, 422, 429, 503),
)
async def delete_feedback(
    request: Request,
    feedback_id: Annotated[str, Path(max_length=64, description="As the service gave it.")],
    wired: Wired,
) -> None:
    """Delete an image and everything that is known of it."""
    wired.feedback.check_open()
    check_site(request)
    await wired.feedback.delete(feedback_id)
    if wired.audit is not None:
        await wired.audit.record(context_of(request.scope), "delete_feedback", lambda: {"feedback": feedback_id})


def _describe_kept(kept: Kept, form: Form) -> dict[str, Any]:
    given = kept.feedback
    return {
        "model": given.model,
        "version": given.version,
        "contract": given.contract,
        "images": [{"sha256": hash_bytes(form.uploads[0].data), "label": given.label}],
        "feedback": kept.id,
    }
