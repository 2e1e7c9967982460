"""Fetches each version's contract from the model server and keeps it while the version is loaded."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Collection

from contract.model import ModelContract
from service.gateway.backend.model_server import ModelServer

Key = tuple[str, int]


class ContractCache:
    """The contracts of loaded versions, by name and version."""

    def __init__(self, backend: ModelServer) -> None:
        self._backend = backend
        self._generation = backend.generation
        self._fetches: dict[Key, asyncio.Task[ModelContract]] = {}

    async def fetch(self, name: str, version: int) -> ModelContract:
        """Return a version's contract; the first caller asks the model server, others wait for its answer.

        Raises:
            GatewayError: as `Backend.describe`; failures are not remembered.
        """
        self._forget_old_connection()
        key = (name, version)
        fetch = self._fetches.get(key)
        if fetch is not None and fetch.done() and not fetch.cancelled() and fetch.exception() is None:
            return fetch.result()
        if fetch is None:
            # Requests share this answer: it carries no request's log fields, span or deadline.
            fetch = asyncio.create_task(self._backend.describe(name, version), context=contextvars.Context())
            self._fetches[key] = fetch
            fetch.add_done_callback(lambda done: self._forget_failure(key, done))
        # Shielded: a caller that leaves does not take the answer from the others.
        return await asyncio.shield(fetch)

    def peek(self, name: str, version: int) -> ModelContract | None:
        """Return a version's contract if it is known, without asking."""
        self._forget_old_connection()
        fetch = self._fetches.get((name, version))
        return fetch.result() if fetch is not None and _has_result(fetch) else None

    def known(self) -> dict[Key, ModelContract]:
        """Return the contracts of all versions that are known to be loaded; from any thread."""
        fetches = list(self._fetches.items())
        return {key: fetch.result() for key, fetch in fetches if _has_result(fetch)}

    def drop(self, name: str, version: int) -> None:
        """Forget a version that is no longer loaded."""
        self._fetches.pop((name, version), None)

    def keep_only(self, name: str, versions: Collection[int]) -> None:
        """Forget a model's versions that are not among those given."""
        for key in [key for key in self._fetches if key[0] == name and key[1] not in versions]:
            del self._fetches[key]

    def _forget_old_connection(self) -> None:
        if self._generation != self._backend.generation:
            self._generation = self._backend.generation
            self._fetches.clear()

    def _forget_failure(self, key: Key, fetch: asyncio.Task[ModelContract]) -> None:
        if (fetch.cancelled() or fetch.exception() is not None) and self._fetches.get(key) is fetch:
            del self._fetches[key]


def _has_result(fetch: asyncio.Task[ModelContract]) -> bool:
    return fetch.done() and not fetch.cancelled() and fetch.exception() is None
