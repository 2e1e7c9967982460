"""The gateway as an ASGI app, made by a function from its settings: no globals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI

from service import VERSION
from service.gateway.components import Components, build_components, components_of
from service.gateway.context.settings import Settings
from service.gateway.documentation.openapi import install_openapi
from service.gateway.documentation.schemas import PredictQuery
from service.gateway.http.addressing import install_addressing
from service.gateway.http.authorization import install_access
from service.gateway.http.cancellation import RequestCancellation
from service.gateway.http.cors import install_cors, install_preflights
from service.gateway.http.error_replies import install_error_handlers
from service.gateway.http.heads import AnswerHead
from service.gateway.http.middleware import RequestScope
from service.gateway.http.plain_route import plain_route
from service.gateway.routes import (
    embed,
    explain,
    feedback,
    health,
    models,
    open_inference,
    openapi,
    page,
    predict,
    review,
    tensorflow,
)
from service.gateway.telemetry.tracing import TraceRequests

_DESCRIPTION = (
    'Image classification over HTTP. Errors have the body `{"error": {"code", "message", "request_id"}}`; '
    "`X-Request-ID` is echoed, or made."
)
# FastAPI's own telemetry traces every dependency of every request; metrics and logs are done here.
_NO_TELEMETRY: Any = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}

_ROUTES = (predict, explain, embed, tensorflow, open_inference, feedback, review, models, health, openapi, page)


def create_app(settings: Settings, components: Components | None = None) -> FastAPI:
    """Build the gateway; it connects to the model server when its lifespan starts.

    Args:
        settings: everything that can be set.
        components: the parts to use, if they are not to be built from the settings.
    """
    app = FastAPI(
        title="Fovea",
        version=VERSION,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # routes/openapi.py, which knows the prefix
        redirect_slashes=False,
        lifespan=_run_components,
        telemetry=_NO_TELEMETRY,
    )
    app.state.components = components or build_components(settings)
    hot = plain_route("/v1/predict", predict.predict, query=PredictQuery, components=app.state.components)
    app.router.routes.insert(0, hot)  # FastAPI's own route of this path documents it
    for routes in _ROUTES:
        app.include_router(routes.router)
    install_openapi(app)
    app.add_middleware(AnswerHead)
    every_route = [route for routes in _ROUTES for route in routes.router.routes]
    install_error_handlers(app, routes=every_route)
    app.add_middleware(RequestCancellation, admission=app.state.components.admission, routes=every_route)
    install_access(app, settings, routes=every_route)
    if app.state.components.tracing is not None:
        app.add_middleware(TraceRequests, tracer=app.state.components.tracing.tracer)
    install_preflights(app, settings, routes=every_route)
    app.add_middleware(RequestScope, metrics=app.state.components.metrics)
    install_cors(app, settings)
    install_addressing(app, settings, routes=every_route)
    return app


@contextlib.asynccontextmanager
async def _run_components(app: FastAPI) -> AsyncIterator[None]:
    parts = components_of(app)
    await parts.backend.open()
    watches = [asyncio.create_task(part.watch()) for part in (parts.readiness, parts.feedback, parts.trials)]
    try:
        yield
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        await parts.trials.close()
        parts.decoder.close()
        await asyncio.to_thread(parts.json_bodies.close)
        parts.feedback.close()
        if parts.audit is not None:
            await parts.audit.close()
        if parts.tracing is not None:
            await asyncio.to_thread(parts.tracing.close)
        await parts.backend.close()  # last: a model server of this process may be loading a version
