"""docs/settings.md has every setting of the gateway, as the code says it."""

from __future__ import annotations

import re

from scripts.settings_page import PAGE, build_page
from service.gateway.context.settings import Settings, variable_name


def test_the_page_is_current() -> None:
    """If not: .venv/bin/python scripts/settings_page.py."""
    assert build_page() == PAGE.read_text()


def test_every_setting_has_a_row_with_its_meaning() -> None:
    rows = re.findall(r"^\| `(FOVEA_\w+)` \| (.*?) \| (.+) \|$", PAGE.read_text(), re.M)
    assert [name for name, _, _ in rows] == [variable_name(name) for name in Settings.model_fields]
    assert {name: default for name, default, _ in rows}["FOVEA_MAX_IMAGES"] == "`64`"
