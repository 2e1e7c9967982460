"""A real Ray cluster of several nodes on loopback, each a raylet of its own; ends with its standard input.

    python -m tests.helpers.ray_nodes FOLDER CPUS...     a node for each number, the head first

Prints a line of JSON: the head's address and the pids of the raylets.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.helpers.server_process import ROOT

_OBJECT_STORE_BYTES = 80_000_000


@dataclass(frozen=True)
class RayNodes:
    """A running cluster.

    Attributes:
        address: HOST:PORT of the head.
        raylets: pids, the head's first.
        environment: for drivers, with the token.
        log: what the cluster's processes print.
    """

    address: str
    raylets: tuple[int, ...]
    environment: dict[str, str]
    log: Path


@contextmanager
def ray_nodes(log: Path, *cpus: int) -> Iterator[RayNodes]:
    """Start a cluster that requires a token, a node for each number of CPUs."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # nodes listen on loopback alone
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_memory_monitor_refresh_ms": "0",  # other programs may fill the memory
    }
    # Sockets' paths are short; a test's folder is not.
    with TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder, log.open("wb") as errors:
        command = [sys.executable, "-m", "tests.helpers.ray_nodes", folder, *map(str, cpus)]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith(b"{"):
                    facts = json.loads(line)
                    yield RayNodes(facts["address"], tuple(facts["raylets"]), environment, log)
                    break
            else:
                raise RuntimeError(f"the cluster ended at once:\n{log.read_text()[-3000:]}")
        finally:
            process.stdin.close()
            try:
                process.wait(60)
            finally:
                # Whatever is left of it is in its process group.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.stdout.close()
                process.wait(60)


def _run(folder: str, cpus: list[int]) -> None:
    from ray.cluster_utils import Cluster

    Path("/tmp/ray").mkdir(exist_ok=True)  # where Ray notes the address, whatever its folder is
    arguments = {"object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(
        initialize_head=True,
        head_node_args={**arguments, "num_cpus": cpus[0], "temp_dir": folder},
        shutdown_at_exit=True,
    )
    nodes = [cluster.head_node, *(cluster.add_node(**arguments, num_cpus=count) for count in cpus[1:])]
    cluster.wait_for_nodes()
    raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
    sys.stdout.write(json.dumps({"address": cluster.address, "raylets": raylets}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    _run(sys.argv[1], [int(count) for count in sys.argv[2:]])
