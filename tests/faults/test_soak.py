"""The soak benchmark's short form."""

from __future__ import annotations

import json

import pytest

from benchmarks import soak

MAX_GROWTH_MB = 15.0


@pytest.mark.slow
def test_a_minute_of_reloads_and_faults_loses_nothing() -> None:
    """Every request is answered rightly or refused with Retry-After, counters agree, memory stays where it is."""
    measured = soak.run("quick")
    said = json.dumps(measured, indent=1)

    assert {"wrong": 0, "lost": 0, "refused_without_retry_after": 0, "counters_differ_by": 0}.items() <= (
        measured.items()
    ), said
    assert {"200", "503"} >= set(measured["statuses"]), said
    assert measured["statuses"]["200"] > 100, said
    assert measured["asked_the_other_gateway"] > 0, said
    assert max(measured["modelserver_growth_mb"], measured["gateway_growth_mb"]) < MAX_GROWTH_MB, said
