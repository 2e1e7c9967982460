"""Small networks: Fovea and the peers that are given its engine and artifact, as `serving` measures them.

MobileNetV2 at 224 px, and the demo's network. The less the network computes, the more everything else shows.
`BENCHMARK_SYSTEMS=name,name` leaves out the other systems.
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks.serving import measure_network
from benchmarks.systems.choice import precisions
from benchmarks.systems.pairs import engine_peers, fovea_at
from benchmarks.workload.shared import NETWORKS, RESNET50


def run(size: str = "standard") -> dict[str, Any]:
    """Measure each network."""
    systems = [name for precision in precisions() for name in (fovea_at(precision), *engine_peers(precision))]
    wanted = os.environ.get("BENCHMARK_SYSTEMS", "") or ",".join(systems)
    small = [name for name in NETWORKS if name != RESNET50]
    return {"size": size, "networks": {name: measure_network(name, size, wanted) for name in small}}
