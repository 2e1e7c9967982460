"""Tries the versions that may answer a request in order, and resolves again when the served versions have changed."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from service.gateway.context.errors import BrokenContractError, GatewayError, NotLoadedError, VersionNotFoundError
from service.gateway.inference.contract_cache import ContractCache
from service.gateway.inference.version_resolution import Catalog, Choice, Target

_MAX_LOOKS = 2


class Attempts:
    """The versions to try for one request, an asynchronous iterator.

    Use it as `async for attempt in attempts: with attempt: return ...`, and `raise attempts.failure()` after the loop.
    It gives each version of the target once. If all fail, it resolves the choice once more and goes on if the catalogue
    says something new.

    Args:
        catalog: the served models.
        contracts: forgets a version that turns out not to be loaded.
        choice: what the request asks for.

    Raises:
        NotFoundError: while iterating, if there is no such model, version or label.
        GatewayError: while iterating, if the catalogue cannot be read.
    """

    __slots__ = ("_catalog", "_choice", "_contracts", "_error", "_num_looks", "_target", "_versions")

    def __init__(self, catalog: Catalog, contracts: ContractCache, choice: Choice) -> None:
        self._catalog = catalog
        self._contracts = contracts
        self._choice = choice
        self._num_looks = 0
        self._target: Target | None = None
        self._versions: Iterator[int] = iter(())
        self._error: GatewayError | None = None

    def __aiter__(self) -> Attempts:
        return self

    async def __anext__(self) -> Attempt:
        version = next(self._versions, None)
        if version is None:
            version = await self._look()
        if version is None or self._target is None:
            raise StopAsyncIteration
        return Attempt(self, self._target, version)

    async def _look(self) -> int | None:
        """Resolve the choice and return the first version to try; None if there is nothing new to try."""
        before = self._target
        if self._num_looks == _MAX_LOOKS or isinstance(self._error, VersionNotFoundError):
            return None
        if before is not None:
            self._catalog.invalidate(before.name)
        self._num_looks += 1
        self._target = await self._catalog.resolve(self._choice)
        if self._target == before:
            return None
        self._versions = iter(self._target.versions)
        return next(self._versions)

    def succeed(self, attempt: Attempt) -> None:
        """Note that a version answers."""
        if self._choice.is_open:
            self._catalog.record_answering(attempt.name, attempt.version)

    def fail(self, attempt: Attempt, error: NotLoadedError | BrokenContractError) -> None:
        """Note that a version does not answer; one that breaks its contract ends this look."""
        self._error = error
        if isinstance(error, NotLoadedError):
            self._contracts.drop(attempt.name, attempt.version)
            self._error = missing_version(attempt.target)
            self._error.__cause__ = error
        else:
            self._versions = iter(())

    def failure(self) -> GatewayError:
        """Return the error of a request that no version has answered."""
        return self._error or NotLoadedError(f"{self._choice.model} has no version that may answer")


class Attempt:
    """One version to try, a context manager: it takes the errors after which another version may answer.

    Attributes:
        target: what the request resolved to.
        version: a version number of it.
    """

    __slots__ = ("_attempts", "target", "version")

    def __init__(self, attempts: Attempts, target: Target, version: int) -> None:
        self._attempts = attempts
        self.target = target
        self.version = version

    @property
    def name(self) -> str:
        """The model."""
        return self.target.name

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None:
            self._attempts.succeed(self)
        elif isinstance(error, NotLoadedError | BrokenContractError):
            self._attempts.fail(self, error)
            return True
        return False


def missing_version(target: Target) -> NotLoadedError | VersionNotFoundError:
    """Name the missing version: one that the catalog lists is late, another one does not exist."""
    versions = " or ".join(str(version) for version in target.versions)
    if target.promised:
        return NotLoadedError(f"version {versions} of {target.name} is not loaded on the model server yet")
    return VersionNotFoundError(f"{target.name} has no version {versions} on the model server")
