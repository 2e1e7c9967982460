"""Many images on the page: a table in a chosen order, filters with counts, one card at a time, all heat maps."""

from __future__ import annotations

import io

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from tests.helpers.pictures import encode
from tests.service.gateway.web.visit import OpenPage, Visitor, parts_outside

HOSTILE = "<img src=x onerror=alert(1)>.png"


def blend(red: int, green: int) -> bytes:
    """Return a PNG with these amounts of red and green: the nearer they are, the less certain the answer."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = red, green
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


# Names say how certain the model is.
FILES = [
    ("third.png", blend(200, 140)),
    ("first.png", blend(250, 0)),
    ("fourth.png", blend(200, 190)),
    ("second.png", blend(200, 110)),
    ("green.png", blend(0, 255)),
    (HOSTILE, blend(10, 240)),
    ("broken.png", b"no image"),
]


def fill(visitor: Visitor) -> None:
    """Choose the images and wait for the last answer."""
    visitor.choose(FILES)
    expect(visitor.page.locator("#rows tr[data-state=done]")).to_have_count(6)
    expect(visitor.page.locator("#rows tr[data-state=failed]")).to_have_count(1)


def names(page: Page) -> list[str]:
    """Return the images in the table, from the top."""
    return page.locator("#rows th button").all_inner_texts()


def test_a_table_is_sorted_filtered_and_counted(visitor: Visitor, page: Page) -> None:
    """More than six images: rows instead of cards; names are text."""
    fill(visitor)
    expect(page.locator("#cards")).to_be_hidden()
    assert [name for name, _ in FILES] == names(page)
    expect(page.locator("#chips button")).to_have_text(["All 7", "Failed 1", "Red 4", "Green 2"])
    assert 0 == page.locator("main img").count()

    page.get_by_label("Order").select_option("Least certain first")
    expect(page.locator("#rows th button").first).to_have_text("fourth.png")
    assert ["fourth.png", "third.png", "second.png"] == names(page)[:3]
    assert "broken.png" == names(page)[-1]
    page.get_by_role("button", name="Red 4").click()
    page.get_by_label("Order").select_option("Most certain first")
    expect(page.locator("#rows th button").first).to_have_text("first.png")
    assert ["first.png", "second.png", "third.png", "fourth.png"] == names(page)
    page.get_by_role("button", name="Failed 1").click()
    expect(page.locator("#rows .notes")).to_have_text(["This format is not read"])


def test_a_card_is_one_click_away_and_the_keyboard_comes_back(visitor: Visitor, page: Page) -> None:
    """By the name; previous and next follow the table's order; a removed image makes room for the next."""
    fill(visitor)
    page.get_by_role("button", name="first.png").focus()
    page.keyboard.press("Enter")
    expect(visitor.card("first.png").locator(".top-label")).to_have_text("Red")
    expect(visitor.card("first.png").locator(".name")).to_be_focused()
    expect(page.locator("#position")).to_have_text("2 of 7")
    page.get_by_role("button", name="Next").click()
    expect(visitor.card("fourth.png")).to_be_visible()
    expect(visitor.card("first.png")).to_be_hidden()
    page.get_by_role("button", name="Remove fourth.png").click()
    expect(visitor.card("second.png")).to_be_visible()
    page.get_by_role("button", name="Back to the table").click()

    expect(page.get_by_role("button", name="second.png")).to_be_focused()
    assert "fourth.png" not in names(page)


def test_all_heat_maps_are_shown_at_once_and_hidden(visitor: Visitor, page: Page) -> None:
    """Each answered image asks for its own; thumbnails have them too."""
    fill(visitor)
    thumbnail = page.locator("#rows canvas").first
    read = "(canvas) => canvas.toDataURL()"
    before = thumbnail.evaluate(read)
    page.get_by_role("button", name="Heat maps for all").click()
    expect(page.locator(".card .heat:not([hidden])")).to_have_count(6)
    sent = [request for request in visitor.requests if "/v1/explain" in request.url]
    page.get_by_role("button", name="Show as cards").click()
    expect(visitor.card("first.png").get_by_label("Strength")).to_be_visible()
    page.get_by_role("button", name="Show as table").click()
    expect(thumbnail).to_be_visible()

    assert 6 == len(sent)
    assert before != thumbnail.evaluate(read)
    page.get_by_role("button", name="Heat maps for all").click()
    expect(page.locator(".card .heat:not([hidden])")).to_have_count(0)


def test_few_images_are_cards_and_can_be_a_table(visitor: Visitor, page: Page) -> None:
    """Two cards; the table is a button away."""
    visitor.choose([("a.png", encode("red")), ("b.png", encode("blue"))])
    visitor.expect_answer("a.png", "Red")
    visitor.expect_answer("b.png", "Blue")
    expect(page.locator("#table")).to_be_hidden()
    page.get_by_role("button", name="Show as table").click()

    expect(page.locator("#rows .class")).to_have_text(["Red", "Blue"])


@pytest.mark.parametrize("width", [320, pytest.param(390, marks=pytest.mark.slow)])
def test_the_table_fits_a_phone_and_axe_finds_nothing(open_page: OpenPage, url: str, width: int) -> None:
    """In the dark, as a table and with one card."""
    visitor = open_page(url, bypass_csp=True, color_scheme="dark", viewport={"width": width, "height": 800})
    visitor.expect_state("Ready")
    fill(visitor)
    page = visitor.page
    table = Axe().run(page)
    assert width == page.evaluate("document.documentElement.scrollWidth")
    assert [] == parts_outside(page)
    page.get_by_role("button", name="third.png").click()
    visitor.wait_until_shown()
    card = Axe().run(page)

    assert [] == parts_outside(page)
    assert (0, 0) == (table.violations_count, card.violations_count), table.generate_report() + card.generate_report()
