"""Classes that facts beside the subject give away, and test sets of another kind: recall, and false alarms."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from contract.image import decode_image, read_header
from contract.model import InputSpec
from contract.novelty import measure_images
from pipeline.audit.shortcuts import find_shortcuts
from pipeline.data.image_facts import read_facts
from pipeline.data.image_quality import AuditedImage, measure_quality
from pipeline.data.ingest import Example
from pipeline.evaluation.novelty import FALSE_ALARMS, fit_novelty_check
from pipeline.evaluation.shift import find_difference, find_unlike
from pipeline.recipe.data_settings import Data

_SPEC = InputSpec(64, 64)
_EACH = 40  # images of a class with a planted fault
_DRAWS = {"quick": (2, 5), "standard": (20, 100), "full": (50, 1000)}  # of each planted fault, of each sound set
_SOUND = {"2 x 10": [10, 10], "2 x 40": [40, 40], "2 x 200": [200, 200], "300 and 12": [300, 12], "10 x 12": [12] * 10}
_EXIF = Image.Exif()
_EXIF[0x010F], _EXIF[0x0110] = "Canon", "EOS 5D"
Encode = Callable[[int], bytes]


def run(size: str = "standard") -> dict[str, Any]:
    """Measure both checks."""
    planted, sound = _DRAWS[size]
    return {
        "images_of_a_class": _EACH,
        "planted": {name: _count(encode, plain, planted) for name, (encode, plain) in _planted().items()},
        "sound": {name: _count_false(counts, sound) for name, counts in _SOUND.items()},
        "digits": _audit_digits(),
        "shift": _measure_shift(sound),
    }


def _noise(seed: int, side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def _saved(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def _bordered(seed: int) -> bytes:
    pixels = np.array(_noise(seed))
    pixels[:6] = 0
    return _saved(Image.fromarray(pixels))


def _marked(seed: int) -> bytes:
    image = _noise(seed)
    ImageDraw.Draw(image).text((40, 2), "R 07", fill=(255, 255, 255))
    return _saved(image)


def _planted() -> dict[str, tuple[Encode, Encode]]:
    """Return how the files of the two classes are made, by fault."""

    def plain(seed: int) -> bytes:
        return _saved(_noise(seed))

    def jpeg(**options: Any) -> Encode:
        return lambda seed: _saved(_noise(seed), "JPEG", **options)

    return {
        "format": (jpeg(), plain),
        "quality 40 and 95": (jpeg(quality=40), jpeg(quality=95)),
        "half resolution": (lambda seed: _saved(_noise(seed, 32)), plain),
        "grey": (lambda seed: _saved(_noise(seed).convert("L")), plain),
        "EXIF": (jpeg(exif=_EXIF), jpeg()),
        "ICC profile": (jpeg(icc_profile=b"profile"), jpeg()),
        "border": (_bordered, plain),
        "marker": (_marked, plain),
        "enlarged": (lambda seed: _saved(_noise(seed, 32).resize((64, 64))), plain),
    }


def _audited(file: bytes, label: str, number: int) -> AuditedImage:
    pixels, header = decode_image(file, _SPEC), read_header(file)
    example = Example(f"{label}/{number}", label, None, str(number))
    return AuditedImage(example, "", measure_quality(header, pixels), read_facts(file, header, pixels))


def _levels(images: list[AuditedImage]) -> dict[str, str]:
    found = find_shortcuts(images, [image.example.path for image in images], Data())
    return {finding.code: finding.level for finding in found}


def _count(one: Encode, other: Encode, draws: int) -> dict[str, int]:
    """Return how many of the drawn sets have an error, or a warning on their pictures."""
    errors = warnings = 0
    for draw in range(draws):
        seeds = range(100_000 * draw, 100_000 * draw + _EACH)
        images = [_audited(one(seed), "a", seed) for seed in seeds] + [
            _audited(other(seed + 50_000), "b", seed) for seed in seeds
        ]
        levels = _levels(images)
        errors += levels.get("shortcuts") == "error"
        warnings += "picture_shortcuts" in levels
    return {"sets": draws, "errors": errors, "picture_warnings": warnings}


def _varied(seed: int) -> bytes:
    """Return a file of a random kind."""
    rng = np.random.default_rng(seed)
    image = _noise(seed, int(rng.integers(40, 90)))
    image = image.convert("L") if rng.random() < 0.2 else image
    options: dict[str, Any] = {"exif": _EXIF} if rng.random() < 0.5 else {}
    options |= {"icc_profile": b"profile"} if rng.random() < 0.3 else {}
    if rng.random() < 0.4:
        return _saved(image, "PNG", **options)
    return _saved(image, "JPEG", quality=int(rng.integers(60, 96)), **options)


def _count_false(counts: list[int], draws: int) -> dict[str, int]:
    """Return the findings on random labels of random files."""
    labels = np.repeat(np.arange(len(counts)), counts)
    pool = [_audited(_varied(seed), "", seed) for seed in range(len(labels))]
    found = {"sets": draws, "container_findings": 0, "container_errors": 0, "picture_warnings": 0}
    for draw in range(draws):
        given = np.random.default_rng(draw).permutation(labels)
        images = [
            AuditedImage(Example(f"{label}/{i}", f"class {label}", None, str(i)), "", image.quality, image.facts)
            for i, (image, label) in enumerate(zip(pool, given, strict=True))
        ]
        levels = _levels(images)
        found["container_findings"] += "shortcuts" in levels
        found["container_errors"] += levels.get("shortcuts") == "error"
        found["picture_warnings"] += "picture_shortcuts" in levels
    return found


def _audit_digits() -> dict[str, Any]:
    """Return the findings on handwritten digits: all ten, and each of the 45 pairs."""
    digits = load_digits()
    images = [
        _audited(_saved(Image.fromarray((pixels * 15.9).astype(np.uint8)).resize((28, 28))), str(label), i)
        for i, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True))
    ]
    pairs = [
        _levels([image for image in images if image.example.label in (str(one), str(other))])
        for one in range(10)
        for other in range(one)
    ]
    return {"ten_classes": _levels(images), "pairs": len(pairs), "pairs_with_a_warning": sum(map(bool, pairs)),
            "pairs_with_an_error": sum("error" in levels.values() for levels in pairs)}  # fmt: skip


def _measure_shift(draws: int) -> dict[str, Any]:
    """Split the sample set's patients at random, and make the test images darker."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "pipeline", "sample", "glaucoma", "--out", f"{name}/set", "--seed", "7"]
        subprocess.run(command, check=True, capture_output=True)
        paths = sorted(path for path in Path(name, "set").rglob("*") if path.suffix in (".jpg", ".png"))
        images = np.stack([decode_image(path.read_bytes(), _SPEC) for path in paths])
    patients = np.array([re.split(r"_O[DS]", path.name)[0] for path in paths])
    found: dict[str, Any] = {"images": len(images)}
    for percent in (0, 10, 20, 40):
        darker = (images * (1 - percent / 100)).astype(np.uint8)
        usual, changed = measure_images(images), measure_images(darker)
        results = [_warn(usual, changed, patients, draw) for draw in range(draws)]
        found[f"{percent}_percent_darker"] = {
            "splits": draws,
            "unlike": sum(unlike for unlike, _ in results),
            "told_apart": sum(told for _, told in results),
            "either": sum(any(both) for both in results),
        }
    return found


def _warn(
    usual: NDArray[np.float32], changed: NDArray[np.float32], patients: NDArray[np.str_], seed: int
) -> tuple[bool, bool]:
    """Return whether a random split of 70 to 10 to 20 % warns, by either test."""
    names = np.random.default_rng(seed).permutation(np.unique(patients))
    train, val, test = (
        np.isin(patients, part) for part in np.split(names, [7 * len(names) // 10, 8 * len(names) // 10])
    )
    novelty = fit_novelty_check(usual[train], usual[val], patients[train].tolist())
    alarms = novelty.distances_of(changed[test]) > novelty.threshold
    calibrated_on = int(train.sum() + val.sum())
    return (
        find_unlike(alarms, patients[test].tolist(), calibrated_on, FALSE_ALARMS) is not None,
        find_difference(usual[train], changed[test], patients[train].tolist(), patients[test].tolist()) is not None,
    )
