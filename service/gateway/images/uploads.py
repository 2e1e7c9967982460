"""Request bodies to images: a raw image, multipart/form-data, or JSON. Bounded while reading, never after.

Nothing is written to disk: images of patients must not be left in a temporary folder by a process that is killed.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from service.gateway.bodies.body_stream import join_chunks, read_chunks
from service.gateway.bodies.json_bodies import JsonBodies
from service.gateway.bodies.json_document import Load, decode_base64
from service.gateway.context.errors import InvalidArgumentError, MalformedRequestError, TooManyImagesError
from service.gateway.context.request_context import RequestContext
from service.gateway.context.settings import MOST_IMAGES

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks  # exists for type checkers only

FIELD = "file"
_MAX_NAME = 255
_MAX_PART_HEADERS = 16
_EXPECTED = 'expected JSON of the form {"images": [{"b64": "..."}]}. Received: '


@dataclass(frozen=True, slots=True)
class Upload:
    """One image as it was sent.

    Attributes:
        name: the client's, for the reply only.
        data: the image file's bytes.
    """

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits of one request's body.

    Attributes:
        max_body_bytes: bytes of the whole body.
        max_images: images.
    """

    max_body_bytes: int
    max_images: int


class JsonImage(BaseModel):
    """One image in a JSON body."""

    model_config = ConfigDict(extra="forbid")

    b64: str = Field(
        description="The image file's bytes in base64 (standard alphabet).", json_schema_extra={"format": "byte"}
    )
    name: Annotated[str, Field(max_length=_MAX_NAME)] | None = Field(None, description="Comes back in the reply.")


class JsonImages(BaseModel):
    """A JSON body of images."""

    model_config = ConfigDict(extra="forbid")

    images: Annotated[list[JsonImage], FailFast()] = Field(
        min_length=1, max_length=MOST_IMAGES, description="The images, in the order of the reply."
    )


async def read_uploads(
    request: Request, context: RequestContext, limits: UploadLimits, json_bodies: JsonBodies
) -> list[Upload]:
    """Read a request's images.

    The content type decides: `multipart/form-data` has one or more parts named "file", `application/json` is
    {"images": [{"b64": "..."}]}, anything else is one image as it is (curl sends --data-binary as a form).

    Args:
        request: its body is read here.
        context: of the request.
        limits: of its bytes and images.
        json_bodies: parses JSON.

    Raises:
        MalformedRequestError: if the body is not what its content type says.
        BodyTooLargeError: as soon as the body is known to exceed the limit.
        TooManyImagesError: as soon as it is known to hold too many images.
        UnsupportedEncodingError: if the body is compressed otherwise than by gzip.
        ClientDisconnect: if the client leaves before the end.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind == b"multipart/form-data":
        return (await _read_multipart(request, context, limits, boundary=options.get(b"boundary", b""))).uploads
    body = await join_chunks(request, context, limits.max_body_bytes)
    if kind != b"application/json":
        return [Upload("image", body)]
    return await json_bodies.read(body, partial(_parse_json, limits=limits), caller=context.caller)


@dataclass(frozen=True, slots=True)
class Form:
    """A form with images and texts.

    Attributes:
        uploads: the images, in order.
        texts: the other parts, by name.
    """

    uploads: list[Upload]
    texts: dict[str, str]


async def read_form(request: Request, context: RequestContext, limits: UploadLimits, *, fields: frozenset[str]) -> Form:
    """Read a `multipart/form-data` body whose parts are images named "file" and texts with these names.

    Raises:
        MalformedRequestError: if the body is not such a form.
        BodyTooLargeError: as soon as the body is known to exceed the limit.
        TooManyImagesError: as soon as it is known to hold too many images.
        ClientDisconnect: if the client leaves before the end.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise MalformedRequestError(
            f"content-type: expected multipart/form-data. Received: {kind[:64].decode('latin-1') or 'none'}"
        )
    return await _read_multipart(request, context, limits, boundary=options.get(b"boundary", b""), fields=fields)


async def read_body(request: Request, context: RequestContext, limits: UploadLimits) -> bytes:
    """Read a body as it is, whatever its content type.

    Raises:
        MalformedRequestError, BodyTooLargeError, UnsupportedEncodingError, ClientDisconnect: as `read_uploads`.
    """
    return await join_chunks(request, context, limits.max_body_bytes)


async def _read_multipart(
    request: Request,
    context: RequestContext,
    limits: UploadLimits,
    *,
    boundary: bytes,
    fields: frozenset[str] = frozenset(),
) -> Form:
    if not boundary:
        raise MalformedRequestError("multipart/form-data: expected a boundary in content-type. Received: none")
    parts = _Parts(limits.max_images, fields)
    try:
        parser = MultipartParser(boundary, parts.callbacks(), max_header_count=_MAX_PART_HEADERS)
        async with aclosing(read_chunks(request, context, limits.max_body_bytes)) as chunks:
            async for chunk in chunks:
                parser.write(chunk)
        parser.finalize()
    except FormParserError as err:
        raise MalformedRequestError("the body is not valid multipart/form-data") from err
    if not parts.finished:
        raise MalformedRequestError("multipart/form-data: expected a closing boundary. Received: the body's end")
    if not parts.uploads:
        raise MalformedRequestError(f"multipart/form-data: expected at least one part named {FIELD!r}. Received: none")
    return Form(parts.uploads, parts.texts)


class _Parts:
    """Collects the parts of a multipart body as the parser meets them."""

    def __init__(self, max_images: int, fields: frozenset[str]) -> None:
        self.uploads: list[Upload] = []
        self.texts: dict[str, str] = {}
        self._fields = fields
        self._field = FIELD
        self.finished = False
        self._max_images = max_images
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._name = ""
        self._data = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": self._add_to_header_name,
            "on_header_value": self._add_to_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _refuse_more(self) -> TooManyImagesError:
        if self._fields:  # a form with texts is about its images, however many the service takes elsewhere
            return TooManyImagesError(
                f"multipart/form-data: expected at most {self._max_images} part(s) named {FIELD!r}. Received: more; "
                "send a request for each image"
            )
        return _too_many(self._max_images)

    def _begin_part(self) -> None:
        if len(self.uploads) + len(self.texts) >= self._max_images + len(self._fields):
            raise self._refuse_more()
        self._disposition = b""
        self._data = bytearray()

    def _add_to_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_to_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        field = options.get(b"name", b"").decode("utf-8", "replace")
        if field != FIELD and field not in self._fields:
            expected = ", ".join(repr(name) for name in (FIELD, *sorted(self._fields)))
            raise MalformedRequestError(
                f"multipart/form-data: expected parts named {expected}. Received: {field[:64]!r}"
            )
        if field in self.texts:
            raise MalformedRequestError(f"multipart/form-data: the part {field!r} may be sent once")
        if field == FIELD and len(self.uploads) >= self._max_images:
            raise self._refuse_more()
        self._field = field
        name = options.get(b"filename", b"").decode("utf-8", "replace")
        self._name = name[:_MAX_NAME] or f"file[{len(self.uploads)}]"

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _end_part(self) -> None:
        if self._field == FIELD:
            self.uploads.append(Upload(self._name, bytes(self._data)))
        else:
            self.texts[self._field] = self._data.decode("utf-8", "replace")
        self._data = bytearray()

    def _end(self) -> None:
        self.finished = True


def _parse_json(body: bytes, load: Load, *, limits: UploadLimits) -> list[Upload]:
    try:
        images = JsonImages.model_validate(load(body)).images
    except InvalidArgumentError as err:
        raise MalformedRequestError(f"{_EXPECTED}the body: {err}") from err
    except ValidationError as err:
        error = err.errors(include_url=False, include_input=False)[0]
        if error["type"] == "too_long":
            raise _too_many(limits.max_images) from err
        where = ".".join(str(part) for part in error["loc"]) or "the body"
        raise MalformedRequestError(f"{_EXPECTED}{where[:64]}: {error['msg']}") from err
    if len(images) > limits.max_images:
        raise _too_many(limits.max_images)
    return [Upload(image.name or f"images[{i}]", _decode_base64(image.b64, i)) for i, image in enumerate(images)]


def _decode_base64(text: str, index: int) -> bytes:
    try:
        return decode_base64(text)
    except ValueError as err:
        raise MalformedRequestError(f"images[{index}].b64: expected base64 (standard alphabet, padded)") from err


def _too_many(max_images: int) -> TooManyImagesError:
    return TooManyImagesError(
        f"the request has more than {max_images} images, the limit (FOVEA_MAX_IMAGES); send several requests"
    )
