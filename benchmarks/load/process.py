"""The load generator in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.load.plan import Plan
from benchmarks.systems.program import ROOT

_GRACE_S = 120.0


def run_load(plan: Plan) -> dict[str, Any]:
    """Run one plan in a process of its own and return what it tells."""
    command = [sys.executable, "-m", "benchmarks.load"]
    limit_s = plan.warm_up_s + plan.seconds + 3 * plan.timeout_s + _GRACE_S
    pipes: dict[str, Any] = {"input": plan.to_json(), "capture_output": True, "text": True}
    done = subprocess.run(command, check=True, cwd=ROOT, timeout=limit_s, **pipes)
    result: dict[str, Any] = json.loads(done.stdout)
    return result
