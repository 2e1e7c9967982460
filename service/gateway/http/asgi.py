"""The gateway's middleware, outside of FastAPI's own: a request that takes the short way meets none of the latter."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.gateway.http.heads import AnswerHead


class GatewayApp(FastAPI):
    """FastAPI, but what `add_middleware` adds surrounds all of it.

    Its handling of errors of last resort is left out: `RequestScope`, the outermost layer, answers those.
    """

    def build_middleware_stack(self) -> ASGIApp:
        """Return the app inside its middleware."""
        middleware, self.user_middleware = self.user_middleware, []
        try:
            app = super().build_middleware_stack()
        finally:
            self.user_middleware = middleware
        if isinstance(app, ServerErrorMiddleware):
            app = app.app
        app = AnswerHead(app)
        for cls, args, kwargs in reversed(middleware):
            app = cls(app, *args, **kwargs)
        return app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        if scope["type"] == "http" and self.middleware_stack is not None:
            scope["app"] = self
            await self.middleware_stack(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)
