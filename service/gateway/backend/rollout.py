"""Decides when a new version answers requests that name none: once a quorum of the model servers has it."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger("fovea.backend")

QUORUM = 0.8  # of the servers that are ready


class Rollout:
    """The versions that answer requests without version or label, by model.

    A version that has taken over stays, however few servers have it later: servers that start or lag do not bring the
    previous one back.

    Args:
        wait_s: longest wait for the quorum after the first server has a version, seconds.
    """

    def __init__(self, *, wait_s: float) -> None:
        self._wait_s = wait_s
        self._settled: dict[str, int] = {}
        self._first_seen: dict[tuple[str, int], float] = {}

    def is_settled(self, name: str, version: int) -> bool:
        """Say whether a version has taken over."""
        return self._settled.get(name) == version

    def judge(self, name: str, version: int, *, num_with: int, num_ready: int) -> bool:
        """Let a version take over if it may, and say whether it has.

        Args:
            name: the model.
            version: that is to answer.
            num_with: servers that have it loaded.
            num_ready: servers that have any version of the model loaded, and new ones that have not told yet.
        """
        if self.is_settled(name, version):
            return True
        if not num_with:
            self._first_seen.pop((name, version), None)
            return False
        waited_s = time.monotonic() - self._first_seen.setdefault((name, version), time.monotonic())
        has_quorum = num_with >= QUORUM * num_ready
        if not has_quorum and waited_s < self._wait_s:
            return False
        message = "%s version %d answers: %d of %d model servers have it"
        logger.log(logging.INFO if has_quorum else logging.WARNING, message, name, version, num_with, num_ready)
        self._settled[name] = version
        for key in [key for key in self._first_seen if key[0] == name]:
            del self._first_seen[key]
        return True
