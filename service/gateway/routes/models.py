"""GET /v1/models and /v1/models/{model}: the served models with their state.

A model's document is TensorFlow Serving's GetModelStatusResponse, which its clients parse strictly; with
`Accept: application/vnd.fovea+json` it is Fovea's own, with labels and contract.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Response

from service.gateway.backend.backend import VersionStatus
from service.gateway.components import Components, Wired
from service.gateway.context.errors import (
    GatewayError,
    InvalidValueError,
    LabelNotFoundError,
    ModelNotFoundError,
    VersionNotFoundError,
)
from service.gateway.documentation.error_responses import error_replies
from service.gateway.documentation.groups import FOVEA
from service.gateway.documentation.schemas import (
    LoadStatus,
    ModelReply,
    ModelsReply,
    ModelStatusReply,
    ModelSummary,
    TrialFigures,
    TrialState,
    VersionState,
    VersionStatusEntry,
)
from service.gateway.http.content_negotiation import prefers, read_accept
from service.gateway.http.json_response import JsonResponse

router = APIRouter(tags=[FOVEA])

Model = Annotated[str, Path(max_length=64, description="The model's name.", examples=["glaucoma"])]
_NUMBER: dict[str, Any] = {"pattern": "^[1-9][0-9]{0,17}$"}  # checked by hand: a GET of 1:predict is not a wrong number
Version = Annotated[str, Path(description="A version number.", examples=["3"], json_schema_extra=_NUMBER)]
Label = Annotated[str, Path(description="live, previous or candidate.", examples=["live"])]

FULL_DOCUMENT = "application/vnd.fovea+json"
# The schemas that it refers to are in the document already: GET /v1/models replies with them.
_FULL_SCHEMA = ModelReply.model_json_schema(ref_template="#/components/schemas/{model}")
del _FULL_SCHEMA["$defs"]
Accept = Annotated[str, Depends(read_accept)]
_REPLIES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "TensorFlow Serving's model status; labels and contract too with "
        "`Accept: application/vnd.fovea+json`.",
        "content": {FULL_DOCUMENT: {"schema": _FULL_SCHEMA}},
    },
    **error_replies(404, 422),
}
_VARY = {"vary": "accept"}
_LOAD_FAILED = "the version failed to load; the model server's log says why"


@router.get("/v1/models", summary="List the models")
async def list_models(wired: Wired) -> ModelsReply:
    """Return every model with its versions; the state is UNKNOWN while the model server does not answer."""
    models = []
    for name in sorted({*wired.catalog.names(), *wired.catalog.unpromoted()}):
        try:
            labels, states = await _look_up(wired, name)
        except ModelNotFoundError:
            continue  # it left the index in the meantime
        trial = _describe_trial(wired, name)
        models.append(ModelSummary(name=name, labels=labels, model_version_status=states, trial=trial))
    return ModelsReply(models=models)


@router.get("/v1/models/{model}", summary="Describe a model", response_model=ModelStatusReply, responses=_REPLIES)
async def describe_model(model: Model, wired: Wired, accept: Accept) -> Response:
    """Returns the state of each version of a model; Fovea's own document has labels and the live version's contract."""
    _check_name(model)
    labels, states = await _look_up(wired, model)
    live = labels.get("live")
    return await _reply(wired, model, accept, labels=labels, states=states, version=live)


@router.get(
    "/v1/models/{model}/versions/{version}",
    summary="Describe a version of a model",
    response_model=ModelStatusReply,
    responses=_REPLIES,
)
async def describe_version(model: Model, version: Version, wired: Wired, accept: Accept) -> Response:
    """Returns one version's state; Fovea's own document has its labels and contract."""
    number = _read_version(version)
    labels, states = await _look_up(wired, model)
    found = [state for state in states if state.version == version]
    if not found:
        known = ", ".join(state.version for state in states)
        raise VersionNotFoundError(f"{model} has no version {version}. Known: {known}")
    return await _reply(wired, model, accept, labels=labels, states=found, version=number)


@router.get(
    "/v1/models/{model}/labels/{label}",
    summary="Describe the version with a label",
    response_model=ModelStatusReply,
    responses=_REPLIES,
)
async def describe_label(model: Model, label: Label, wired: Wired, accept: Accept) -> Response:
    """Returns the state of the version that a label stands for; Fovea's own document has its labels and contract."""
    _check_name(label)
    labels, states = await _look_up(wired, model)
    if label not in labels:
        raise LabelNotFoundError(f"{model} has no version labelled {label[:64]!r}. Labels: {', '.join(labels)}")
    found = [state for state in states if state.version == str(labels[label])]
    return await _reply(wired, model, accept, labels=labels, states=found, version=labels[label])


def _read_version(text: str) -> int:
    """Return a version number.

    Raises:
        InvalidValueError: if the text is none.
    """
    _check_name(text)
    if not re.fullmatch("[1-9][0-9]{0,17}", text):
        raise InvalidValueError(f"version: expected a number from 1 on. Received: {text[:64]!r}")
    return int(text)


def _check_name(name: str) -> None:
    """Refuse a GET of a method of TensorFlow Serving's: names and labels have no colon.

    Raises:
        HTTPException: 405, with the allowed methods.
    """
    if ":" in name:
        raise HTTPException(405, headers={"Allow": "POST"})


async def _reply(
    wired: Components,
    name: str,
    accept: str,
    *,
    labels: dict[str, int],
    states: list[VersionState],
    version: int | None,
) -> Response:
    """Returns the document that the client's Accept header asks for."""
    if prefers(accept, FULL_DOCUMENT, "application/json"):
        full = await _build_document(wired, name, labels=labels, states=states, version=version)
        return Response(full.model_dump_json(), media_type=FULL_DOCUMENT, headers=_VARY)
    fields = VersionStatusEntry.model_fields.keys()
    entries = [VersionStatusEntry.model_validate(state.model_dump(include=set(fields))) for state in states]
    return JsonResponse(ModelStatusReply(model_version_status=entries).model_dump_json(), headers=_VARY)


async def _build_document(
    wired: Components, name: str, *, labels: dict[str, int], states: list[VersionState], version: int | None
) -> ModelReply:
    contract = None
    if version is not None:
        with contextlib.suppress(GatewayError):  # the states say why there is none
            found = await wired.contracts.fetch(name, version)
            contract = dict(found.document)
            known = {"contract": found.sha256, "precision": wired.backend.precisions.get((name, version))}
            states = [s.model_copy(update=known) if s.version == str(version) else s for s in states]
    trial = _describe_trial(wired, name)
    return ModelReply(name=name, labels=labels, model_version_status=states, contract=contract, trial=trial)


def _describe_trial(wired: Components, name: str) -> TrialState | None:
    trial = wired.trials.current().get(name)
    if trial is None:
        return None
    figures = wired.trials.figures(name, trial)
    found = {kind: TrialFigures(**item.summary()) for kind, item in figures.items() if not item.is_empty}
    return TrialState(**trial.as_document(), found=found)


async def _look_up(wired: Components, name: str) -> tuple[dict[str, int], list[VersionState]]:
    """Return a model's labels, and its versions newest first: those that are listed, loaded or failed."""
    try:
        labels = dict(await wired.catalog.roles(name))
    except ModelNotFoundError:
        raise
    except GatewayError:
        labels = {}  # without a store, labels come from the model server, which does not answer
    states = {version: VersionStatus(version, "UNKNOWN", "OK") for version in labels.values()}
    with contextlib.suppress(GatewayError):  # not loaded, or no answer: the state is UNKNOWN
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
        precision=None if contract is None else wired.backend.precisions.get((name, status.version)),
    )
