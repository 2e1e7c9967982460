"""Configurations by file and by RPC, version labels, metrics: against a real server."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from contract.store import ModelStore
from contract.tensors import decode_tensor, model_management_pb2
from tests.helpers.model_client import AVAILABLE, END, ModelClient, build_request
from tests.helpers.server_process import ServerProcess, scrape, start_server
from tests.helpers.tiny_model import VARIANTS, build_image
from tests.helpers.traffic import wait_until

IMAGES = {"images": build_image("green", 16)[None]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]) -> Path:
    """Folders of models: `a` and `b` with versions 1 to 3, `broken` with one that is no SavedModel, `none` empty."""
    root = tmp_path_factory.mktemp("models")
    for name in ("a", "b"):
        for version, variant in enumerate(("plain", "permuted", "plain"), start=1):
            shutil.copytree(tiny_models[variant], root / name / str(version))
    (root / "broken" / "1").mkdir(parents=True)
    (root / "none").mkdir()
    return root


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server without a config file, for the tests to give it configurations; metrics on any port."""
    root = tmp_path_factory.mktemp("reloaded")
    flags = ("--monitoring_port=0", "--max_num_load_retries=0")
    server = start_server(ModelStore(root / "models"), root / "log", flags)
    yield server
    assert server.stop() == 0


@pytest.fixture
def client(reloaded: ServerProcess) -> Iterator[ModelClient]:
    with ModelClient(reloaded.address) as opened:
        yield opened


def build_config(folder: Path, *names: str, policy: dict[str, Any] | None = None, **labels: int) -> Any:
    """Return a ReloadConfigRequest of models in a folder; the labels are the first one's."""
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    for name in names:
        config = request.config.model_config_list.config.add(
            name=name, base_path=str(folder / name), model_platform="tensorflow"
        )
        for kind, versions in (policy or {}).items():
            chosen = getattr(config.model_version_policy, kind)
            chosen.SetInParent()
            if kind == "specific":
                chosen.versions.extend(versions)
            if kind == "latest":
                chosen.num_versions = versions
        if name == names[0]:
            config.version_labels.update(labels)
    return request


def refusal(client: ModelClient, request: Any) -> tuple[str, str]:
    """Send a configuration that is refused and return code and message."""
    with pytest.raises(grpc.RpcError) as caught:
        client.models.HandleReloadConfigRequest(request, timeout=60)
    return caught.value.code().name, caught.value.details()


def test_a_configuration_replaces_the_whole_one(client: ModelClient, folder: Path) -> None:
    """The RPC returns when new models are available, and models that are left out are unloaded."""
    response = client.models.HandleReloadConfigRequest(build_config(folder, "a"), timeout=60)
    assert response.status.error_code == 0
    assert client.states("a") == {3: AVAILABLE}
    client.models.HandleReloadConfigRequest(build_config(folder, "b"), timeout=60)
    assert client.states("b") == {3: AVAILABLE}
    client.wait_for("a", 3, state=END)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [({"all": None}, {3, 2, 1}), ({"specific": [1, 2, 9]}, {2, 1}), ({"latest": 2}, {3, 2})],
    ids=["all", "specific", "latest two"],
)
def test_policies_are_followed(client: ModelClient, folder: Path, policy: dict[str, Any], expected: set[int]) -> None:
    """Exactly the versions of the policy become and stay available."""
    client.models.HandleReloadConfigRequest(build_config(folder, "a", policy=policy), timeout=60)
    for version in expected:
        client.wait_for("a", version)
    deadline = time.monotonic() + 120
    while {number for number, state in client.states("a").items() if state == AVAILABLE} != expected:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_labels_name_versions(client: ModelClient, folder: Path) -> None:
    """A request by label is answered by its version; moving the label moves the requests."""
    client.models.HandleReloadConfigRequest(build_config(folder, "a", policy={"all": None}), timeout=60)
    for version in (1, 2, 3):
        client.wait_for("a", version)
    for number in (1, 2):
        config = build_config(folder, "a", policy={"all": None}, stable=number)
        client.models.HandleReloadConfigRequest(config, timeout=60)
        response = client.call(build_request("a", IMAGES, label="stable"))
        assert response.model_spec.version.value == number
        labels = VARIANTS["plain" if number == 1 else "permuted"].labels
        assert labels[int(decode_tensor(response.outputs["probabilities"]).argmax())] == "green"


def test_a_label_of_a_version_that_is_not_loaded_is_refused(client: ModelClient, folder: Path) -> None:
    """The configuration is not applied, and what was served is."""
    client.models.HandleReloadConfigRequest(build_config(folder, "a"), timeout=60)
    assert refusal(client, build_config(folder, "b", stable=7)) == (
        "FAILED_PRECONDITION",
        "Request to assign label to version 7 of model b, which is not currently available for inference",
    )
    assert client.states("a")[3] == AVAILABLE
    with pytest.raises(grpc.RpcError) as caught:
        client.call(build_request("a", IMAGES, label="stable"))
    assert caught.value.details() == "Unrecognized servable version label: stable"


def test_configurations_that_cannot_be_followed_are_refused(client: ModelClient, folder: Path) -> None:
    """No list, a model twice, a relative path, another platform: each with TensorFlow Serving's words."""
    client.models.HandleReloadConfigRequest(build_config(folder, "a"), timeout=60)
    twice = build_config(folder, "a", "a")
    relative, changed, missing = (build_config(folder, "a") for _ in range(3))
    platform = build_config(folder, "b")
    changed.config.model_config_list.config[0].model_platform = "pytorch"
    relative.config.model_config_list.config[0].base_path = "a"
    platform.config.model_config_list.config[0].model_platform = "pytorch"
    missing.config.model_config_list.config[0].model_platform = ""
    unsupported = (
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
    )
    answers = [
        (model_management_pb2.ReloadConfigRequest(), unsupported),
        (twice, "Illegal to list model a multiple times in config list"),
        (relative, "Expected model a to have an absolute path or URI; got base_path()=a"),
        (platform, "Model b requests unsupported platform pytorch"),
        (changed, "Illegal to change a model's platform. For model a platform was tensorflow and new platform "
         "requested is pytorch"),
        (missing, "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
         "ModelServerConfig::model_platform."),
    ]  # fmt: skip
    for request, text in answers:
        assert refusal(client, request) == ("INVALID_ARGUMENT", text)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("broken", "due to error: there is no SavedModel"), ("none", "due to error: it has no versions")],
)
def test_a_new_model_that_does_not_load_fails_the_rpc(
    client: ModelClient, folder: Path, name: str, reason: str
) -> None:
    """The RPC ends with the model's error instead of waiting for ever, and the other models are served."""
    code, text = refusal(client, build_config(folder, "a", name))
    assert code == "UNKNOWN"
    assert text.startswith(f"1 model(s) did not become available: {{{{{{name: {name}") and reason in text
    assert client.states("a")[3] == AVAILABLE


def test_labels_of_the_config_file_wait_for_their_version(
    tmp_path: Path, tiny_models: dict[str, Path], start_modelserver: Any
) -> None:
    """A label on a version that is not loaded waits for it; one flag lets new labels through, another no label."""
    shutil.copytree(tiny_models["plain"], tmp_path / "m" / "1")
    store = ModelStore(tmp_path / "models")
    store.ensure()
    config = 'model_config_list {{ config {{ name: "m" base_path: "{}" model_platform: "tensorflow" {} }} }}'
    store.config_path.write_text(config.format(tmp_path / "m", 'version_labels { key: "stable" value: 1 }'))
    strict = start_modelserver(store)
    lenient = start_modelserver(store, "--allow_version_labels_for_unavailable_models")
    plain = start_modelserver(store, "--allow_version_labels_for_unavailable_models", "--allow_version_labels=false")
    with ModelClient(lenient.address) as client:
        client.wait_for("m", 1)
        assert client.call(build_request("m", IMAGES, label="stable")).model_spec.version.value == 1
    with ModelClient(plain.address) as client:
        with pytest.raises(grpc.RpcError) as caught:
            client.call(build_request("m", IMAGES, label="stable"))
        assert (caught.value.code().name, caught.value.details()) == (
            "INVALID_ARGUMENT",
            "ModelSpec has 'version_label' set, but it is not currently allowed by the server.",
        )
    deadline = time.monotonic() + 120
    while "Model version labels are not currently allowed by the server.; the last" not in plain.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    refused = "Request to assign label to version 1 of model m, which is not currently available for inference"
    wait_until(lambda: refused in strict.log.read_text())
    with ModelClient(strict.address) as client:
        assert client.states("m") == {}
        assert strict.log.read_text().count(f"{refused}; the last good one stays") == 1
        store.config_path.write_text(config.format(tmp_path / "m", ""))
        client.wait_for("m", 1)
        store.config_path.write_text(config.format(tmp_path / "m", 'version_labels { key: "stable" value: 1 }'))
        deadline = time.monotonic() + 120
        while True:
            try:
                assert client.call(build_request("m", IMAGES, label="stable")).model_spec.version.value == 1
                break
            except grpc.RpcError as err:
                assert "Unrecognized servable version label" in err.details() and time.monotonic() < deadline


def test_metrics_count_what_clients_count(reloaded: ServerProcess, client: ModelClient, folder: Path) -> None:
    """Calls by status, rows, queue and run times, engine and precision; unknown models make no series."""
    client.models.HandleReloadConfigRequest(build_config(folder, "b"), timeout=60)
    client.wait_for("b", 3)
    before = scrape(reloaded)

    def ask() -> None:
        for _ in range(10):
            client.predict("b", {"images": np.repeat(IMAGES["images"], 2, axis=0)})

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model, inputs in (("nobody", IMAGES), ("b", {})):
        with pytest.raises(grpc.RpcError):
            client.predict(model, inputs)
    after = scrape(reloaded)

    def grown(series: str) -> float:
        return after["fovea_modelserver_" + series] - before.get("fovea_modelserver_" + series, 0.0)

    run = 'model="b",signature="serving_default",version="3"'
    assert grown('requests_total{model="b",status="OK",version="3"}') == 40
    assert grown('requests_total{model="b",status="INVALID_ARGUMENT",version="3"}') == 1
    assert grown('requests_total{model="",status="NOT_FOUND",version=""}') == 1
    assert grown(f"batch_rows_sum{{{run}}}") == 80
    assert grown(f"queue_seconds_count{{{run}}}") == 40
    assert 0 < grown(f"batch_rows_count{{{run}}}") <= 80 and grown(f"run_seconds_sum{{{run}}}") > 0
    assert not any("nobody" in series for series in after)
    (info,) = [series for series in after if series.startswith('fovea_modelserver_model_info{engine="')]
    assert 'engine="openvino"' in info and 'precision="float32"' in info


def test_a_version_that_leaves_takes_its_gauge_along(
    reloaded: ServerProcess, client: ModelClient, folder: Path
) -> None:
    """Only what is loaded is shown as loaded; the counts of calls stay."""
    client.models.HandleReloadConfigRequest(build_config(folder, "b"), timeout=60)
    client.predict("b", IMAGES)
    client.models.HandleReloadConfigRequest(build_config(folder), timeout=60)
    client.wait_for("b", 3, state=END)
    deadline = time.monotonic() + 120
    while any("model_info{" in series for series in scrape(reloaded)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert scrape(reloaded)['fovea_modelserver_requests_total{model="b",status="OK",version="3"}'] >= 1
