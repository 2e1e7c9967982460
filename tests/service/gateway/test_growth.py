"""The gateway does not grow with the requests that it answers."""

from __future__ import annotations

import pytest

from benchmarks import gateway_memory


@pytest.mark.slow
def test_ten_thousand_requests_cost_a_megabyte_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a warm-up, by a line through the resident memory after each thousand."""
    monkeypatch.setattr(gateway_memory, "REQUESTS_A_STEP", 1000)
    measured = gateway_memory.run()

    assert measured["growth_mb_per_10000"] <= 1.0, measured["resident_mb"]
