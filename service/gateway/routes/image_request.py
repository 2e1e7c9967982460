"""Reads a request with images and records its answer, for the routes of predictions, explanations and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from fastapi import Request

from service.gateway.components import Components
from service.gateway.context.errors import InvalidValueError
from service.gateway.context.request_context import RequestContext, context_of
from service.gateway.documentation.schemas import VersionQuery
from service.gateway.images.uploads import Upload, UploadLimits, read_uploads
from service.gateway.inference.image_results import Answer, Classified, Embedded, Explanation
from service.gateway.inference.version_resolution import Choice
from service.gateway.records.audit_log import describe_answer


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A request with images.

    Attributes:
        context: of the request.
        choice: model, and version or label.
        uploads: at least one image.
    """

    context: RequestContext
    choice: Choice
    uploads: Sequence[Upload]

    @property
    def names(self) -> list[str]:
        """The images' names, in order."""
        return [upload.name for upload in self.uploads]


async def read_image_request(request: Request, query: VersionQuery, wired: Components) -> ImageRequest:
    """Read a request's images and its choice of a version.

    Raises:
        InvalidValueError: if the query has both a version and a label.
        GatewayError: as `read_uploads`.
    """
    if query.version is not None and query.label is not None:
        raise InvalidValueError("version, label: expected one of them. Received: both")
    context = context_of(request.scope)
    limits = UploadLimits(wired.settings.max_body_bytes, wired.settings.max_images)
    with wired.metrics.stage("read"):
        uploads = await read_uploads(request, context, limits, wired.json_bodies)
    return ImageRequest(context, Choice(query.model, query.version, query.label), uploads)


async def record_answer(
    wired: Components,
    asked: ImageRequest,
    answer: Answer[Classified] | Answer[Explanation] | Answer[Embedded],
    *,
    action: str,
) -> None:
    """Write an answer to the audit log, where one is kept."""
    if wired.audit is not None:
        await wired.audit.record(asked.context, action, partial(describe_answer, answer, asked.uploads))
