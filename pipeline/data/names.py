"""Names of files and classes: bytes that are not UTF-8 are escaped, names that look alike are found."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

_ESCAPE = re.compile(r"\\x(?=[0-9a-f]{2})")
_ESCAPED_BYTE = re.compile(rb"\\x([0-9a-f]{2})")


def escape_name(name: str) -> str:
    r"""Return a name of the file system as text that every file and console takes, such as "gr\xfcn.png".

    Args:
        name: as Python reads it; bytes that are not UTF-8 are lone surrogates.
    """
    doubled = _ESCAPE.sub(r"\\x5cx", name)
    return doubled.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def escape_bytes(name: bytes) -> str:
    """Return a name of unknown encoding as text: every byte beyond ASCII is escaped, as `escape_name` does."""
    return (
        _ESCAPE.sub(r"\\x5cx", name.decode("ascii", "surrogateescape"))
        .encode("ascii", "surrogateescape")
        .decode("ascii", "backslashreplace")
    )


def unescape_name(text: str) -> str:
    """Return the name of the file system that `escape_name` made a text of."""
    if "\\x" not in text:
        return text
    raw = _ESCAPED_BYTE.sub(lambda found: bytes([int(found[1], 16)]), text.encode("utf-8", "surrogateescape"))
    return raw.decode("utf-8", "surrogateescape")


def is_escaped(text: str) -> bool:
    """Return whether a text stands for a name that is not UTF-8."""
    return "\\x" in text and not _is_text(unescape_name(text))


def find_twins(names: Iterable[str]) -> list[list[str]]:
    """Return names that differ in Unicode form, case, blanks or invisible characters only, together."""
    found: dict[str, set[str]] = defaultdict(set)
    for name in names:
        found[_folded(name)].add(name)
    return [sorted(twins) for _, twins in sorted(found.items()) if len(twins) > 1]


def spell_name(name: str) -> str:
    """Return a name with its code points, such as "'é' (U+0065 U+0301)"."""
    points = " ".join(f"U+{ord(character):04X}" for character in name)
    return f"'{name}' ({points})"


def _folded(name: str) -> str:
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).lower())
    visible = "".join(character for character in text if unicodedata.category(character) != "Cf")
    return " ".join(visible.split())


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
