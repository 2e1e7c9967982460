"""One request, one version: try the versions that may answer, and look again when what is served has changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.gateway.context.errors import BrokenContractError, NotLoadedError, VersionNotFoundError
from service.gateway.inference.catalog import Catalog, Choice, Target
from service.gateway.inference.contracts import ContractCache

T = TypeVar("T")


async def answer_by_one_version(
    catalog: Catalog,
    contracts: ContractCache,
    choice: Choice,
    attempt: Callable[[str, int], Awaitable[T]],
    *,
    by_newest: Callable[[Target], Awaitable[T]] | None = None,
) -> T:
    """Return what `attempt(name, version)` gives for the first version that is loaded.

    Args:
        catalog: what is served.
        contracts: forgets a version that turns out not to be loaded.
        choice: what the request asks for.
        attempt: answers by exactly this version.
        by_newest: answers where the model server may choose the version; without it, `attempt` does.

    Raises:
        NotFoundError: if there is no such model, version or label.
        NotLoadedError: if no version that may answer is loaded.
        GatewayError: as `attempt`.
    """

    async def attempt_and_record(name: str, version: int) -> T:
        answer = await attempt(name, version)
        if choice.version is None and choice.label in (None, "live"):
            catalog.record_answering(name, version)
        return answer

    target = await catalog.resolve(choice)
    try:
        return await _answer(contracts, target, attempt_and_record, by_newest)
    except (NotLoadedError, BrokenContractError):
        # Perhaps what is served changed since the catalogue last looked: once more, if it says something new.
        catalog.invalidate(target.name)
        renewed = await catalog.resolve(choice)
        if renewed == target:
            raise
        return await _answer(contracts, renewed, attempt_and_record, by_newest)


async def _answer(
    contracts: ContractCache,
    target: Target,
    attempt: Callable[[str, int], Awaitable[T]],
    by_newest: Callable[[Target], Awaitable[T]] | None,
) -> T:
    if by_newest is not None and not target.pinned:
        return await by_newest(target)
    last: NotLoadedError | None = None
    for version in target.versions:
        try:
            return await attempt(target.name, version)
        except NotLoadedError as err:
            contracts.drop(target.name, version)
            last = err
    raise missing_version(target) from last


def missing_version(target: Target) -> NotLoadedError | VersionNotFoundError:
    """Say what is missing: a version that the catalogue promises is late, another one does not exist."""
    versions = " or ".join(str(version) for version in target.versions)
    if target.promised:
        return NotLoadedError(f"version {versions} of {target.name} is not loaded on the model server yet")
    return VersionNotFoundError(f"{target.name} has no version {versions} on the model server")
