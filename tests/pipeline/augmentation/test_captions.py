"""pipeline/augmentation/captions.py: a font that has the script, or the characters' numbers."""

import pytest
from PIL import ImageFont

from pipeline.augmentation import captions


@pytest.mark.parametrize("text", ["cats", "Größe", "Глаукома", "αβγ", "سليم"])
def test_a_font_has_the_characters(text: str) -> None:
    """Latin is Pillow's own font; Cyrillic, Greek and Arabic are in Matplotlib's."""
    drawn, font = captions.write_caption(text)

    assert text == drawn
    assert isinstance(font, ImageFont.FreeTypeFont)
    missing = font.getmask("\uffff").getbbox()
    assert missing is None or any(font.getmask(c).getbbox() != missing for c in text)


def test_what_no_font_has_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a font for Chinese the numbers stand there, and controls are never drawn."""
    own = captions._font_files()[:1]
    monkeypatch.setattr(captions, "_font_files", lambda: own)
    captions._find_font.cache_clear()

    assert r"\u7dd1 ok" == captions.write_caption("緑 ok")[0]
    assert r"a\x0ab" == captions.write_caption("a\nb")[0]
    captions._find_font.cache_clear()
