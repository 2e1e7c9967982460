"""Liveness, readiness and metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.gateway.components import Wired
from service.gateway.context.errors import NotFoundError, NotReadyError
from service.gateway.documentation.error_responses import error_replies
from service.gateway.documentation.groups import ADMINISTRATION
from service.gateway.documentation.schemas import HealthReply, ReadyReply

router = APIRouter(tags=[ADMINISTRATION])


@router.get("/healthz", summary="Is the process alive?")
async def report_health() -> HealthReply:
    """Say that the process answers; says nothing about models."""
    return HealthReply(status="ok")


@router.get(
    "/readyz",
    summary="Can requests be answered?",
    responses=error_replies(503),
    response_model_exclude_none=True,
)
async def report_readiness(wired: Wired) -> ReadyReply:
    """Say whether every live model has answered a warm prediction, or failed for good; a 503 names the missing part.

    A model that becomes live while the gateway is ready is named in `pending` until it answers. A model without a live
    version is not waited for.
    """
    readiness = wired.readiness
    if readiness.waiting_for is not None:
        raise NotReadyError(readiness.waiting_for)
    return ReadyReply(
        status="ready", models=readiness.models, pending=readiness.pending or None, failed=readiness.failed or None
    )


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def report_metrics(wired: Wired) -> Response:
    """Return the gateway's metrics in Prometheus's text format; 404 when they have a port of their own."""
    if wired.settings.metrics_port is not None:
        raise NotFoundError("the metrics are on another port of this gateway")
    return Response(wired.metrics.expose(), media_type=CONTENT_TYPE_LATEST)
