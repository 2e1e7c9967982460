"""Copies in the test set that were changed in one way: how many of 200 planted ones of each kind the audit finds.

The pictures are 1,002 synthetic eyes, as `python -m pipeline sample` draws them, 200 of them planted once more for
each kind, one kind at a time. A false pair is one of two different eyes. Fashion-MNIST, where Debian's
dataset-fashion-mnist is installed, has no known copies: its pairs are counted only.
"""

from __future__ import annotations

import gzip
import io
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from contract.image import decode_image, read_header
from contract.model import InputSpec
from pipeline.audit.near_copies import find_near_pairs
from pipeline.data.image_quality import ImageQuality, measure_quality
from pipeline.recipe.data_settings import Data
from pipeline.sample.sample import write_glaucoma_set

EYES = {"train_patients_per_class": 134, "test_patients_per_class": 33}  # two pictures of each
SIZES = {"quick": 20, "standard": 200, "full": 200}  # planted copies of each kind
CLOTHES = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")
MOST_CLOTHES = {"quick": 500, "standard": 10_000, "full": 10_000}
SPEC = InputSpec(224, 224, 3, "rgb")  # of the recipe default
TURN = Image.Transpose


def run(size: str = "standard") -> dict[str, Any]:
    """Plant, search and count, kind by kind."""
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor() as pool:
        folder = Path(name) / "eyes"
        write_glaucoma_set(folder, seed=0, **EYES)
        files = sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg"))
        originals = list(pool.map(_measure_file, files, chunksize=20))
        planted = np.random.default_rng(1).permutation(len(files))[: SIZES[size]].tolist()
        copies = list(pool.map(_measure_copies, [files[i] for i in planted], planted, chunksize=5))
    kinds = {kind: _search(originals, planted, [made[kind] for made in copies]) for kind in KINDS}
    return {
        "images": len(files),
        "planted_of_each_kind": len(planted),
        "false_pairs_without_copies": len(_pairs(originals)),
        "kinds": kinds,
        "lowest_recall": min(found["recall"] for found in kinds.values()),
        "most_false_pairs": max(found["false_pairs"] for found in kinds.values()),
        "fashion_mnist": _count_clothes(MOST_CLOTHES[size]) if CLOTHES.exists() else None,
    }


def _search(originals: Sequence[ImageQuality], planted: Sequence[int], copies: Sequence[ImageQuality]) -> Any:
    start = time.process_time()
    pairs = _pairs([*originals, *copies])
    wanted = {(first, len(originals) + number) for number, first in enumerate(planted)}
    return {
        "recall": round(len(pairs & wanted) / len(wanted), 4),
        "false_pairs": len(pairs - wanted),
        "cpu_s": round(time.process_time() - start, 1),
    }


def _pairs(qualities: Sequence[ImageQuality]) -> set[tuple[int, int]]:
    """Return the pairs of near copies, and those of copies with the same pixels."""
    near = {(pair.first, pair.second) for pair in find_near_pairs(qualities, Data().near_distance, deep=True)}
    seen: dict[str, int] = {}
    same = [(seen.setdefault(quality.pixels_sha256, i), i) for i, quality in enumerate(qualities)]
    return near | {(first, second) for first, second in same if first != second}


def _count_clothes(most: int) -> dict[str, Any]:
    pixels = np.frombuffer(gzip.decompress(CLOTHES.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)[:most]
    qualities = [_measure(_encoded(Image.fromarray(picture)), InputSpec(28, 28, 3, "rgb")) for picture in pixels]
    start = time.process_time()
    pairs = len(_pairs(qualities))
    return {
        "images": len(qualities),
        "pairs": pairs,
        "pairs_in_1000_images": round(1000 * pairs / len(qualities), 1),
        "cpu_s": round(time.process_time() - start, 1),
    }


def _measure_file(path: Path) -> ImageQuality:
    return _measure(path.read_bytes(), SPEC)


def _measure(file: bytes, spec: InputSpec) -> ImageQuality:
    return measure_quality(read_header(file), decode_image(file, spec))


def _measure_copies(path: Path, number: int) -> dict[str, ImageQuality]:
    image = Image.open(path).convert("RGB")
    return {kind: _measure(change(image, np.random.default_rng([2, number])), SPEC) for kind, change in KINDS.items()}


def _encoded(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _turned(how: Image.Transpose, image: Image.Image, rng: np.random.Generator) -> bytes:
    return _encoded(image.transpose(how), "JPEG", quality=int(rng.integers(60, 96)))


def _cropped(image: Image.Image, rng: np.random.Generator, *, resized: bool = False) -> bytes:
    """Leave out up to a tenth of the width and the height, anywhere."""
    share = rng.uniform(0.9, 0.98)
    width, height = round(share * image.width), round(share * image.height)
    left, upper = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    part = image.crop((left, upper, left + width, upper + height))
    return _encoded(part.resize(image.size) if resized else part, "JPEG", quality=int(rng.integers(60, 96)))


def _cropped_at_edges(image: Image.Image, rng: np.random.Generator, *, share: float | None = None) -> bytes:
    """Leave out up to a tenth at each edge, or a share."""
    left, upper, right, lower = rng.uniform(0, 0.1, 4) if share is None else [share] * 4
    size = np.array([image.width, image.height, image.width, image.height])
    box = np.round(size * [left, upper, 1 - right, 1 - lower]).astype(int).tolist()
    return _encoded(image.crop(tuple(box)), "JPEG", quality=int(rng.integers(60, 96)))


def _turned_and_cropped(how: Image.Transpose, image: Image.Image, rng: np.random.Generator) -> bytes:
    return _cropped_at_edges(image.transpose(how), rng)


def _brightened(low: float, high: float, image: Image.Image, rng: np.random.Generator) -> bytes:
    return _encoded(ImageEnhance.Brightness(image).enhance(rng.uniform(low, high)))


KINDS: Mapping[str, Callable[[Image.Image, np.random.Generator], bytes]] = {
    "mirrored": partial(_turned, TURN.FLIP_LEFT_RIGHT),
    "mirrored top to bottom": partial(_turned, TURN.FLIP_TOP_BOTTOM),
    "turned by 90 degrees": partial(_turned, TURN.ROTATE_90),
    "turned by 180 degrees": partial(_turned, TURN.ROTATE_180),
    "turned by 270 degrees": partial(_turned, TURN.ROTATE_270),
    "mirrored and turned by 90 degrees": partial(_turned, TURN.TRANSPOSE),
    "mirrored and turned by 270 degrees": partial(_turned, TURN.TRANSVERSE),
    "cropped by 2 to 10 %": _cropped,
    "cropped by 2 to 10 % and resized": partial(_cropped, resized=True),
    "cropped by up to 10 % at each edge": _cropped_at_edges,
    "cropped by 5 % at each edge": partial(_cropped_at_edges, share=0.05),
    "cropped by 10 % at each edge": partial(_cropped_at_edges, share=0.1),
    "mirrored, cropped by up to 10 % at each edge": partial(_turned_and_cropped, TURN.FLIP_LEFT_RIGHT),
    "turned by 90 degrees, cropped by up to 10 % at each edge": partial(_turned_and_cropped, TURN.ROTATE_90),
    "JPEG, quality 30": lambda image, _: _encoded(image, "JPEG", quality=30),
    "WebP, quality 60": lambda image, _: _encoded(image, "WEBP", quality=60),
    "half the size": lambda image, _: _encoded(image.resize((image.width // 2, image.height // 2)), "JPEG"),
    "brighter by 10 to 50 %": partial(_brightened, 1.1, 1.5),
    "darker by 10 to 50 %": partial(_brightened, 0.5, 0.9),
}
