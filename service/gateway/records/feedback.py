"""Feedback: an image again, with the class that it really has, checked against the model and kept without metadata."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from contract.errors import ImageError
from contract.image import open_image
from contract.model import ModelContract
from service.gateway.bodies.turns import Turns
from service.gateway.context.errors import InvalidValueError, NotFoundError, RefusedImageError, StorageError
from service.gateway.context.request_context import ANONYMOUS, ID_PATTERN, RequestContext
from service.gateway.images.decoding import Decoder
from service.gateway.images.uploads import Form
from service.gateway.inference.contract_cache import ContractCache
from service.gateway.inference.version_resolution import Catalog, Choice
from service.gateway.records.clean_images import clean_image
from service.gateway.records.feedback_store import NO_LABEL, Feedback, FeedbackStore, is_folder_name

logger = logging.getLogger("fovea.feedback")

T = TypeVar("T")
_PURGE_INTERVAL_S = 3600.0
_MAX_NOTE = 2000


class FeedbackForm(BaseModel):
    """The texts of a feedback form."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field(min_length=1, max_length=200, description="Id of the true class, or its name.")
    consent: Literal["true"] = Field(
        description="true: the person who may consent agrees that the image is kept and used for training."
    )
    model: str | None = Field(
        None, min_length=1, max_length=64, description="The model; may be left out when exactly one is served."
    )
    version: int | None = Field(None, ge=1, le=2**63 - 1, description="The version that predicted, if it matters.")
    request_id: Annotated[str, Field(pattern=f"^{ID_PATTERN}$")] | None = Field(
        None, description="request_id of the prediction."
    )
    note: str | None = Field(None, max_length=_MAX_NOTE, description="Free text; leave out names of people.")

    @field_validator("model", "version", "request_id", "note", mode="before")
    @classmethod
    def _drop_empty(cls, value: object) -> object:
        return None if value == "" else value


FIELDS = frozenset(FeedbackForm.model_fields)


class QueueForm(BaseModel):
    """The texts of a form that queues an image without a label for review."""

    model_config = ConfigDict(extra="forbid")

    consent: Literal["true"] = Field(
        description="true: the person who may consent agrees that the image is kept and used for training."
    )
    model: str | None = Field(
        None, min_length=1, max_length=64, description="The model; may be left out when exactly one is served."
    )

    @field_validator("model", mode="before")
    @classmethod
    def _drop_empty(cls, value: object) -> object:
        return None if value == "" else value


QUEUE_FIELDS = frozenset(QueueForm.model_fields)
Texts = TypeVar("Texts", FeedbackForm, QueueForm)


@dataclass(frozen=True, slots=True)
class Kept:
    """The outcome of one feedback.

    Attributes:
        id: to delete it by.
        feedback: as it was stored.
        contract: of the version whose labels were looked at.
    """

    id: str
    feedback: Feedback
    contract: ModelContract


class FeedbackDesk:
    """Takes feedback, one image at a time, callers in turns, off the event loop.

    Args:
        store: where it goes; None if none is taken.
        catalog: the served models.
        contracts: the labels and inputs of versions.
        decoder: says which images take too long to decode.
        max_pixels: refuse images whose header declares more.
    """

    def __init__(
        self,
        store: FeedbackStore | None,
        catalog: Catalog,
        *,
        contracts: ContractCache,
        decoder: Decoder,
        max_pixels: int,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._contracts = contracts
        self._decoder = decoder
        self._max_pixels = max_pixels
        self._turns = Turns(1, name="feedback")

    def check_open(self) -> FeedbackStore:
        """Return the store.

        Raises:
            NotFoundError: if no feedback is taken.
        """
        if self._store is None:
            raise NotFoundError("no feedback is taken here: the gateway was started without a folder for it")
        return self._store

    async def keep(self, form: Form, context: RequestContext) -> Kept:
        """Keep an image with its true label.

        Args:
            form: one image, and the texts of `FeedbackForm`.
            context: of the request.

        Raises:
            InvalidValueError: if a text is wrong, or the label is none of the model's.
            RefusedImageError: if the image cannot be decoded.
            GatewayError: if the model is not known or the store fails.
        """
        texts = _parse(form.texts, FeedbackForm)
        name, version, contract = await self._find_version(Choice(texts.model, texts.version))
        label = find_label(texts.label, contract)
        return await self._keep(
            form,
            Feedback(name, version, contract.sha256, label, texts.request_id, texts.note, context.key),
            contract,
            context,
        )

    async def queue(self, form: Form, context: RequestContext) -> Kept:
        """Keep an image without a label until a reviewer gives it one; arguments and errors as `keep`."""
        texts = _parse(form.texts, QueueForm)
        name, version, contract = await self._find_version(Choice(texts.model))
        feedback = Feedback(name, version, contract.sha256, NO_LABEL, None, None, context.key)
        return await self._keep(form, feedback, contract, context)

    async def _find_version(self, choice: Choice) -> tuple[str, int, ModelContract]:
        self.check_open()
        target = await self._catalog.resolve(choice)
        version = target.versions[0]
        return target.name, version, await self._contracts.fetch(target.name, version)

    async def _keep(self, form: Form, feedback: Feedback, contract: ModelContract, context: RequestContext) -> Kept:
        store = self.check_open()

        def work() -> str:
            data, spec = form.uploads[0].data, contract.input
            try:
                self._decoder.check(open_image(data, spec, max_pixels=self._max_pixels))
                image = clean_image(data, spec, max_pixels=self._max_pixels)
            except ImageError as err:
                raise RefusedImageError(err) from err
            return store.add(image, feedback)

        return Kept(await self.run(work, caller=context.caller), feedback, contract)

    async def delete(self, feedback_id: str) -> None:
        """Delete an image and its row.

        Raises:
            NotFoundError: if there is no such feedback, or none is taken.
            StorageError: if it cannot be deleted.
        """
        store = self.check_open()
        await self.run(lambda: store.delete(feedback_id))

    async def watch(self) -> None:
        """Delete expired images at intervals, until cancelled."""
        if self._store is None:
            return
        while True:
            await asyncio.sleep(_PURGE_INTERVAL_S)
            try:
                num_deleted = await self.run(self._store.purge)
            except StorageError:
                logger.exception("feedback that is too old could not be deleted")
            else:
                logger.info("%d images of feedback were too old and are deleted", num_deleted)

    def close(self) -> None:
        """Stop the thread after its current job."""
        self._turns.close(wait=True)

    async def run(self, work: Callable[[], T], *, caller: str = ANONYMOUS) -> T:
        """Run work on the store in the desk's thread, callers in turns."""
        return await self._turns.submit(lambda _: work(), caller=caller)


def _parse(texts: dict[str, str], form: type[Texts]) -> Texts:
    try:
        return form.model_validate(texts)
    except ValidationError as err:
        error = err.errors(include_url=False, include_input=False)[0]
        raise InvalidValueError(f"{error['loc'][0]}: {error['msg']}") from err


def find_label(text: str, contract: ModelContract) -> str:
    """Return the id of the class that a text names, by id or else by a name that is the only one of its kind."""
    ids = [label.id for label in contract.labels]
    named = [label.id for label in contract.labels if label.name == text]
    if text not in ids and len(named) != 1:
        near = difflib.get_close_matches(text, ids, n=3) or ids[:3]
        raise InvalidValueError(
            f"label: expected one of the model's {len(ids)}, such as {', '.join(near)}. Received: {text[:64]!r}"
        )
    found = text if text in ids else named[0]
    if not is_folder_name(found):
        raise InvalidValueError(f"label: {found[:64]!r} cannot be the name of a folder, as training needs it")
    return found
