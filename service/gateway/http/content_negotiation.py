"""Chooses between two media types by the Accept header (RFC 9110, 12.5.1)."""

from __future__ import annotations

from starlette.requests import Request


def read_accept(request: Request) -> str:
    """Returns the Accept header, several as one list (RFC 9110, 5.3); empty without one."""
    return ",".join(request.headers.getlist("accept"))


def prefers(accept: str, wanted: str, default: str) -> bool:
    """Return True if a client asks for `wanted` and prefers it to `default`.

    Args:
        accept: the Accept header; what cannot be read in it counts as absent.
        wanted: a media type, such as "image/png".
        default: sent to a client without a preference.
    """
    quality: dict[str, float] = {}
    for item in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        quality[kind] = max(quality.get(kind, 0.0), _read_quality(parameters))
    return _rate(quality, wanted) > _rate(quality, default)


def _rate(quality: dict[str, float], kind: str) -> float:
    """Return a type's quality by the most specific range that has it."""
    ranges = (kind, kind.split("/")[0] + "/*", "*/*")
    return next((quality[name] for name in ranges if name in quality), 0.0)


def _read_quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
