"""Makes schemathesis send images: in every format, and readable by the tiny model."""

from __future__ import annotations

import base64

import schemathesis
from hypothesis import strategies

from tests.helpers.pictures import COLOURS, encode

IMAGES = strategies.builds(
    lambda colour, kind, size: encode(colour, kind, size=size),
    strategies.sampled_from(COLOURS),
    strategies.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"]),
    strategies.integers(1, 40),
)

schemathesis.openapi.media_type("image/*", IMAGES)
schemathesis.openapi.format("binary", IMAGES)
schemathesis.openapi.format("byte", IMAGES.map(lambda data: base64.b64encode(data).decode()))
