"""Gives the sections of a page anchors, and lists them; replaces a marked part."""

from __future__ import annotations

import re
from html import unescape

_HEADING = re.compile(r"<h2>(.*?)</h2>")


def add_contents(page: str, name: str = "contents") -> str:
    """Return a page whose sections have ids, with links to them in the part that is marked by this name."""
    entries: list[tuple[str, str]] = []

    def anchor(found: re.Match[str]) -> str:
        title = found[1]
        slug = re.sub(r"[^a-z0-9]+", "-", unescape(title).lower()).strip("-") or "section"
        taken = {other for other, _ in entries}
        place = slug if slug not in taken else f"{slug}-{len(entries)}"
        entries.append((place, title))
        return f'<h2 id="{place}">{title}</h2>'

    page = _HEADING.sub(anchor, page)
    links = "".join(f'<li><a href="#{place}">{title}</a></li>' for place, title in entries)
    return replace_between(page, name, f'<nav class="toc" aria-label="Contents"><ol>{links}</ol></nav>', keep=False)


def replace_between(page: str, name: str, part: str, *, keep: bool = True) -> str:
    """Return a page with another part between the comments `<!-- name -->` and `<!-- /name -->`.

    Headings of the part get the ids of those that they replace. A page without the comments stays as it is.
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = page.partition(start)
    old, closing, after = rest.partition(end)
    if not found or not closing:
        return page
    for place, title in re.findall(r'<h2 id="([^"]*)">(.*?)</h2>', old):
        part = part.replace(f"<h2>{title}</h2>", f'<h2 id="{place}">{title}</h2>')
    return f"{before}{start}{part}{end}{after}" if keep else f"{before}{part}{after}"
