"""Decoder rule 1 gives the pixels that Fovea 0.1.0 gave: models that it trained must see what they were trained on."""

from __future__ import annotations

import numpy as np
import pytest

from contract.image import decode_image
from contract.model import InputSpec
from tests.helpers.fixtures import FIXTURES

SPECS = {
    "rgb-stretch-bilinear": InputSpec(12, 16, decoder=1),
    "rgb-crop-bicubic-full": InputSpec(10, 10, decoder=1, resize="bicubic", fit="crop", reduced_decode=False),
    "rgb-pad-area": InputSpec(14, 14, decoder=1, resize="area", fit="pad"),
    "grey-stretch-nearest": InputSpec(9, 11, channels=1, color="grey", resize="nearest", decoder=1),
}
_LOSSY = ("jpeg", "mpo", "webp")
_LOSSY_TOLERANCE = 2  # of 255: another release of libjpeg or libwebp may round otherwise


@pytest.fixture(name="golden", scope="module")
def fixture_golden() -> dict[str, np.ndarray]:
    """Files and pixels by name."""
    with np.load(FIXTURES / "decoder-1.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize("spec", SPECS)
def test_pixels_are_those_of_the_release_that_made_the_rule(golden: dict[str, np.ndarray], spec: str) -> None:
    names = [name.removeprefix("file/") for name in golden if name.startswith("file/")]
    wrong = {}
    for name in names:
        pixels = decode_image(golden[f"file/{name}"].tobytes(), SPECS[spec])
        expected = golden[f"pixels/{name}/{spec}"]
        assert pixels.shape == expected.shape
        difference = int(np.abs(pixels.astype(int) - expected).max())
        if difference > (_LOSSY_TOLERANCE if any(word in name.lower() for word in _LOSSY) else 0):
            wrong[name] = difference
    assert len(names) == 65
    assert wrong == {}
