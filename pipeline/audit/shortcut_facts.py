"""Lists the facts of images that should not tell their classes, by kind: of the containers, and of the pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipeline.audit.separability import Feature
from pipeline.data.image_facts import AREAS, EXTREMES, GRID, rim_cells
from pipeline.data.image_quality import AuditedImage

FILE_SIZE = "file size"
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_SMALL = 100  # pixels of a side, below which halves of pixels change a ratio's second digit
_MAX_NAMES = 30  # of metadata, those nearest to half of the images


def _read_format(images: Sequence[AuditedImage]) -> list[Feature]:
    return [Feature("format", [image.quality.header.format for image in images])]


def _read_compression(images: Sequence[AuditedImage]) -> list[Feature]:
    """Return facts of compression; those of one format say nothing of images in another."""
    formats = sorted({image.quality.header.format for image in images})
    kinds = [
        Feature(
            f"kind of {name}",
            [image.facts.compression if image.quality.header.format == name else None for image in images],
        )
        for name in formats
    ]
    return [
        Feature("JPEG quality", [image.facts.jpeg_quality or None for image in images], numeric=True),
        Feature("JPEG tables", [image.facts.jpeg_tables or None for image in images]),
        *kinds,
    ]


def _read_size(images: Sequence[AuditedImage]) -> list[Feature]:
    sizes = [_upright(image) for image in images]
    return [
        Feature("size", [f"{width} x {height}" for width, height in sizes]),
        Feature("width", [width for width, _ in sizes], numeric=True),
        Feature("height", [height for _, height in sizes], numeric=True),
    ]


def _read_shape(images: Sequence[AuditedImage]) -> list[Feature]:
    ratios = [round(width / height, 1 if min(width, height) < _SMALL else 2) for width, height in map(_upright, images)]
    return [Feature("width / height", ratios, numeric=True)]


def _upright(image: AuditedImage) -> tuple[int, int]:
    header = image.quality.header
    return (header.height, header.width) if header.orientation in _SIDEWAYS else (header.width, header.height)


def _read_mode(images: Sequence[AuditedImage]) -> list[Feature]:
    return [
        Feature("mode", [image.quality.header.mode for image in images]),
        Feature("bits", [image.facts.bits for image in images]),
    ]


def _read_metadata(images: Sequence[AuditedImage]) -> list[Feature]:
    counts = Counter(name for image in images for name in image.facts.metadata)
    names = sorted(counts, key=lambda name: (abs(counts[name] - len(images) / 2), name))[:_MAX_NAMES]
    present = [frozenset(image.facts.metadata) for image in images]
    return [
        *(Feature(name, [name in there for there in present]) for name in names),
        Feature("camera", [image.facts.camera for image in images]),
        Feature("software", [image.facts.software for image in images]),
        Feature("ICC profile", [image.facts.profile for image in images]),
        Feature("resolution", [image.facts.resolution for image in images]),
        Feature("orientation", [image.quality.header.orientation for image in images]),
        Feature("frames", [image.quality.header.num_frames for image in images], numeric=True),
    ]


def _read_borders(images: Sequence[AuditedImage]) -> list[Feature]:
    cells = np.array([image.facts.rim for image in images])
    places = zip(*np.nonzero(rim_cells()), strict=True)
    return [
        *(
            Feature(f"grey level at row {row}, column {column} of {GRID} x {GRID}", cells[:, i].tolist(), numeric=True)
            for i, (row, column) in enumerate(places)
        ),
        *_levels_of(images, "border"),
    ]


def _read_corners(images: Sequence[AuditedImage]) -> list[Feature]:
    return _levels_of(images, "corner")


def _levels_of(images: Sequence[AuditedImage], kind: str) -> list[Feature]:
    extremes = np.array([image.facts.extremes for image in images])
    return [
        Feature(f"{end} grey level of the {area}", extremes[:, len(EXTREMES) * i + j].tolist(), numeric=True)
        for i, area in enumerate(AREAS)
        if kind in area
        for j, end in enumerate(EXTREMES)
    ]


def _read_color(images: Sequence[AuditedImage]) -> list[Feature]:
    colors = np.array([image.facts.color for image in images])
    names = ("red", "green", "blue") if colors.shape[1] == 3 else ("grey level",)
    return [Feature(f"mean {name}", colors[:, i].tolist(), numeric=True) for i, name in enumerate(names)]


def _read_bytes(images: Sequence[AuditedImage]) -> list[Feature]:
    return [Feature("bytes", [image.facts.num_bytes for image in images], numeric=True)]


Reader = Callable[[Sequence[AuditedImage]], list[Feature]]
CONTAINER: Mapping[str, Reader] = {
    "format": _read_format,
    "compression": _read_compression,
    "size": _read_size,
    "shape": _read_shape,
    "mode": _read_mode,
    "metadata": _read_metadata,
}
PICTURE: Mapping[str, Reader] = {
    "borders": _read_borders,
    "corners": _read_corners,
    "mean colour": _read_color,
    FILE_SIZE: _read_bytes,
}
