"""docker-compose.yml, as `docker compose config` resolves it for each profile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.repository.project import ROOT

pytestmark = pytest.mark.docker

PROFILES = {
    "tfserving": {"gateway", "seed", "tfserving"},
    "embedded": {"gateway", "seed", "embedded"},
    "pipeline": {"gateway", "seed", "pipeline"},
    "monitoring": {"gateway", "seed", "prometheus", "grafana"},
}
ALL = "tfserving,embedded,pipeline,monitoring"


@pytest.fixture(scope="session", autouse=True)
def compose_command() -> None:
    """Compose v2; resolving a file needs no engine."""
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command")
    done = subprocess.run(["docker", "compose", "version"], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        pytest.skip(f"docker compose is not installed: {done.stderr.strip().partition(chr(10))[0]}")


def resolve(*files: str, **variables: str) -> dict[str, Any]:
    """Return the resolved files, with nothing of this machine's compose settings but the given variables."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COMPOSE_", "FOVEA_"))}
    named = [f"--file={file}" for file in files]
    command = ["docker", "compose", *named, "config", "--format", "json"]
    done = subprocess.run(
        command, cwd=ROOT, env={**environment, **variables}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_committed_default_is_tensorflow_serving() -> None:
    """`docker compose up` on a fresh clone."""
    assert set(resolve()["services"]) == PROFILES["tfserving"]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_has_its_services(profile: str) -> None:
    """One model server at a time."""
    assert set(resolve(COMPOSE_PROFILES=profile)["services"]) == PROFILES[profile]


@pytest.mark.parametrize("server", ["tfserving", "embedded"])
def test_either_server_is_the_gateways_backend(server: str) -> None:
    """Both answer to the name that the gateway asks for, see the store read-only and wait for the seed."""
    services = resolve(COMPOSE_PROFILES=server)["services"]
    service = services[server]
    assert services["gateway"]["environment"]["FOVEA_BACKEND"] == "modelserver:8500"
    assert service["networks"]["default"]["aliases"] == ["modelserver"]
    mounts = {volume["target"]: volume["read_only"] for volume in service["volumes"]}
    assert mounts["/models"]
    assert all(mounts.values())
    assert service["depends_on"]["seed"]["condition"] == "service_completed_successfully"


def test_the_gateway_waits_for_nobody() -> None:
    """It is up at once and says what is happening, while the seed trains."""
    assert "depends_on" not in resolve()["services"]["gateway"]


def test_only_loopback_is_published() -> None:
    """Anonymous use is allowed, so nothing but this machine may reach it."""
    services = resolve(COMPOSE_PROFILES=ALL)["services"]
    published = {
        (name, port["host_ip"], port["published"])
        for name, service in services.items()
        for port in service.get("ports", [])
    }
    ports = {"gateway": "8000", "prometheus": "9090", "grafana": "3000"}
    assert published == {(name, "127.0.0.1", port) for name, port in ports.items()}


def test_every_service_runs_as_the_given_user_without_privileges() -> None:
    """Host and containers write one store; no process is root."""
    services = resolve(COMPOSE_PROFILES="tfserving,embedded,pipeline", FOVEA_UID="1234", FOVEA_GID="99")["services"]
    expected = {name: ("1234:99", True, ["ALL"], ["no-new-privileges:true"]) for name in services}
    actual = {name: (s["user"], s["init"], s["cap_drop"], s["security_opt"]) for name, s in services.items()}
    assert expected == actual


def test_tensorflow_serving_is_started_as_the_store_needs() -> None:
    """Its own binary, the polled config, and retries that let a rollback through."""
    service = resolve()["services"]["tfserving"]
    assert service["entrypoint"] == ["tensorflow_model_server"]
    assert service["platform"] == "linux/amd64"
    assert {
        "--model_config_file=/models/models.config",
        "--model_config_file_poll_wait_seconds=1",
        "--num_load_threads=2",
        "--max_num_load_retries=2",
        "--load_retry_interval_micros=2000000",
    } <= set(service["command"])


def test_every_server_is_bounded() -> None:
    """A server that runs away takes neither the machine's memory nor its processes, and writes to memory alone."""
    services = resolve(COMPOSE_PROFILES=ALL)["services"]
    for name in set(services) - {"seed", "pipeline"}:
        assert int(services[name]["mem_limit"]) > 0, name
        assert services[name]["pids_limit"] == 1024, name
        assert services[name]["read_only"], name
        assert "/tmp" in services[name]["tmpfs"], name


def test_configurations_are_mounted_where_the_commands_look() -> None:
    """TensorFlow Serving's batching and metrics, Prometheus's rules, Grafana's dashboard: files that exist."""
    services = resolve(COMPOSE_PROFILES=ALL)["services"]
    mounts = {
        (name, volume["target"]): volume["source"]
        for name in ("tfserving", "prometheus", "grafana")
        for volume in services[name]["volumes"]
        if volume["type"] == "bind"
    }
    flags = dict(flag.lstrip("-").split("=") for flag in services["tfserving"]["command"])
    for flag in ("monitoring_config_file", "batching_parameters_file"):
        folder, _, file = flags[flag].rpartition("/")
        assert (Path(mounts["tfserving", folder]) / file).is_file()
    assert (Path(mounts["prometheus", "/etc/prometheus"]) / "prometheus.yml").is_file()
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    folder, _, file = home.rpartition("/")
    assert (Path(mounts["grafana", folder]) / file).is_file()


def test_the_gpu_override_changes_tensorflow_serving_alone() -> None:
    """Another image and a device."""
    plain = resolve()["services"]
    with_gpu = resolve("docker-compose.yml", "docker-compose.gpu.yml")["services"]
    assert with_gpu["tfserving"].pop("image").endswith("-gpu")
    assert plain["tfserving"].pop("image")
    (device,) = with_gpu["tfserving"].pop("deploy")["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    plain["tfserving"].pop("deploy", None)
    assert with_gpu == plain


def test_a_folder_of_ones_own_is_trained_on() -> None:
    """FOVEA_DATA is mounted read-only; the store and the runs are the host's."""
    service = resolve(COMPOSE_PROFILES="pipeline", FOVEA_DATA="/path/to/images")["services"]["pipeline"]
    mounts = {volume["target"]: (volume["source"], volume.get("read_only", False)) for volume in service["volumes"]}
    assert mounts["/data"] == ("/path/to/images", True)
    assert mounts["/models"] == (str(ROOT / "models"), False)
    assert mounts["/runs"] == (str(ROOT / "runs"), False)
