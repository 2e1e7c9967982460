"""GET /v1/models and /v1/models/{model}: what is served, in which state."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Path

from service.gateway.backend import VersionStatus
from service.gateway.components import Components, Wired
from service.gateway.errors import GatewayError, ModelNotFoundError
from service.gateway.routes.documented import error_replies
from service.gateway.schemas import LoadStatus, ModelReply, ModelsReply, ModelSummary, VersionState

router = APIRouter(tags=["models"])

_LOAD_FAILED = "the version failed to load; the model server's log says why"


@router.get("/v1/models", summary="List the models")
async def list_models(wired: Wired) -> ModelsReply:
    """Return every model with its versions; the state is UNKNOWN while the model server does not answer."""
    models = []
    for name in wired.catalog.names():
        try:
            labels, states = await _look_up(wired, name)
        except ModelNotFoundError:
            continue  # it left the index in the meantime
        models.append(ModelSummary(name=name, labels=labels, model_version_status=states))
    return ModelsReply(models=models)


@router.get("/v1/models/{model}", summary="Describe a model", responses=error_replies(404, 422))
async def describe_model(model: Annotated[str, Path(max_length=64)], wired: Wired) -> ModelReply:
    """Return a model's versions, states, labels and contract; a superset of TensorFlow Serving's model status."""
    labels, states = await _look_up(wired, model)
    live = labels.get("live")
    contract = None
    if live is not None:
        try:
            contract = await wired.contracts.fetch(model, live)
        except GatewayError:
            contract = None  # the states say why
    return ModelReply(
        name=model,
        labels=labels,
        model_version_status=states,
        contract=None if contract is None else dict(contract.document),
    )


async def _look_up(wired: Components, name: str) -> tuple[dict[str, int], list[VersionState]]:
    """Return a model's labels, and its versions newest first: those that are listed, loaded or failed."""
    try:
        labels = dict(await wired.catalog.roles(name))
    except ModelNotFoundError:
        raise
    except GatewayError:
        labels = {}  # without a store, labels come from the model server, which does not answer
    states = {version: VersionStatus(version, "UNKNOWN", "OK") for version in labels.values()}
    with contextlib.suppress(GatewayError):  # not loaded, or not to be asked: UNKNOWN is what is known then
        # TensorFlow Serving lists unloaded versions for ever, as END without an error.
        states |= {s.version: s for s in await wired.backend.status(name) if s.state != "END" or s.error_code != "OK"}
    return labels, [_build_state(wired, name, status=states[v], labels=labels) for v in sorted(states, reverse=True)]


def _build_state(wired: Components, name: str, *, status: VersionStatus, labels: Mapping[str, int]) -> VersionState:
    contract = wired.contracts.peek(name, status.version)
    return VersionState(
        version=str(status.version),
        state=status.state,
        status=LoadStatus(
            error_code=status.error_code, error_message="" if status.error_code == "OK" else _LOAD_FAILED
        ),
        labels=[label for label, version in labels.items() if version == status.version],
        contract=None if contract is None else contract.sha256,
    )
