"""Three real model servers behind one gateway, under load: killed, stopped, hanging, late, behind by a version."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from contract.store import ModelStore
from tests.conftest import StartModelServer
from tests.helpers.gateway_process import ServiceProcess, fetch, predict
from tests.helpers.model_client import ModelClient
from tests.helpers.server_process import ROOT, ServerProcess
from tests.helpers.tiny_model import MODEL_NAME, publish_variant
from tests.helpers.traffic import Ledger, encode_colour, traffic, wait_until

JOIN_S = 6.0
RED = encode_colour((150, 100, 100))
_HEALTH = "--enable_grpc_healthcheck_service"


@dataclass
class Fleet:
    """Three places for model servers, and a gateway that knows them all.

    Attributes:
        start: starts a model server of a store with flags.
        stores: what each server follows; the gateway reads the first one's index.
        addresses: of the servers.
        servers: those that run, by place.
        url: of the gateway.
    """

    start: StartModelServer
    stores: list[ModelStore]
    addresses: list[str]
    servers: dict[int, ServerProcess] = field(default_factory=dict)
    url: str = ""

    def bring_up(self, place: int) -> ServerProcess:
        """Start the server of a place and wait until it has loaded version 1."""
        host, port = self.addresses[place].split(":")
        server = self.start(self.stores[place], f"--host={host}", f"--port={port}", _HEALTH)
        self.servers[place] = server
        with ModelClient(server.address) as client:
            client.wait_for(MODEL_NAME, 1)
        return server

    def publish(self, source: Path, *places: int) -> None:
        """Publish the next version to the stores of some places."""
        for place in places:
            publish_variant(self.stores[place], source)

    def calls(self, outcome: str = "ok") -> list[float]:
        """Return how many calls of each place have ended so, as the gateway counts them."""
        found = self.metric("fovea_model_server_calls_total")
        return [found.get(f'{{outcome="{outcome}",server="{address}"}}', 0) for address in self.addresses]

    def up(self) -> list[float]:
        """Return 1 for each place that the gateway calls."""
        found = self.metric("fovea_model_server_up")
        return [found.get(f'{{server="{address}"}}', 0) for address in self.addresses]

    def metric(self, name: str) -> dict[str, float]:
        """Return a metric's values by labels."""
        reply = fetch(self.url + "/metrics")
        assert reply is not None
        lines = [line for line in reply.text.splitlines() if line.startswith(name + "{")]
        return {line.removeprefix(name).rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


@pytest.fixture(name="fleet")
def fixture_fleet(tmp_path: Path, tiny_models: dict[str, Path], start_modelserver: StartModelServer) -> Iterator[Fleet]:
    """Three running servers with `colours` 1 and a gateway that calls them all."""
    with running_fleet(tmp_path, tiny_models, start_modelserver) as fleet:
        yield fleet


@contextlib.contextmanager
def running_fleet(
    folder: Path, tiny_models: dict[str, Path], start: StartModelServer, *, places: tuple[int, ...] = (0, 1, 2)
) -> Iterator[Fleet]:
    """Start servers in some places, and a gateway that knows all three."""
    stores = [ModelStore(folder / f"store{place}" / "models") for place in range(3)]
    fleet = Fleet(start, stores, [f"127.0.0.1:{free_port()}" for _ in stores])
    fleet.publish(tiny_models["plain"], 0, 1, 2)
    for place in places:
        fleet.bring_up(place)
    (folder / "gateway").mkdir()
    backend = "ipv4:" + ",".join(fleet.addresses)
    flags = [f"--models-dir={stores[0].root}", f"--backend={backend}", "--port=0", "--quorum-wait-s=3600"]
    gateway = ServiceProcess(["gateway", *flags], folder / "gateway")
    try:
        fleet.url = gateway.wait_for_url()
        gateway.wait_until_ready(fleet.url)
        wait_until(lambda: sum(fleet.up()) == len(places))
        yield fleet
    finally:
        assert 0 == gateway.stop()
    assert "Traceback" not in gateway.log


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def watched(fleet: Fleet) -> Iterator[Ledger]:
    """Send requests and ask for /readyz while the block runs; nothing may fail, and no answer may be another's."""
    flips = []
    with traffic(fleet.url) as ledger, traffic_of_readiness(fleet.url, flips):
        wait_until(lambda: ledger.statuses[200] >= 30)
        yield ledger
    assert [] == ledger.wrong + ledger.lost
    assert {200} == set(ledger.statuses), ledger.codes
    assert [] == flips


@contextlib.contextmanager
def traffic_of_readiness(url: str, flips: list[str]) -> Iterator[None]:
    """Note every /readyz that is not 200 while the block runs."""
    code = (
        "import sys, time, urllib.request\n"
        "while True:\n"
        "    try:\n"
        "        urllib.request.urlopen(sys.argv[1] + '/readyz', timeout=60).read()\n"
        "    except urllib.error.HTTPError as err:\n"
        "        print(err.read().decode(), flush=True)\n"
        "    time.sleep(0.05)\n"
    )
    asking = subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        asking.kill()
        flips += asking.communicate(timeout=60)[0].splitlines()


def answered_more(ledger: Ledger, count: int = 60) -> Callable[[], bool]:
    """Return a condition: so many further requests were answered."""
    before = ledger.statuses[200]
    return lambda: ledger.statuses[200] >= before + count


def test_killed_server_is_missed_by_no_client(fleet: Fleet) -> None:
    """SIGKILL under load: no error, no flip of /readyz; the server gets calls again once it is back."""
    with watched(fleet) as ledger:
        fleet.servers[0].process.kill()
        wait_until(answered_more(ledger))
        before = fleet.calls()[0]
        fleet.bring_up(0)
        wait_until(lambda: fleet.calls()[0] > before + 5)


@pytest.mark.slow
def test_stopping_server_is_missed_by_no_client(fleet: Fleet) -> None:
    """SIGTERM under load, of each server in turn, until all have been restarted."""
    with watched(fleet) as ledger:
        for place in range(3):
            assert 0 == fleet.servers[place].stop()
            wait_until(answered_more(ledger))
            before = fleet.calls()[place]
            fleet.bring_up(place)
            wait_until(lambda place=place, before=before: fleet.calls()[place] > before + 5)


@pytest.mark.slow
def test_hanging_server_is_missed_by_no_client(fleet: Fleet) -> None:
    """SIGSTOP under load: its calls are sent to another server when it has not answered for a while."""
    with watched(fleet) as ledger:
        fleet.servers[1].process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: sum(fleet.calls("model_server_unreachable")) > 0)
            wait_until(answered_more(ledger))
        finally:
            fleet.servers[1].process.send_signal(signal.SIGCONT)
        before = fleet.calls()[1]
        wait_until(lambda: fleet.calls()[1] > before + 5)


@pytest.mark.slow
def test_load_is_spread(fleet: Fleet) -> None:
    """Each server gets its third of the calls, within a fifth."""
    with watched(fleet) as ledger:
        before = fleet.calls()
        wait_until(answered_more(ledger, 600))
        counts = [after - count for after, count in zip(fleet.calls(), before, strict=True)]
    mean = sum(counts) / 3

    assert all(0.8 * mean <= count <= 1.2 * mean for count in counts), counts


@pytest.mark.slow
def test_lagging_server_holds_the_new_version(fleet: Fleet, tiny_models: dict[str, Path]) -> None:
    """Two of three have it: the previous version answers, `?version=` the new one, without an error."""
    fleet.publish(tiny_models["permuted"], 0, 1)
    for place in (0, 1):
        with ModelClient(fleet.addresses[place]) as client:
            client.wait_for(MODEL_NAME, 2)
    with watched(fleet) as ledger:
        wait_until(lambda: len(fleet.metric("fovea_model_server_version")) == 5)
        asked = Counter(predict(fleet.url, RED, version=2).status_code for _ in range(60))
        early = {version for version, _ in ledger.answers}
        fleet.publish(tiny_models["permuted"], 2)
        wait_until(lambda: any(version == 2 for version, _ in list(ledger.answers)))
        wait_until(lambda: answers_with(fleet.url) == 2)
        late = {answers_with(fleet.url) for _ in range(60)}

    assert {200: 60} == asked
    assert {1} == early
    assert {2} == late


@pytest.mark.slow
def test_late_server_joins(tmp_path: Path, tiny_models: dict[str, Path], start_modelserver: StartModelServer) -> None:
    """The third server starts when the others have traffic; within six seconds it has its share."""
    with running_fleet(tmp_path, tiny_models, start_modelserver, places=(0, 1)) as fleet, watched(fleet):
        fleet.bring_up(2)
        ready = time.monotonic()
        wait_until(lambda: fleet.calls()[2] > 0)

        assert time.monotonic() - ready <= JOIN_S


def answers_with(url: str) -> int:
    """Return the version that answers a request without one."""
    reply = predict(url, RED)
    assert 200 == reply.status_code, reply.text
    version: int = reply.json()["model"]["version"]
    return version


@pytest.mark.slow
def test_addresses_of_a_name_are_looked_up_again(
    tmp_path: Path, tiny_models: dict[str, Path], start_modelserver: StartModelServer
) -> None:
    """dns:///: a second address joins within six seconds of its entry, with the resolver of the machine."""
    hosts, port = tmp_path / "hosts", free_port()
    hosts.write_text("127.0.0.1 localhost\n127.0.0.1 modelserver.test\n")
    store = ModelStore(tmp_path / "models")
    publish_variant(store, tiny_models["plain"])
    for address in ("127.0.0.1", "127.0.0.2"):
        server = start_modelserver(store, f"--host={address}", f"--port={port}")
        with ModelClient(server.address) as client:
            client.wait_for(MODEL_NAME, 1)
    inside = f'mount --bind {hosts} /etc/hosts && exec "$@"'
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, "sh"]
    if subprocess.run([*namespace, "true"], capture_output=True, timeout=60, check=False).returncode:
        pytest.skip("/etc/hosts of a process cannot be replaced here: no user namespaces")
    command = [*namespace, sys.executable, "-m", "service", "gateway", f"--models-dir={store.root}", "--port=0"]
    log = tmp_path / "gateway.log"
    with log.open("wb") as stderr:
        gateway = subprocess.Popen(
            [*command, f"--backend=dns:///modelserver.test:{port}"], stdout=stderr, stderr=stderr, cwd=ROOT
        )
    try:
        wait_until(lambda: "ready: colours" in log.read_text())
        url = log.read_text().partition("listening on ")[2].partition(",")[0]
        joined = time.monotonic()
        hosts.write_text(hosts.read_text() + "127.0.0.2 modelserver.test\n")
        with traffic(url) as ledger:
            second = f'fovea_model_server_calls_total{{outcome="ok",server="127.0.0.2:{port}"}}'
            wait_until(lambda: second in str(fetch(url + "/metrics")))

            assert time.monotonic() - joined <= JOIN_S
        assert {200} == set(ledger.statuses)
    finally:
        gateway.send_signal(signal.SIGTERM)
        assert 0 == gateway.wait(60)
