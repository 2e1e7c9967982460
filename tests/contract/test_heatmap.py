"""contract/heatmap.py: a picture in grey under a map in colour."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from contract.heatmap import COLORS, draw_heatmap, encode_png


def luminance(colors: np.ndarray) -> np.ndarray:
    return colors.astype(np.float64) @ [0.299, 0.587, 0.114]


def test_colours_grow_lighter_all_the_way() -> None:
    """So the scale can be read in grey, and by people who see colours differently."""
    assert (256, 3) == COLORS.shape
    assert (np.diff(luminance(COLORS)) > 0).mean() > 0.95
    assert luminance(COLORS)[-1] - luminance(COLORS)[0] > 180


@pytest.mark.parametrize("channels", [1, 3])
def test_what_matters_is_coloured_and_the_rest_is_plain_grey(channels: int) -> None:
    """Where the map is zero the picture is its own luma; where it is one the colour covers most of it."""
    image = np.full((8, 8, channels), [90] if channels == 1 else [30, 90, 200], np.uint8)
    saliency = np.zeros((8, 8), np.float32)
    saliency[:, 4:] = 1
    drawn = draw_heatmap(image, saliency)

    grey = 90 if channels == 1 else round(float(luminance(np.array([30, 90, 200]))))
    assert np.abs(drawn[:, :3].astype(int) - grey).max() <= 1
    assert np.abs(drawn[:, 5:].astype(float) - (0.3 * grey + 0.7 * COLORS[255])).max() <= 1.5


def test_the_map_is_laid_over_the_whole_picture_whatever_their_sizes() -> None:
    """A coarse map is enlarged smoothly; the drawing may be larger than the picture."""
    image = np.full((20, 30, 3), 128, np.uint8)
    saliency = np.array([[0, 0], [0, 1]], np.float32)
    drawn = draw_heatmap(image, saliency, scale=3)
    colourfulness = np.ptp(drawn.astype(int), axis=2)

    assert (60, 90, 3) == drawn.shape
    assert colourfulness[:15, :20].max() <= 1
    assert colourfulness[-10:, -15:].min() > 20
    assert 0 < colourfulness[40, 50] < colourfulness[-1, -1]


def test_a_png_holds_the_drawing() -> None:
    """Byte for byte what was drawn."""
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)

    assert np.array_equal(image, np.asarray(Image.open(io.BytesIO(encode_png(image)))))
