"""What is wrong with the images, before any training: every file is read, hashed and decoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count

from contract.errors import ImageError
from contract.image import decode_image
from pipeline.errors import DatasetError
from pipeline.ingest import Dataset, Example
from pipeline.pixels import Pixels
from pipeline.progress import progress_bar

_SHOWN = 20  # problems named in an error; all of them are in the run's audit.json


@dataclass(frozen=True, slots=True)
class AuditedImage:
    """A readable image.

    Attributes:
        example: the image's path, label and split.
        sha256: hex digest of the file's bytes.
    """

    example: Example
    sha256: str


@dataclass(frozen=True, slots=True)
class Problem:
    """An image that cannot be used.

    Attributes:
        path: below the source.
        code: stable name of the reason.
        message: the reason in words.
    """

    path: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What the audit found.

    Attributes:
        images: the readable ones, in the set's order.
        problems: the others.
    """

    images: tuple[AuditedImage, ...]
    problems: tuple[Problem, ...]


def audit(dataset: Dataset, pixels: Pixels) -> Audit:
    """Read, hash and decode every image of a set; decoded images stay in `pixels`."""

    def check(example: Example) -> AuditedImage | Problem:
        try:
            data = dataset.source.read(example.path)
            pixels.keep(example.path, decode_image(data, pixels.spec))
        except ImageError as err:
            return Problem(example.path, err.code, str(err))
        except OSError as err:
            return Problem(example.path, "unreadable_file", err.strerror or str(err))
        return AuditedImage(example, hashlib.sha256(data).hexdigest())

    with ThreadPoolExecutor(cpu_count()) as pool:
        checked = pool.map(check, dataset.examples)
        results = list(progress_bar(checked, total=len(dataset.examples), what="Reading", unit="image"))
    return Audit(
        images=tuple(item for item in results if isinstance(item, AuditedImage)),
        problems=tuple(item for item in results if isinstance(item, Problem)),
    )


def check_audit(found: Audit, labels: Sequence[str], *, on_unreadable: str) -> None:
    """Refuse a set whose images cannot be used.

    Args:
        found: the audit.
        labels: classes that must keep at least one training image.
        on_unreadable: "refuse" or "skip", from the recipe.

    Raises:
        DatasetError: naming the files and the way round.
    """
    if found.problems and on_unreadable == "refuse":
        lines = [f"  {problem.path}: {problem.message}" for problem in found.problems[:_SHOWN]]
        if len(found.problems) > _SHOWN:
            lines.append(f"  and {len(found.problems) - _SHOWN} more")
        raise DatasetError(
            "\n".join(lines)
            + f"\n{len(found.problems)} of {len(found.images) + len(found.problems)} images cannot be used, "
            "named above: repair or remove them, or leave them out with --set data.on_unreadable=skip"
        )
    left = {image.example.label for image in found.images if image.example.split in (None, "train")}
    if lost := sorted(set(labels) - left):
        raise DatasetError(f"expected readable training images in every class. Received: none in {', '.join(lost)}")
