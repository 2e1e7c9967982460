"""Heat maps on the page: where the map lies, how strong it is, which class it is for."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.helpers.pictures import encode
from tests.service.gateway.web.visit import Visitor

# Paints a map and returns the alpha of the canvas at places from 0 to 1 along each side.
PAINT = """async ([saliency, picture, input, places]) => {
  const { paintHeat } = await import("/web/picture.js");
  const canvas = document.createElement("canvas");
  paintHeat(canvas, saliency, picture, input);
  const context = canvas.getContext("2d");
  return places.map(([u, v]) => context.getImageData(
    Math.min(canvas.width - 1, Math.floor(u * canvas.width)),
    Math.min(canvas.height - 1, Math.floor(v * canvas.height)), 1, 1).data[3]);
}"""
LEFT_HALF = {"rows": 1, "columns": 4, "values": [[1, 1, 0, 0]]}
FULL = {"rows": 2, "columns": 2, "values": [[1, 1], [1, 1]]}


def two_halves() -> bytes:
    """Return a PNG that is red on its left and blue on its right, a little more red."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :36, 0] = pixels[:, 36:, 2] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def heat_at(card: Locator, u: float) -> int:
    """Return the map's alpha in the middle row, at a place from 0 (left) to 1."""
    alpha = card.locator(".heat").evaluate(
        """(canvas, u) => canvas.getContext("2d").getImageData(
             Math.floor(u * (canvas.width - 1)), Math.floor(canvas.height / 2), 1, 1).data[3]""",
        u,
    )
    return int(alpha)


def test_the_map_lies_where_the_class_is(visitor: Visitor) -> None:
    """Red speaks from the left, blue from the right; the slider fades the map, and the picture's colours with it."""
    visitor.choose([("halves.png", two_halves())])
    card = visitor.expect_answer("halves.png", "Red")
    card.get_by_role("button", name="Show heat map").click()
    expect(card.get_by_label("Strength")).to_be_visible()
    # By number: what is live may have changed since.
    assert visitor.requests[-1].url.endswith("/v1/explain?model=colours&version=2&class=red")
    left, right = heat_at(card, 0.1), heat_at(card, 0.9)
    card.get_by_label("Strength").fill("20")

    assert (left > 200, right < 20) == (True, True)
    expect(card.locator(".heat")).to_have_css("opacity", "0.2")
    expect(card.locator(".picture")).to_have_css("filter", "grayscale(0.4)")
    expect(card.get_by_label("Strength")).to_have_attribute("aria-valuetext", "20 %")

    with visitor.page.expect_response("**/v1/explain?*class=blue*"):
        card.get_by_label("Heat map for").select_option("Blue")
    expect(card).not_to_have_attribute("aria-busy", "true")
    assert (heat_at(card, 0.1) < 20, heat_at(card, 0.9) > 200) == (True, True)

    card.get_by_role("button", name="Hide heat map").click()
    expect(card.locator(".heat")).to_be_hidden()
    expect(card.locator(".picture")).to_have_css("filter", "none")


def test_a_file_that_the_browser_cannot_show_gets_the_services_drawing(visitor: Visitor) -> None:
    """A TIFF is classified, and shown under its map as the model saw it; without the map there is no picture again."""
    visitor.choose([("scan.tif", encode("red", "TIFF"))])
    card = visitor.expect_answer("scan.tif", "Red")
    expect(card.locator(".no-picture")).to_be_visible()
    card.get_by_role("button", name="Show heat map").click()
    expect(card.locator(".picture")).to_be_visible()
    expect(card.get_by_label("Heat map for")).to_have_value("red")
    expect(card.get_by_label("Strength")).to_be_hidden()
    card.get_by_role("button", name="Hide heat map").click()

    expect(card.locator(".picture")).to_be_hidden()
    expect(card.locator(".no-picture")).to_be_visible()


@pytest.mark.parametrize(
    ("saliency", "picture", "fit", "places", "expected"),
    [
        pytest.param(LEFT_HALF, (64, 32), "stretch", [(0.1, 0.5), (0.9, 0.5)], [255, 0], id="stretch: whole picture"),
        # A picture twice as wide as high, cropped to a square: the outer quarters were not seen.
        pytest.param(
            FULL,
            (64, 32),
            "crop",
            [(0.2, 0.5), (0.3, 0.5), (0.7, 0.5), (0.8, 0.5)],
            [0, 255, 255, 0],
            id="crop: middle",
        ),
        pytest.param(
            LEFT_HALF, (64, 32), "crop", [(0.3, 0.5), (0.7, 0.5)], [255, 0], id="crop: its own left and right"
        ),
        pytest.param(FULL, (32, 64), "crop", [(0.5, 0.2), (0.5, 0.5), (0.5, 0.8)], [0, 255, 0], id="crop: high"),
        # Padded to a square: the map's upper and lower quarters are of the border, not of the picture.
        pytest.param(
            {"rows": 4, "columns": 1, "values": [[1], [0], [0], [1]]},
            *((64, 32), "pad", [(0.5, 0.45), (0.5, 0.55)], [0, 0]),
            id="pad: border stays outside",
        ),
        pytest.param(LEFT_HALF, (64, 32), "pad", [(0.1, 0.1), (0.9, 0.9)], [255, 0], id="pad: full width"),
    ],
)
def test_the_map_follows_how_the_model_takes_its_pictures(
    page: Page, saliency: dict[str, Any], picture: tuple[int, int], fit: str, places: list[Any], expected: list[int]
) -> None:
    """Stretched, cropped or padded as contract/image.py does it."""
    size = {"width": picture[0], "height": picture[1]}
    alphas = page.evaluate(PAINT, [saliency, size, {"width": 16, "height": 16, "fit": fit}, places])

    assert expected == pytest.approx(alphas, abs=12)
