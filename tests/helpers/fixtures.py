"""Files that earlier releases of Fovea wrote; see tests/fixtures/README.md."""

from __future__ import annotations

from tests.helpers.server_process import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
