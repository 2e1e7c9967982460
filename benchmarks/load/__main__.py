"""Read a plan from stdin, run it, print what happened."""

from __future__ import annotations

import gc
import json
import sys

from benchmarks.load.plan import Plan


def main() -> int:
    """Run one plan."""
    plan = Plan.from_json(sys.stdin.read())
    if plan.protocol == "grpc":
        from benchmarks.load.grpc_loop import run_grpc as run
    else:
        from benchmarks.load.http_loop import run_http as run
    gc.disable()
    print(json.dumps(run(plan).summarize()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
