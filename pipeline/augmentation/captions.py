"""Captions of pictures in any script that an installed font has."""

from __future__ import annotations

import functools
import unicodedata
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_PIXELS = 10
_UNDRAWN = ("Cc", "Cs", "Cn")  # control characters, lone surrogates, no characters
_FORMATS = ("Cf", "Zs", "Zl", "Zp")  # what needs no glyph


def write_caption(text: str) -> tuple[str, Font]:
    """Return a caption and a font that has its characters; without such a font they are escaped."""
    clean = "".join(_escape(c) if unicodedata.category(c) in _UNDRAWN else c for c in text)
    needed = frozenset(ord(c) for c in clean if unicodedata.category(c) not in _FORMATS)
    if max(needed, default=0) < 0x180:  # Latin, which Pillow's own font has
        return clean, ImageFont.load_default(_PIXELS)
    path = _find_font(needed)
    if path is None:
        return "".join(c if ord(c) < 0x180 else _escape(c) for c in clean), ImageFont.load_default(_PIXELS)
    return clean, ImageFont.truetype(path, _PIXELS)


def _escape(character: str) -> str:
    """Return a character as its number; the ASCII ones among them are control characters."""
    return (
        character.encode("ascii", "backslashreplace").decode() if ord(character) > 127 else f"\\x{ord(character):02x}"
    )


@functools.lru_cache(maxsize=64)
def _find_font(needed: frozenset[int]) -> str | None:
    """Return the file of a font that has all of some characters: Matplotlib's own, or one of this machine."""
    return next((path for path in _font_files() if needed <= _characters(path)), None)


@functools.lru_cache(maxsize=1)
def _font_files() -> tuple[str, ...]:
    from matplotlib import get_data_path
    from matplotlib.font_manager import findSystemFonts

    own = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return (str(own), *sorted(findSystemFonts()))


@functools.lru_cache(maxsize=512)
def _characters(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # a file that FreeType cannot read
        return frozenset()
