"""Refuses requests for stored images from pages of other sites."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request

from service.gateway.context.errors import ForbiddenError


def check_site(request: Request) -> None:
    """Refuse requests from pages of other sites: without keys, they could fill or read the training set.

    Browsers send Sec-Fetch-Site over HTTPS and to this machine alone (Fetch Metadata, section 2); over plain HTTP,
    Origin is compared with Host, which a proxy has to pass on.

    Raises:
        ForbiddenError: if a browser marks the request as another site's.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_other = site not in ("none", "same-origin")
    else:
        is_other = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if is_other:
        raise ForbiddenError(
            "feedback is refused from pages of other sites; send it from this service's page or from a program"
        )
