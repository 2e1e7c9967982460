"""Flags, variables, defaults: who wins, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from service.gateway.context.settings import (
    Settings,
    SettingsError,
    describe_flags,
    flag_name,
    load_settings,
    variable_name,
)
from tests.repository.project import ROOT

STORE = ("--models-dir", "models")


def test_flag_wins_over_variable_and_variable_over_default() -> None:
    """Precedence is flag, variable, the program's default, the setting's default."""
    environ = {"FOVEA_PORT": "1001", "FOVEA_MAX_BATCH": "7", "FOVEA_HOST": "", "OTHER": "x"}
    settings = load_settings(["--port", "1002", *STORE], environ, max_batch=8, host="::1")

    assert (1002, 7, "::1", 64) == (settings.port, settings.max_batch, settings.host, settings.max_images)


@pytest.mark.parametrize("argv", [["--port=9", *STORE], ["--port", "9", *STORE], ["--port=8", *STORE, "--port=9"]])
def test_flags_are_written_either_way_and_the_last_one_counts(argv: list[str]) -> None:
    """Both `--flag value` and `--flag=value` are read."""
    assert 9 == load_settings(argv, {}).port


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_a_flag_a_variable_and_described(name: str) -> None:
    """The help lists all of them."""
    assert flag_name(name) in describe_flags()
    assert variable_name(name) in describe_flags()
    assert Settings.model_fields[name].description


def test_variables_of_containers_are_no_unknown_settings() -> None:
    """Those of .env, docker-compose.yml and the overlay with a bucket may be exported where the service is started."""
    bucket = (ROOT / "deploy/kubernetes/overlays/bucket").glob("*.yaml")
    files = [ROOT / ".env", ROOT / "docker-compose.yml", *bucket]
    named = {name for path in files for name in re.findall(r"FOVEA_[A-Z_]+", path.read_text())}
    load_settings(STORE, dict.fromkeys(named - set(map(variable_name, Settings.model_fields)), "x"))

    assert {"FOVEA_SEED_OPTIONS", "FOVEA_BUCKET", "FOVEA_UID"} <= named


def test_names_are_separated_by_commas() -> None:
    """FOVEA_MODELS is a list of names; repeated ones count once."""
    assert ("a", "b-2") == load_settings([], {"FOVEA_MODELS": "a, b-2,a,"}).models


@pytest.mark.parametrize(
    "backend",
    [
        "unix:/tmp/x.sock",
        "modelserver:8500",
        "127.0.0.1:1",
        "[::1]:8500",
        "dns:8500",
        "dns:///modelserver:8500",
        "dns:modelserver:8500",
        "ipv4:10.0.0.4:8500",
        "ipv4:a:8500,b:8501",
        "ipv6:[::1]:8500,[::2]:8500",
    ],
)
def test_backend_is_an_address_or_a_socket(backend: str) -> None:
    """Addresses that gRPC can connect to are taken."""
    assert backend == load_settings(["--backend", backend, *STORE], {}).backend


@pytest.mark.parametrize(
    ("argv", "environ", "message"),
    [
        pytest.param(["--prot", "1"], {}, "unknown flag --prot; did you mean --port?", id="flag"),
        pytest.param(["--zzzzzz", "1"], {}, "unknown flag --zzzzzz", id="flag-like-none"),
        pytest.param(["--port"], {}, "--port: expected a value", id="no-value"),
        pytest.param(["models"], {}, "expected flags only. Received: 'models'", id="no-flag"),
        pytest.param(
            STORE, {"FOVEA_MAX_IMAGE": "1"},
            "unknown environment variable FOVEA_MAX_IMAGE; did you mean FOVEA_MAX_IMAGES?",
            id="variable",
        ),
        pytest.param(["--port", "70000", *STORE], {}, "--port: ", id="flag-range"),
        pytest.param(STORE, {"FOVEA_PORT": "http"}, "FOVEA_PORT: ", id="variable-type"),
        pytest.param(["--predict-timeout-s", "0", *STORE], {}, "--predict-timeout-s: ", id="zero"),
        pytest.param(["--backend", "nowhere", *STORE], {}, "--backend: expected host:port", id="backend"),
        pytest.param(["--backend", "dns:///host", *STORE], {}, "--backend: expected host:port", id="name-without-port"),
        pytest.param(["--backend", "dns:///a:1,b:1", *STORE], {}, "--backend: expected one name", id="several-names"),
        pytest.param(["--backend", "dns://10.0.0.1/a:1", *STORE], {}, "--backend: expected dns:///", id="name-server"),
        pytest.param(["--backend", "ipv4:", *STORE], {}, "--backend: expected host:port", id="empty-list"),
        pytest.param(["--backend", "ipv4:a:1,", *STORE], {}, "--backend: expected host:port", id="empty-in-list"),
        pytest.param(["--backend", "ipv4:a:1,b:70000", *STORE], {}, "--backend: expected host:port", id="list-port"),
        pytest.param(
            ["--backend", "ipv4:" + ",".join(f"a{n}:1" for n in range(257)), *STORE],
            {},
            "--backend: expected at most 256 addresses",
            id="list-too-long",
        ),
        pytest.param(["--backend", "host:0", *STORE], {}, "--backend: expected host:port", id="backend-port"),
        pytest.param(["--backend", "unix:" + "x" * 108, *STORE], {}, "--backend: expected unix:", id="socket-too-long"),
        pytest.param(["--models", "a b"], {}, "--models: expected names", id="name"),
        pytest.param([], {}, "expected either models_dir", id="neither-source"),
        pytest.param(["--models", "a", *STORE], {}, "expected either models_dir", id="both-sources"),
    ],
)  # fmt: skip
def test_wrong_setting_is_refused_by_name(argv: list[str], environ: dict[str, str], message: str) -> None:
    """The text names the flag or variable, and the nearest known one."""
    with pytest.raises(SettingsError) as caught:
        load_settings(argv, environ)

    assert str(caught.value).startswith(message)


def test_variables_of_the_compose_file_are_not_the_gateways() -> None:
    """FOVEA_DATA and its like have meanings elsewhere."""
    environ = {"FOVEA_DATA": "/data", "FOVEA_UID": "1", "FOVEA_GID": "2", "FOVEA_MODELS_DIR": "m"}

    assert Path("m") == load_settings([], environ).models_dir


@pytest.mark.parametrize("change", [{"port": 1}, {"unknown": 1}])
def test_settings_do_not_change(change: dict[str, Any]) -> None:
    """The program keeps the settings that it started with."""
    settings = load_settings(STORE, {})
    with pytest.raises(ValueError):
        for name, value in change.items():
            setattr(settings, name, value)
