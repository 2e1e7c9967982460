"""Keeps the generated sections of docs/conformance.md equal to the tables of cases.

A section stands between `<!-- begin NAME -->` and `<!-- end NAME -->`, each on a line of its own.

    python -m tests.conformance.page     writes every section anew
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.conformance import cases, differences, open_inference_cases
from tests.helpers.server_process import ROOT

PAGE: Final = ROOT / "docs" / "conformance.md"
SECTIONS: Final[Mapping[str, Callable[[], Sequence[str]]]] = {
    "tensorflow-serving-same": cases.describe,
    "tensorflow-serving-different": functools.partial(differences.describe, differences.DIFFERENCES),
    "tensorflow-serving-rest-different": functools.partial(differences.describe, differences.REST_DIFFERENCES),
    open_inference_cases.SECTION: open_inference_cases.describe,
}


def render() -> str:
    """Returns the page with every generated section as the tables of cases have it."""
    text = PAGE.read_text()
    for name, describe in SECTIONS.items():
        text = replace_section(text, name, describe())
    return text


def replace_section(text: str, name: str, lines: Sequence[str]) -> str:
    """Returns a page with other lines in one of its sections.

    Args:
        text: the page.
        name: the section's name, as its markers have it.
        lines: what stands between the markers from now on.

    Raises:
        ValueError: if the page does not have both markers once, in that order.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"expected one line {begin} and one line {end} after it")
    head, _, rest = text.partition(begin)
    return "\n".join((head + begin, *lines, end + rest.partition(end)[2]))


if __name__ == "__main__":
    PAGE.write_text(render())
