"""MkDocs hook: links from docs/ to files outside it name the file, which the site does not hold."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

_LINK = re.compile(r"\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^)\s:#]+)(?:#[^)\s]*)?\)")
_FENCE = re.compile(r"(^```.*?^```$|`[^`\n]*`)", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Replace links that leave docs/, and links to folders, by their text and the path."""
    folder = PurePosixPath(page.file.src_uri).parent
    parts = _FENCE.split(markdown)
    return "".join(part if at % 2 else _replace(part, folder) for at, part in enumerate(parts))


def _replace(markdown: str, folder: PurePosixPath) -> str:
    def name_file(link: re.Match[str]) -> str:
        path = _resolve(folder / link["target"])
        if path is not None and not link["target"].endswith("/"):
            return link[0]
        named = str(path) if path is not None else _outside(folder, link["target"])
        is_same = link["text"].strip("`").rstrip("/") == named.rstrip("/")
        return f"`{named}`" if is_same else f"{link['text']} (`{named}` in the project)"

    return _LINK.sub(name_file, markdown)


def _resolve(path: PurePosixPath) -> PurePosixPath | None:
    """Return a path inside docs/ without `..`; None if it leaves docs/."""
    parts: list[str] = []
    for part in path.parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            return None
    return PurePosixPath(*parts)


def _outside(folder: PurePosixPath, target: str) -> str:
    """Return the path of a file outside docs/ from the project's folder."""
    parts = ["docs"]
    for part in (folder / target).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts) + ("/" if target.endswith("/") else "")
