"""Chooses the requests that a canary answers, by a sticky hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from contract.trials.trial import Trial
from service.gateway.context.request_context import RequestContext

_MAX_BYTES = 256


def is_chosen(name: str, trial: Trial, subject: str) -> bool:
    """Say whether the candidate answers a subject: the same one on every gateway, and still when the share grows."""
    digest = hashlib.sha256(f"{name}/{trial.version}\n{subject}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < trial.canary * 2**64


def subject_of(context: RequestContext, header: bytes) -> str:
    """Return what the hash is of: the API key's name, else the header's value, else the request's id.

    Args:
        context: of the request.
        header: the name, in lower case.
    """
    if context.key is not None:
        return f"key {context.key}"
    value = _find(context.headers, header)
    return f"request {context.id}" if not value else f"session {value[:_MAX_BYTES].decode('latin-1')}"


def _find(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    return next((value for key, value in headers if key == name), None)
