#!/usr/bin/env python3
"""Writes docs/settings.md from the gateway's settings; `--check` fails if the page is out of date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from service.gateway.context.settings import Settings, variable_name  # noqa: E402

PAGE = ROOT / "docs" / "settings.md"
_HEAD = """\
# Settings of the gateway

Each setting is a flag and an environment variable, such as `--max-images 8` and `FOVEA_MAX_IMAGES=8`. Flags win.
Unknown flags and unknown `FOVEA_*` variables are refused with the nearest known name. `python -m service up`
decides the backend itself, refuses `--backend`, `--listen-fd` and `--models`, and takes the store `models` unless
`--models-dir` names another. Compose reads [.env](../.env).
`.venv/bin/python scripts/settings_page.py` writes this page.

| variable | default | meaning |
|---|---|---|
"""


def build_page() -> str:
    """Return the page: a row for each setting, in the order of `Settings`."""
    return _HEAD + "".join(_row(name) for name in Settings.model_fields)


def _row(name: str) -> str:
    field = Settings.model_fields[name]
    if field.default_factory is not None:
        default = "number of CPUs"
    else:
        default = "" if field.default in (None, ()) else f"`{field.default}`"
    return f"| `{variable_name(name)}` | {default} | {field.description} |\n"


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description="Writes docs/settings.md from the gateway's settings.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is out of date")
    if not parser.parse_args().check:
        PAGE.write_text(build_page())
        return 0
    if PAGE.read_text() == build_page():
        return 0
    print("docs/settings.md is out of date; run: .venv/bin/python scripts/settings_page.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
