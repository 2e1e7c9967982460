"""Fashion-MNIST of Debian's package, written out as a folder of images."""

from __future__ import annotations

import gzip
import os
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FASHION = Path("/usr/share/datasets/fashion-mnist")
_PARTS = {"train": "train", "test": "t10k"}
_CLASSES = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot"]


def default_cache() -> Path:
    """Return the folder of sets and of finished trainings, in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fovea-benchmarks/lectures"


def write_fashion(cache: Path, source: Path = FASHION) -> Path:
    """Return Fashion-MNIST as PNG files in train/<class>/ and test/<class>/, written once.

    Args:
        cache: the folder `fashion-mnist` appears in it when it is complete.
        source: has the four IDX files.

    Raises:
        SystemExit: if the package is not installed.
    """
    target = cache / "fashion-mnist"
    if target.is_dir():
        return target
    if not source.is_dir():
        raise SystemExit(f"{source} is missing: sudo apt-get install dataset-fashion-mnist")
    write_fashion_parts(target, dict.fromkeys(_PARTS, slice(None)), source)
    return target


def write_fashion_parts(target: Path, parts: Mapping[str, slice], source: Path = FASHION) -> None:
    """Write images of Fashion-MNIST as PNG files in PART/<class>/ of a folder, which appears when it is complete.

    Args:
        target: the folder.
        parts: which images of "train" and "test", in the order of the IDX files.
        source: has the four IDX files.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".writing-", dir=target.parent))
    for part, chosen in parts.items():
        images = read_idx(source / f"{_PARTS[part]}-images-idx3-ubyte.gz")
        labels = read_idx(source / f"{_PARTS[part]}-labels-idx1-ubyte.gz")
        for name in _CLASSES:
            (unfinished / part / name).mkdir(parents=True)
        for i in range(len(images))[chosen]:
            Image.fromarray(images[i]).save(unfinished / part / _CLASSES[labels[i]] / f"{i:05}.png")
    unfinished.chmod(0o755)
    unfinished.rename(target)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of an IDX file of bytes, as MNIST's are."""
    content = gzip.decompress(path.read_bytes())
    zeros, kind, dimensions = struct.unpack(">HBB", content[:4])
    if zeros != 0 or kind != 8:
        raise ValueError(f"{path}: expected an IDX file of unsigned bytes. Received: {content[:4].hex()}")
    shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
