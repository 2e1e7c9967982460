"""Log lines of the gateway's process: time, level, request id, text."""

from __future__ import annotations

import logging
import sys

from service.gateway.request_context import current_request_id

_FORMAT = "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"


class _AddRequestId(logging.Filter):
    """Gives every record the id of the request in whose context it was logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = current_request_id()
        return True


def set_up_logging(level: str) -> None:
    """Send the process's log to stderr; for `main` only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_AddRequestId())
    handler.setFormatter(logging.Formatter(_FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # uvicorn's own start and stop messages say nothing that the gateway does not say.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
