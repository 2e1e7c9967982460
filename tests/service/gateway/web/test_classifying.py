"""The page classifies: every way in, several at once, good and bad, with the gateway's own numbers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from tests.helpers.gateway_process import predict
from tests.helpers.pictures import COLOURS, encode, truncated_jpeg
from tests.service.gateway.web.visit import OpenPage, Visitor

LABELS = {"red": "Red", "green": "Green", "blue": "Blue"}


def mixed_picture() -> bytes:
    """Return a PNG of a third of each colour and a bit more red, so that no class is certain."""
    pixels = np.zeros((60, 60, 3), np.uint8)
    pixels[:24, :, 0] = pixels[24:42, :, 1] = pixels[42:, :, 2] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_an_image_is_shown_with_the_gateways_probabilities(visitor: Visitor, url: str) -> None:
    """Every class with its percentage, the model with its version, and the file sent whole."""
    data = mixed_picture()
    reply = predict(url, data).json()
    visitor.choose([("eye.png", data)])
    card = visitor.expect_answer("eye.png", "Red")
    shown = [
        (item.locator("span").first.inner_text(), float(item.locator("data").get_attribute("value") or "nan"))
        for item in card.locator(".bars li").all()
    ]

    assert [(item["label"], item["probability"]) for item in reply["predictions"][0]["top"]] == shown
    assert f"{100 * shown[0][1]:.1f} %" == card.locator("data").first.inner_text()
    expect(card.locator(".origin")).to_contain_text("Model colours, version 2")
    assert [len(data)] == visitor.sizes_sent("/v1/predict")


def test_of_several_images_each_has_its_own_outcome(visitor: Visitor) -> None:
    """Those that cannot be read say why, with the gateway's words; the others are answered."""
    files = [(f"{colour}.png", encode(colour)) for colour in COLOURS]
    visitor.choose([*files, ("half.jpg", truncated_jpeg()), ("letter.png", b"Dear doctor"), ("nothing.png", b"")])
    for colour in COLOURS:
        visitor.expect_answer(f"{colour}.png", LABELS[colour])
    broken = visitor.expect_failure("half.jpg", "The image is damaged")
    text = visitor.expect_failure("letter.png", "This format is not read")
    visitor.expect_failure("nothing.png", "The file is empty")

    expect(broken).to_contain_text("truncated")
    expect(text).to_contain_text("11 bytes of another format")
    expect(text.get_by_role("button", name="Try again")).to_be_hidden()
    expect(visitor.page.locator("#summary")).to_have_text("6 images, 3 failed")


def test_dropped_files_and_folders_are_taken(visitor: Visitor, tmp_path: Path) -> None:
    """As a file manager drops them: files as they are, folders opened, hidden files left out."""
    (tmp_path / "set" / "inner").mkdir(parents=True)
    for path, colour in (("red.png", "red"), ("set/b.png", "blue"), ("set/inner/g.png", "green")):
        (tmp_path / path).write_bytes(encode(colour))
    (tmp_path / "set" / ".DS_Store").write_bytes(b"x")
    visitor.drop([tmp_path / "red.png", tmp_path / "set"])

    visitor.expect_answer("red.png", "Red")
    visitor.expect_answer("b.png", "Blue")
    visitor.expect_answer("g.png", "Green")
    expect(visitor.page.locator(".card")).to_have_count(3)


def test_a_pasted_image_is_taken(visitor: Visitor, page: Page) -> None:
    """From the clipboard, by the keyboard."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async (bytes) => {
          const image = new Blob([new Uint8Array(bytes)], {type: "image/png"});
          await navigator.clipboard.write([new ClipboardItem({"image/png": image})]);
        }""",
        list(encode("green")),
    )
    page.keyboard.press("Control+V")

    visitor.expect_answer("pasted 1", "Green")


def test_only_the_screens_copy_of_a_large_picture_is_small(visitor: Visitor) -> None:
    """The canvas has the picture's shape at a screen's size; the request has the file."""
    data = encode("blue", "JPEG", size=2400)
    visitor.choose([("large.jpg", data)])
    card = visitor.expect_answer("large.jpg", "Blue")

    expect(card.locator(".picture")).to_have_attribute("width", "960")
    assert [len(data)] == visitor.sizes_sent("/v1/predict")


def test_results_can_be_saved_and_removed(visitor: Visitor, page: Page) -> None:
    """As CSV, a line for each class, with names that a spreadsheet would calculate as text; one by one, or all."""
    visitor.choose([("=1+1.png", encode("red")), ("b.png", encode("blue")), ("c.png", b"no image")])
    visitor.expect_answer("b.png", "Blue")
    visitor.expect_failure("c.png", "This format is not read")
    visitor.expect_answer("=1+1.png", "Red")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    lines = Path(download.value.path()).read_text("utf-8-sig").splitlines()

    assert "fovea-results.csv" == download.value.suggested_filename
    assert "file,model,version,contract,class,probability,warnings,error,request" == lines[0]
    assert 7 == len(lines) - 1
    assert {"'=1+1.png", "b.png", "c.png"} == {line.split(",")[0] for line in lines[1:]}
    page.get_by_role("button", name="Remove b.png").click()
    expect(page.locator(".card")).to_have_count(2)
    page.get_by_role("button", name="Remove all").click()
    expect(page.get_by_role("heading", name="Results")).to_be_hidden()


def test_a_browser_that_keeps_nothing_is_enough(open_page: OpenPage, url: str) -> None:
    """Where storage is forbidden, asking for it throws; images are classified all the same."""
    forbid = "get() { throw new DOMException('no', 'SecurityError') }"
    visitor = open_page(url, script=f"Object.defineProperty(window, 'sessionStorage', {{{forbid}}})")
    visitor.choose([("eye.png", encode("green"))])

    visitor.expect_answer("eye.png", "Green")


def test_more_images_than_the_page_holds_are_left_out_and_said(visitor: Visitor, page: Page) -> None:
    """A browser's memory is bounded; the page says that the rest was not classified."""
    visitor.choose([(f"{i}.png", b"") for i in range(205)])

    expect(page.locator(".card")).to_have_count(200)
    expect(page.locator("#intake-note")).to_contain_text("5 images left out")
