"""The response of a route that writes its own JSON."""

from starlette.responses import Response


class JsonResponse(Response):
    """A response whose content is JSON text already; Starlette's JSONResponse would write it."""

    media_type = "application/json"
