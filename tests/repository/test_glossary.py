"""docs/glossary.md: one line a word, in order, found from the list of pages."""

from __future__ import annotations

import re

from tests.repository.project import ROOT

ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", (ROOT / "docs/glossary.md").read_text(), re.M)[1:]


def test_words_are_in_order_and_defined_once() -> None:
    """Each definition is one sentence or a few, with a full stop."""
    words = [word for word, _ in ROWS]

    assert len(words) > 30
    assert sorted(set(words), key=str.lower) == words
    assert [] == [word for word, meaning in ROWS if not meaning.endswith(".")]


def test_settings_and_folders_that_it_names_exist() -> None:
    """A definition that names one is kept up with it."""
    text = " ".join(meaning for _, meaning in ROWS)
    known = (ROOT / "service/gateway/context/settings.py").read_text()

    for name in re.findall(r"`FOVEA_(\w+)`", text):
        assert name.lower() in known, name
    for path in re.findall(r"`((?:contract|engine|pipeline|service)/[\w/.]*)`", text):
        assert (ROOT / path).exists(), path


def test_the_list_of_pages_links_to_it() -> None:
    """A reader of docs/README.md finds it."""
    assert "(glossary.md)" in (ROOT / "docs/README.md").read_text()
