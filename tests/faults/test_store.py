"""Clients notice nothing of a full disk, of killed publishers and of two publishers at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contract.store import ModelStore
from tests.conftest import StartModelServer
from tests.faults.conftest import Served, start_serving
from tests.helpers.killed_publisher import publish_and_die
from tests.helpers.server_process import ROOT
from tests.helpers.tiny_model import MODEL_NAME, publish_variant
from tests.helpers.traffic import traffic, wait_until
from tests.service.conftest import StartProcess

PUBLISHES_EACH = 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not allow mounting a tmpfs")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.slow
def test_full_disk_fails_the_command_and_nobody_else(
    small_disk: Path, tiny_models: dict[str, Path], start_modelserver: StartModelServer, start_process: StartProcess
) -> None:
    """The last line says why; what was served is served on, and with room again the same command publishes."""
    store = ModelStore(small_disk / "models")
    publish_variant(store, tiny_models["plain"])
    served = start_serving(start_modelserver(store), start_process)
    command = [sys.executable, "-m", "pipeline", "import", str(tiny_models["permuted"]), "--name", MODEL_NAME]
    command += ["--models-dir", str(store.root)]
    filler = small_disk / "filler"
    before = store.read_index()
    with traffic(served.url, num_clients=2, pause_s=0.05) as seen:
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(bytes(4 << 20))
        refused = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)
        unchanged = store.read_index() == before
        filler.unlink()
        published = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)
        wait_until(lambda: served.state(2) == ("AVAILABLE", "OK"))

    assert (1, True) == (refused.returncode, unchanged)
    assert "No space left on device" in refused.stderr.splitlines()[-1]
    assert 0 == published.returncode, published.stderr
    assert ([], [], {200}) == (seen.wrong, seen.lost, set(seen.statuses))


@pytest.mark.slow
def test_publisher_killed_at_every_step_costs_no_request(served: Served, tiny_models: dict[str, Path]) -> None:
    """Kill -9 before each change of the file system in turn; the version that is published in the end is served."""
    killed = 0
    with traffic(served.url, num_clients=2, pause_s=0.02) as seen:
        for step in range(1, 60):
            done = publish_and_die(served.store, step=step, name=MODEL_NAME, source=tiny_models["permuted"])
            if done.returncode == 0:
                break
            assert -signal.SIGKILL == done.returncode, done.stderr.decode()
            killed += 1
        live = served.store.read_index()[MODEL_NAME].live
        wait_until(lambda: served.models == {MODEL_NAME: live})
        wait_until(lambda: any(version == live for version, _ in list(seen.answers)))

    assert killed >= 5
    assert ([], [], {200}) == (seen.wrong, seen.lost, set(seen.statuses))
    served.check_counters(seen)


def test_two_publishers_under_load_cost_no_request(served: Served, tiny_models: dict[str, Path]) -> None:
    """Each publishes its own kind of version; no number is used twice, and the last one is served."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom contract.store import ModelStore\n"
        "from tests.helpers.tiny_model import publish_variant\n"
        "for _ in range(int(sys.argv[3])):\n"
        "    print(publish_variant(ModelStore(Path(sys.argv[1])), Path(sys.argv[2])))"
    )

    def publish(variant: str) -> list[int]:
        command = [sys.executable, "-c", code, str(served.store.root), str(tiny_models[variant]), str(PUBLISHES_EACH)]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300)
        return [int(line) for line in done.stdout.split()]

    with traffic(served.url, num_clients=2, pause_s=0.02) as seen:
        with ThreadPoolExecutor(2) as pool:
            published = [number for numbers in pool.map(publish, ("permuted", "small")) for number in numbers]
        last = 1 + 2 * PUBLISHES_EACH
        wait_until(lambda: served.models == {MODEL_NAME: last})
        wait_until(lambda: any(version == last for version, _ in list(seen.answers)))

    assert list(range(2, last + 1)) == sorted(published)
    assert ([], [], {200}) == (seen.wrong, seen.lost, set(seen.statuses))
    served.check_counters(seen)
