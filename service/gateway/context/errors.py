"""Errors of the gateway: one root; each class carries the HTTP status and the stable code that clients see.

GatewayError                        500  internal_error
├── MalformedRequestError           400  malformed_request
├── InvalidArgumentError            400  invalid_argument
├── RefusedImageError               4xx  the code of a contract.errors.ImageError
├── UnauthorizedError               401  unauthorized, with WWW-Authenticate
├── ForbiddenError                  403  forbidden
├── NotFoundError                   404  not_found
│   ├── ModelNotFoundError          404  model_not_found
│   ├── VersionNotFoundError        404  version_not_found
│   ├── LabelNotFoundError          404  label_not_found
│   ├── NoLiveVersionError          404  no_live_version
│   └── FeedbackNotFoundError       404  feedback_not_found
├── ConflictError                   409  conflict
├── BodyTooLargeError               413  body_too_large
├── TooManyImagesError              413  too_many_images
├── TooMuchDecodingError            413  too_much_decoding
├── TooMuchJsonError                413  too_much_json
├── UnsupportedEncodingError        415  unsupported_encoding
├── InvalidValueError               422  invalid_value
├── NoExplanationError              422  no_explanation
├── NoEmbeddingError                422  no_embedding
├── RateLimitedError                429  rate_limited, with Retry-After
├── BrokenContractError             502  model_server_broke_contract
├── UnavailableError                503  unavailable, with Retry-After
│   ├── NotReadyError               503  the code of the missing part
│   ├── NoModelError                503  no_model
│   ├── NotLoadedError              503  model_not_ready
│   ├── OverloadedError             503  overloaded
│   ├── UnreachableError            503  model_server_unreachable
│   ├── StorageError                503  storage_failed
│   └── DrainingError               503  draining
└── DeadlineError                   504  deadline_exceeded

A message has the fault, the limit or expected value and the received one. It goes to the client as it is: no path, no
stack trace, no text of the model server.
"""

from __future__ import annotations

from contract.errors import EmptyImageError, ImageError, ImageTooLargeError, UnsupportedImageError


class GatewayError(Exception):
    """A request that is not answered as asked.

    Attributes:
        status_code: HTTP status of the reply.
        code: stable name of the reason, for programs.
        retry_after_s: when to try again, seconds; None when trying again does not help.
    """

    status_code: int = 500
    code: str = "internal_error"
    retry_after_s: int | None = None


class MalformedRequestError(GatewayError):
    """The route cannot read the body or a header."""

    status_code = 400
    code = "malformed_request"


class InvalidArgumentError(GatewayError):
    """A request with tensors does not fit the model's signature."""

    status_code = 400
    code = "invalid_argument"


class RefusedImageError(GatewayError):
    """One image cannot be decoded; status and code follow the reason."""

    def __init__(self, reason: ImageError, *, name: str | None = None) -> None:
        super().__init__(str(reason) if name is None else f"{name}: {reason}")
        self.reason = reason
        self.code = reason.code
        self.status_code = _IMAGE_STATUS.get(type(reason), 400)

    def of_image(self, name: str) -> RefusedImageError:
        """Return the error with the name of the image, for replies that have room for one error only."""
        return RefusedImageError(self.reason, name=name)


_IMAGE_STATUS: dict[type[ImageError], int] = {
    EmptyImageError: 400,
    ImageTooLargeError: 413,
    UnsupportedImageError: 415,
}


class UnauthorizedError(GatewayError):
    """No API key, or one that is not known."""

    status_code = 401
    code = "unauthorized"


class ForbiddenError(GatewayError):
    """The API key is known, but not good for this."""

    status_code = 403
    code = "forbidden"


class NotFoundError(GatewayError):
    """Nothing is served under that name."""

    status_code = 404
    code = "not_found"


class ModelNotFoundError(NotFoundError):
    """No model of that name is served."""

    code = "model_not_found"


class VersionNotFoundError(NotFoundError):
    """The model is served, but not in that version."""

    code = "version_not_found"


class LabelNotFoundError(NotFoundError):
    """The model is served, but no version of it has that label."""

    code = "label_not_found"


class NoLiveVersionError(NotFoundError):
    """The model has a candidate, but no live version; the request names no version."""

    code = "no_live_version"


class FeedbackNotFoundError(NotFoundError):
    """No feedback is kept under that id."""

    code = "feedback_not_found"


class ConflictError(GatewayError):
    """The request conflicts with stored data."""

    status_code = 409
    code = "conflict"


class BodyTooLargeError(GatewayError):
    """The body has more bytes than are read."""

    status_code = 413
    code = "body_too_large"


class TooManyImagesError(GatewayError):
    """The body holds more images than one request may."""

    status_code = 413
    code = "too_many_images"


class TooMuchDecodingError(GatewayError):
    """The images of a request take longer to decode than one request may."""

    status_code = 413
    code = "too_much_decoding"


class TooMuchJsonError(GatewayError):
    """The JSON body holds more values than are read."""

    status_code = 413
    code = "too_much_json"


class UnsupportedEncodingError(GatewayError):
    """The body is compressed in a way that is not read."""

    status_code = 415
    code = "unsupported_encoding"


class InvalidValueError(GatewayError):
    """A parameter is well formed, but its value is out of range."""

    status_code = 422
    code = "invalid_value"


class NoExplanationError(GatewayError):
    """The model cannot explain itself: its contract has no saliency."""

    status_code = 422
    code = "no_explanation"


class NoEmbeddingError(GatewayError):
    """The model has no embeddings: its contract names none."""

    status_code = 422
    code = "no_embedding"


class RateLimitedError(GatewayError):
    """The client has sent too many requests."""

    status_code = 429
    code = "rate_limited"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BrokenContractError(GatewayError):
    """The model server answered, but not as the model's contract says: a fault on our side of the line."""

    status_code = 502
    code = "model_server_broke_contract"


class UnavailableError(GatewayError):
    """The request is fine; the service cannot answer it now."""

    status_code = 503
    code = "unavailable"
    retry_after_s: int | None = 1


class NotReadyError(UnavailableError):
    """A part is not ready; the code names it."""

    def __init__(self, reason: GatewayError) -> None:
        super().__init__(str(reason))
        self.code = reason.code
        self.retry_after_s = reason.retry_after_s or type(self).retry_after_s


class NoModelError(UnavailableError):
    """There is no model to serve yet."""

    code = "no_model"
    retry_after_s = 10


class NotLoadedError(UnavailableError):
    """The model server has not, or no longer, loaded the version."""

    code = "model_not_ready"


class OverloadedError(UnavailableError):
    """The model server has too much to do."""

    code = "overloaded"


class UnreachableError(UnavailableError):
    """The model server does not answer."""

    code = "model_server_unreachable"


class StorageError(UnavailableError):
    """Feedback or the audit log cannot be written."""

    code = "storage_failed"
    retry_after_s = 60


class DrainingError(UnavailableError):
    """The gateway is stopping."""

    code = "draining"


class DeadlineError(GatewayError):
    """The model server did not answer in time."""

    status_code = 504
    code = "deadline_exceeded"
