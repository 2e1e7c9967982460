"""Small image sets, written for one test."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = {"blue": (30, 30, 220), "green": (30, 200, 30), "red": (220, 30, 30)}


def png(color: tuple[int, int, int] = (90, 90, 90), *, seed: int = 0, size: int = 40) -> bytes:
    """A noisy square of one colour."""
    noise = np.random.default_rng(seed).normal(0, 12, (size, size, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(noise + color, 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files by their path below a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def color_files(*, train: int = 12, test: int = 4) -> dict[str, bytes]:
    """A set that any network learns: three classes that are colours; two pictures a patient."""
    files = {}
    for label, color in COLORS.items():
        for split, count in (("train", train), ("test", test)):
            for i in range(count):
                patient = f"{label[0].upper()}{split[1]}{i // 2:03}"
                seed = 1000 * list(COLORS).index(label) + 500 * (split == "test") + i
                files[f"{split}/{label}/{patient}_{i % 2}.png"] = png(color, seed=seed)
    return files
