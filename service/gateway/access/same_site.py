"""Refuses requests for stored images from pages of other sites."""

from __future__ import annotations

from fastapi import Request

from service.gateway.context.errors import ForbiddenError


def check_site(request: Request) -> None:
    """Refuse requests from pages of other sites: without keys, they could fill or read the training set.

    Raises:
        ForbiddenError: if a browser marks the request as another site's.
    """
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise ForbiddenError(
            "feedback is refused from pages of other sites; send it from this service's page or from a program"
        )
