"""One synthetic eye as a JPEG of any size; 512 x 512 pixels are about 40 KB."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.sample.fundus import draw_eye

QUALITY = 84
_GRAIN = 3.5  # standard deviation of the noise, of 255: as much detail as a photograph has
_EYE = {"seed": 0, "patient": 1, "side": "OS", "ratio": 0.6}


def write_picture(path: Path, side: int) -> Path:
    """Write the picture, `side` x `side` pixels, the same bytes each time, and return its path."""
    eye = Image.fromarray(draw_eye(**_EYE)).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(0).normal(0.0, _GRAIN, (side, side, 1))
    pixels = np.clip(np.asarray(eye, dtype=np.float64) + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
    path.write_bytes(buffer.getvalue())
    return path
