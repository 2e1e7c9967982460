"""deploy/prometheus and deploy/grafana, against a real Prometheus that watches real servers."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from contract.store import ModelStore
from tests.conftest import StartModelServer
from tests.helpers.gateway_process import ServiceProcess, fetch, predict
from tests.helpers.pictures import encode
from tests.helpers.server_process import ServerProcess
from tests.helpers.tiny_model import publish_variant
from tests.repository.project import ROOT

DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "fovea.json"
WAIT_S = 120.0  # how long anything may take on a busy machine
# Two requests at work and two that wait are the most, and a model server that is silent for three seconds is given up.
TIGHT = ("--max-concurrency=2", "--max-queue=2", "--predict-timeout-s=3")

OUTAGES = {"FoveaGatewayDown", "FoveaModelServerDown", "FoveaNotReady", "FoveaErrors"}

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="Prometheus is not installed (Debian's package prometheus)",
)


@dataclass(frozen=True)
class Monitored:
    """A Prometheus and what it watches."""

    prometheus: str  # URL
    url: str  # the gateway's
    gateway: ServiceProcess
    modelserver: ServerProcess

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query."""
        reply = fetch(f"{self.prometheus}/api/v1/query?{urlencode({'query': expression})}")
        if reply is None or reply.status_code == 503:  # it does not listen yet, or not answer yet
            return []
        document = reply.json()
        assert document["status"] == "success", (expression, document)
        found: list[dict[str, Any]] = document["data"]["result"]
        return found

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {found["metric"]["alertname"] for found in self.query('ALERTS{alertstate="firing"}')}


def wait_for(condition: Callable[[], Any], what: Callable[[], object]) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: if it does not in time, with what is there instead.
    """
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(str(what()))
        time.sleep(0.2)


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def write_config(folder: Path, *, gateway: str, modelserver: str) -> Path:
    """Write the shipped configuration with this test's addresses, and a second for every wait."""
    config = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    rules = (DEPLOY / "prometheus" / "alerts.yml").read_text()
    config = config.replace("gateway:8000", gateway).replace("modelserver:8501", modelserver).replace(": 15s", ": 1s")
    (folder / "alerts.yml").write_text(re.sub(r"for: \w+", "for: 1s", rules))
    path = folder / "prometheus.yml"
    path.write_text(config)
    return path


@pytest.fixture
def monitored(
    tmp_path: Path, store: ModelStore, tiny_models: dict[str, Path], start_modelserver: StartModelServer
) -> Iterator[Monitored]:
    """Prometheus, as it is shipped but for addresses and waits, a gateway and a model server; a candidate is tried."""
    publish_variant(store, tiny_models["permuted"], live=False)
    for kind, share in (("shadow", 1), ("canary", 0.5)):
        store.set_trial_share("colours", kind, share)
    port, metrics_port = free_port(), free_port()
    modelserver = start_modelserver(store, f"--monitoring_port={metrics_port}")
    flags = ["--port=0", f"--models-dir={store.root}", f"--backend={modelserver.address}"]
    gateway = ServiceProcess(["gateway", *flags, *TIGHT], tmp_path)
    process = None
    try:
        url = gateway.wait_for_url(timeout_s=WAIT_S)
        gateway.wait_until_ready(url, timeout_s=WAIT_S)
        config = write_config(tmp_path, gateway=url.removeprefix("http://"), modelserver=f"127.0.0.1:{metrics_port}")
        flags = [f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
        with (tmp_path / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(
                ["prometheus", *flags, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log, cwd=tmp_path
            )
        yield Monitored(f"http://127.0.0.1:{port}", url, gateway, modelserver)
    finally:
        if process is not None:
            process.terminate()
            process.wait(30)
        gateway.stop()


def dashboard_queries() -> dict[str, list[str]]:
    """The queries of every panel and annotation, by its title, for all models and versions."""
    document = json.loads(DASHBOARD.read_text())
    queries = {panel["title"]: panel["targets"] for panel in document["panels"] if "targets" in panel}
    queries |= {found["name"]: [found] for found in document["annotations"]["list"]}
    variables = {"$" + found["name"]: found["allValue"] for found in document["templating"]["list"]}

    def fill(query: str) -> str:
        for name, value in {**variables, "$__rate_interval": "1m"}.items():
            query = query.replace(name, value)
        return query.removesuffix(" > 0")  # Grafana draws an annotation for each result; here 0 is one too

    return {title: [fill(one["expr"]) for one in found] for title, found in queries.items()}


@needs_prometheus
@pytest.mark.parametrize(
    "command", ["check config prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"]
)
def test_promtool_accepts_what_is_shipped(command: str) -> None:
    """Configuration and rules are valid, and the rules fire on made-up histories as they should."""
    done = subprocess.run(
        ["promtool", *command.split()], cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_every_alert_has_a_history_that_fires_it() -> None:
    """No rule is shipped that nothing has ever set off: alerts_test.yml, which promtool runs above, knows each."""
    shipped = re.findall(r"- alert: (\w+)", (DEPLOY / "prometheus" / "alerts.yml").read_text())
    tried = re.findall(
        r"alertname: (\w+)\n +exp_alerts:\n +- exp_labels", (DEPLOY / "prometheus" / "alerts_test.yml").read_text()
    )
    assert set(shipped) == set(tried)


def test_every_alert_has_a_runbook() -> None:
    """Each `runbook_url` is a section of a page, by the anchor that Markdown makes of its heading."""
    rules = (DEPLOY / "prometheus" / "alerts.yml").read_text()
    linked = re.findall(r'runbook_url: "docs/runbooks.md#(\w+)"', rules)
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    assert re.findall(r"- alert: (\w+)", rules) == headings
    assert [heading.lower() for heading in headings] == linked


@needs_prometheus
def test_dashboard_shows_and_alerts_fire(monitored: Monitored) -> None:
    """Every query of the dashboard returns data while all is well; each fault then makes its alerts fire."""
    queries = [(title, query) for title, found in dashboard_queries().items() for query in found]

    def silent() -> list[tuple[str, str]]:
        codes = [predict(monitored.url, body).status_code for body in (encode("red"), b"no picture")]
        if codes != [200, 415]:
            return [("requests", f"{codes}, of a machine that stood still")]
        return [(title, query) for title, query in queries if not has_number(monitored.query(query))]

    wait_for(lambda: not silent(), silent)
    wait_for(lambda: fires(monitored, "FoveaImagesRefused", but_not=OUTAGES), monitored.firing)

    # The model server hangs: what has reached it fails after a while, and what comes then is too much.
    monitored.modelserver.process.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: fires_when_asked(monitored, "FoveaErrors", "FoveaSlow", "FoveaOverloaded"), monitored.firing)
    finally:
        monitored.modelserver.process.send_signal(signal.SIGCONT)

    monitored.modelserver.stop()
    down = "FoveaGatewayDown"
    wait_for(lambda: fires(monitored, "FoveaModelServerDown", "FoveaNotReady", but_not={down}), monitored.firing)

    assert monitored.gateway.stop() == 0
    wait_for(lambda: fires(monitored, down), monitored.firing)


def fires(monitored: Monitored, *alerts: str, but_not: Set[str] = frozenset()) -> bool:
    """Say whether some alerts fire and others do not."""
    firing = monitored.firing()
    return set(alerts) <= firing and not but_not & firing


def fires_when_asked(monitored: Monitored, *alerts: str) -> bool:
    """Send more requests at once than the gateway takes, and say whether these alerts fire afterwards."""
    with ThreadPoolExecutor(16) as pool:
        codes = {reply.status_code for reply in pool.map(lambda _: predict(monitored.url, encode("red")), range(16))}
    assert codes <= {503, 504}, codes
    return fires(monitored, *alerts)


def has_number(result: list[dict[str, Any]]) -> bool:
    """True if a query's result has a value that can be drawn."""
    return any(found["value"][1] != "NaN" for found in result)


def test_provisioning_names_what_is_shipped() -> None:
    """Grafana is told of the data source that the panels name, and panels do not overlap."""
    source = (DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text()
    document = json.loads(DASHBOARD.read_text())
    assert "uid: prometheus" in source
    places = set()
    for panel in document["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        places |= cells
        assert {one["datasource"]["uid"] for one in panel.get("targets", [])} <= {"prometheus"}
