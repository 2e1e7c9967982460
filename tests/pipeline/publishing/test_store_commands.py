"""promote, rollback, models, prune and whole runs on one store, while a real model server follows it."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from contract.store import VERIFICATION_FILE, ModelEntry, ModelStore
from pipeline.__main__ import main
from tests.conftest import StartModelServer
from tests.helpers.image_sets import color_files, write_files
from tests.helpers.model_client import END, ModelClient
from tests.helpers.server_process import ROOT
from tests.helpers.tiny_model import VARIANTS, build_image, publish_variant

SETTINGS = [
    "model.backbone=MnistCNN",
    "model.weights=none",
    "model.input_size=28",
    "data.group=^(.*)_",
    "train.epochs=6",
    "train.batch_size=8",
    "train.freeze_backbone=false",
    "train.early_stopping=null",
]


@pytest.mark.slow
def test_servers_follow_promote_rollback_and_prune(
    tmp_path: Path,
    store: ModelStore,
    tiny_models: dict[str, Path],
    start_modelserver: StartModelServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not one prediction fails while versions become live, go back and are deleted; the server drops what left."""
    server, flags = start_modelserver(store), [f"--models-dir={store.root}", f"--runs-dir={tmp_path / 'runs'}"]
    publish_variant(store, tiny_models["permuted"], live=False)
    failures: list[str] = []
    answered, stop = 0, threading.Event()

    def ask() -> None:
        nonlocal answered
        image = build_image("red", 16)
        with ModelClient(server.address) as asking:
            while not stop.is_set():
                live = store.read_index()["colours"].live
                labels = VARIANTS["plain" if live == 1 else "permuted"].labels
                said = labels[int(asking.classify("colours", image, version=live).argmax())]
                answered += 1
                if said != "red":
                    failures.append(f"version {live} said {said}")

    with ModelClient(server.address) as client:
        for version in (1, 2):
            client.wait_for("colours", version)
        thread = threading.Thread(target=ask)
        thread.start()
        try:
            assert 0 == main(["promote", "colours", *flags])
            assert ModelEntry(live=2, previous=1, highest=2) == store.read_index()["colours"]
            assert 0 == main(["rollback", "colours", *flags])
            assert 0 == main(["rollback", "colours", *flags])
            publish_variant(store, tiny_models["small"], live=False)
            client.wait_for("colours", 3)
            publish_variant(store, tiny_models["small"], live=False)  # 3 leaves the servers
            client.wait_for("colours", 4)
            client.wait_for("colours", 3, state=END)
            assert 0 == main(["prune", "--keep=0", *flags])
        finally:
            stop.set()
            thread.join(60)
        assert (1, 2, 4) == store.read_versions("colours")
        assert (
            "red" == VARIANTS["permuted"].labels[client.classify("colours", build_image("red", 16), version=2).argmax()]
        )
    assert [] == failures
    assert answered > 20
    assert "version colours/3: " in capsys.readouterr().out


def test_models_lists_every_version(
    tmp_path: Path, store: ModelStore, tiny_models: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Versions with and without a role, their size; a version whose contract is damaged is listed all the same."""
    for live in (True, True, False):
        publish_variant(store, tiny_models["plain"], live=live)
    (store.version_path("colours", 1) / "assets.extra/contract.json").write_text("{")
    flags = [f"--models-dir={store.root}"]

    assert 0 == main(["models", "--json", *flags])
    listed = json.loads(capsys.readouterr().out)
    assert [(1, []), (2, ["previous"]), (3, ["live"]), (4, ["candidate"])] == [
        (item["version"], item["roles"]) for item in listed
    ]
    assert all(item["size"] > 10_000 for item in listed)

    assert 0 == main(["models", *flags])
    lines = capsys.readouterr().out.splitlines()
    assert ["version", "role", "accuracy", "created", "size"] == lines[0].split()
    assert ["colours/3", "live", "-", "-"] == lines[3].split()[:4]

    assert 0 == main(["models", f"--models-dir={tmp_path / 'nothing'}"])
    assert "no models in" in capsys.readouterr().out


def options(folder: Path, *settings: str) -> list[str]:
    flags = [f"--models-dir={folder / 'models'}", f"--runs-dir={folder / 'runs'}"]
    return [*flags, "--recipe=demo", *(f"--set={setting}" for setting in (*SETTINGS, *settings))]


@pytest.mark.slow
def test_runs_pass_or_fail_the_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three real runs: the first is live; a worse one stays candidate with status 0; --force and promote overrule."""
    write_files(tmp_path / "colors", color_files(train=12, test=12))
    store, location = ModelStore(tmp_path / "models"), str(tmp_path / "colors")

    assert 0 == main(["run", location, *options(tmp_path)])
    assert "gate: first; there was no live version" in capsys.readouterr().out

    worse = options(tmp_path, "train.epochs=1", "train.learning_rate=0.00000001")
    assert 0 == main(["run", location, *worse])
    output = capsys.readouterr().out
    assert "gate: failed; balanced_accuracy 0." in output
    assert "on 36 test images that neither was trained on, margin 0.02" in output
    assert "python -m pipeline promote colors 2" in output
    assert ModelEntry(live=1, candidate=2, highest=2) == store.read_index()["colors"]
    gate = json.loads((store.version_path("colors", 2) / VERIFICATION_FILE).read_text())["gate"]
    assert ("failed", False, "candidate", 36, 1) == tuple(
        gate[key] for key in ("verdict", "forced", "published_as", "images", "live_version")
    )
    assert gate["live_value"] > gate["value"] + gate["margin"]

    flags = options(tmp_path)[:2]
    assert 0 == main(["compare", "colors/live", "colors/candidate", "--json", *flags])
    compared = json.loads(capsys.readouterr().out)
    assert 36 == compared["images"]
    assert gate["live_value"] == pytest.approx(compared["a"]["balanced_accuracy"], abs=1e-6)
    assert gate["value"] == pytest.approx(compared["b"]["balanced_accuracy"], abs=1e-6)

    assert 0 == main(["verify", "colors/candidate", *flags])
    assert "test: 36 images on tensorflow" in capsys.readouterr().out
    assert 0 == main(["promote", "colors", *flags])
    assert ModelEntry(live=2, previous=1, highest=2) == store.read_index()["colors"]


@pytest.mark.slow
def test_two_runs_at_once_on_one_name(tmp_path: Path) -> None:
    """Both finish with status 0, their versions differ, each has its run, and the store is whole."""
    write_files(tmp_path / "colors", color_files(train=12, test=12))
    command = [sys.executable, "-m", "pipeline", "run", str(tmp_path / "colors"), *options(tmp_path), "--again"]
    running = [
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=400)[0] for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait(30)

    assert [0, 0] == [process.returncode for process in running], outputs
    store = ModelStore(tmp_path / "models")
    assert (1, 2) == store.read_versions("colors")
    published = sorted(line for output in outputs for line in output.splitlines() if line.startswith("published: "))
    assert [f"published: {store.version_path('colors', version)}" for version in (1, 2)] == published
    runs = {store.read_contract("colors", version).document["provenance"]["run"] for version in (1, 2)}
    assert {path.name for path in (tmp_path / "runs" / "colors").iterdir()} == runs
    gates = [
        json.loads((store.version_path("colors", version) / VERIFICATION_FILE).read_text())["gate"]
        for version in (1, 2)
    ]
    assert ["first", "passed"] == [gate["verdict"] for gate in gates]  # the second was judged by the first
    assert ModelEntry(live=2, previous=1, highest=2) == store.read_index()["colors"]
    assert np.isclose(gates[1]["live_value"], gates[1]["value"])
