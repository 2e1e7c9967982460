"""The fenced blocks of a page, and what the comment above one says of it.

Marks: `<!-- server -->`, the command goes on running while the blocks below are run, and takes the place of one that
runs; `<!-- another server -->`, beside it; `<!-- run by tests/x.py -->`, another test runs it, since it needs Docker or
an hour; `<!-- output -->`, what the block above printed, in shape.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.repository.project import ROOT

DOCS = ROOT / "docs"
_BLOCK = re.compile(r"(?:^<!-- (?P<mark>.+?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
_RUN_BY = "run by "


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: as written behind the fence; empty if nothing is.
        text: between the fences.
        mark: the comment above it; empty without one.
        where: page and line, for messages.
    """

    language: str
    text: str
    mark: str
    where: str

    @property
    def elsewhere(self) -> Path | None:
        """The test that runs it instead, if one does."""
        return ROOT / self.mark.removeprefix(_RUN_BY) if self.mark.startswith(_RUN_BY) else None


def read_blocks(page: Path) -> list[Block]:
    """Return the blocks of a Markdown page in order; the code of a notebook is one, as its cells share their names."""
    if page.suffix == ".ipynb":
        cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        return [Block("python", "\n\n".join(code), "", page.name)]
    text = page.read_text(encoding="utf-8")
    blocks = []
    for found in _BLOCK.finditer(text):
        where = f"{page.name}:{text.count(chr(10), 0, found.start('text')) + 1}"
        blocks.append(Block(found["language"], found["text"], found["mark"] or "", where))
    return blocks


def shape_of(value: Any) -> Any:
    """Return what stays of a JSON value when numbers, texts and lengths are forgotten."""
    if isinstance(value, dict):
        return {key: shape_of(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape_of(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
