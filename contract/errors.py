"""Errors of contract/: one root, so that a caller can catch the family.

ContractError
├── ImageError              an image that cannot become pixels; `code` says why
│   ├── EmptyImageError         no bytes
│   ├── UnsupportedImageError   a format or pixel type that is not read
│   ├── UndecodableImageError   the right format, broken contents
│   └── ImageTooLargeError      more pixels than allowed, known from the header
├── TensorError             a TensorProto that is not a tensor
│   └── TensorSizeError         values that would repeat beyond a limit
└── StoreError              the model store on disk is not as it must be
    └── LiveChangedError        another version became live since the index was read
"""


class ContractError(Exception):
    """A document, an array or a file breaks the contract."""


class ImageError(ContractError):
    """An image cannot be turned into pixels.

    Attributes:
        code: stable name of the reason, safe to show to a client.
    """

    code = "undecodable_image"


class EmptyImageError(ImageError):
    """There are no bytes to decode."""

    code = "empty_image"


class UnsupportedImageError(ImageError):
    """The bytes are in a format, or hold a kind of pixel, that is not read."""

    code = "unsupported_image"


class UndecodableImageError(ImageError):
    """The format is known, but the contents are truncated or corrupt."""


class ImageTooLargeError(ImageError):
    """The header declares more pixels than are allowed; nothing was decoded."""

    code = "image_too_large"


class TensorError(ContractError):
    """A TensorProto has a type, shape or number of elements that does not make a tensor."""


class TensorSizeError(TensorError):
    """A TensorProto repeats its values to more bytes than the limit; the message names both."""


class StoreError(ContractError):
    """The model store cannot be read or changed as asked."""


class LiveChangedError(StoreError):
    """Another version became live after a decision was made by the old one; decide again."""
