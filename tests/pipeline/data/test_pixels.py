"""Decoded images in memory: what is kept equals what was decoded, in few arrays, within the limit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract.model import InputSpec
from pipeline.data.folder_source import FolderSource
from pipeline.data.pixels import Pixels

SPEC = InputSpec(9, 7)
NAMES = [f"{number:02}.png" for number in range(40)]


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of the input's size, each another."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(NAMES):
        Image.fromarray(picture(number)).save(folder / name)
    return folder


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SPEC.shape, np.uint8)


def owner(array: np.ndarray) -> int:
    """The array that owns the memory of a view."""
    while array.base is not None:
        array = array.base
    return id(array)


@pytest.mark.parametrize("stacked", [False, True])
def test_images_that_are_kept_are_those_that_were_decoded(folder: Path, stacked: bool) -> None:
    """Also after some of them were moved into one array."""
    pixels = Pixels(FolderSource(folder), SPEC)
    for name in NAMES:
        pixels[name]
    if stacked:
        found = pixels.stack(NAMES[5:20])
        assert found is not None
        assert (found == np.stack([picture(number) for number in range(5, 20)])).all()
    for path in folder.iterdir():
        path.rename(path.with_suffix(".gone"))
    try:
        for number, name in enumerate(NAMES):
            assert (pixels[name] == picture(number)).all()
    finally:
        for path in folder.iterdir():
            path.rename(path.with_suffix(".png"))


def test_small_images_share_an_array(folder: Path) -> None:
    """Thousands of small arrays would leave holes in the heap, which the system cannot take back."""
    pixels = Pixels(FolderSource(folder), SPEC)
    assert len({owner(pixels[name]) for name in NAMES}) == 1


def test_an_image_larger_than_a_block_is_kept_alone() -> None:
    spec = InputSpec(1500, 1200)
    pixels = Pixels(FolderSource(Path(__file__).parent), spec)
    images = [np.full(spec.shape, number, np.uint8) for number in range(3)]
    kept = [pixels.keep(str(number), image) for number, image in enumerate(images)]
    assert [int(image[0, 0, 0]) for image in kept] == [0, 1, 2]
    assert len({owner(image) for image in kept}) == 3


@pytest.mark.parametrize("count", [0, 1, 17, 40])
def test_no_more_is_kept_than_the_limit(folder: Path, count: int) -> None:
    """Images beyond it are decoded at each call."""
    pixels = Pixels(FolderSource(folder), SPEC, cache_bytes=count * picture(0).nbytes)
    first = [pixels[name] for name in NAMES]
    again = [pixels[name] for name in NAMES]
    assert sum(np.shares_memory(one, other) for one, other in zip(first, again, strict=True)) == count
    assert all((one == picture(number)).all() for number, one in enumerate(again))
    assert pixels.has_room == (count > len(NAMES))
