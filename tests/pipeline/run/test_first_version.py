"""What becomes live: first versions that show nothing stay candidates, and an unchanged set publishes nothing new."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fovea
from contract.store import VERIFICATION_FILE, ModelEntry, ModelStore
from pipeline.__main__ import main
from tests.helpers.image_sets import color_files, write_files

SETTINGS = [
    "model.backbone=MnistCNN",
    "model.weights=none",
    "model.input_size=28",
    "train.epochs=2",
    "train.batch_size=8",
    "train.freeze_backbone=false",
    "train.early_stopping=null",
    "train.fine_tune.epochs=0",
]


def options(folder: Path, *settings: str) -> list[str]:
    flags = [f"--models-dir={folder / 'models'}", f"--runs-dir={folder / 'runs'}"]
    return [*flags, "--recipe=demo", *(f"--set={setting}" for setting in (*SETTINGS, *settings))]


def gate_of(folder: Path, name: str, version: int = 1) -> dict[str, object]:
    path = ModelStore(folder / "models").version_path(name, version) / VERIFICATION_FILE
    gate: dict[str, object] = json.loads(path.read_text())["gate"]
    return gate


@pytest.mark.slow
def test_pure_noise_stays_a_candidate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reason is on the console, in `models`, in the report and in the version; promote makes it live."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 30)):
        for label in "ab":
            for i in range(count):
                path = tmp_path / "noise" / split / label / f"{label}{split}{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (28, 28, 3), np.uint8)).save(path)
    flags = options(tmp_path)[:2]

    assert 0 == main(["run", str(tmp_path / "noise"), *options(tmp_path)])
    *_, gate, candidate = capsys.readouterr().out.splitlines()
    assert gate.startswith("gate: unfit; there was no live version; ")
    assert "is not above guessing: interval [" in gate
    assert "on 60 test images in 60 groups, guessing 1/2 = 0.5000" in gate
    assert candidate == (
        "candidate: noise/1 is loaded by servers but not live; make it live with: python -m pipeline promote noise 1"
    )

    store = ModelStore(tmp_path / "models")
    assert ModelEntry(candidate=1, highest=1) == store.read_index()["noise"]
    assert "versions: 1" in store.config_path.read_text()
    recorded = gate_of(tmp_path, "noise")
    assert ("unfit", "candidate") == (recorded["verdict"], recorded["published_as"])
    (run,) = (tmp_path / "runs" / "noise").iterdir()
    for report in (run / "report.html", store.version_path("noise", 1) / "assets.extra/report.html"):
        assert "This version does not become live by itself: " in report.read_text()
        assert "is not above guessing" in report.read_text()

    assert 0 == main(["models", *flags])
    assert f"noise/1 is a candidate: {recorded['reason']}" == capsys.readouterr().out.splitlines()[-1]
    assert 0 == main(["models", "--json", *flags])
    assert recorded["reason"] == json.loads(capsys.readouterr().out)[0]["reason"]
    assert 1 == main(["evaluate", "noise", str(tmp_path / "noise"), *flags])
    assert "noise has no live version; version 1 is a candidate" in capsys.readouterr().err

    assert 0 == main(["promote", "noise", "1", *flags])
    assert ModelEntry(live=1, highest=1) == store.read_index()["noise"]


@pytest.mark.slow
def test_diverged_training_stays_a_candidate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A learning rate that is far too high."""
    write_files(tmp_path / "colors", color_files(train=12, test=12))

    assert 0 == main(
        ["run", str(tmp_path / "colors"), *options(tmp_path, "data.group=^(.*)_", "train.learning_rate=5")]
    )

    assert "gate: unfit; there was no live version; the loss diverged: " in capsys.readouterr().out
    assert ModelEntry(candidate=1, highest=1) == ModelStore(tmp_path / "models").read_index()["colors"]


@pytest.mark.slow
def test_version_of_an_allowed_leak_stays_a_candidate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However well it does; the same holds for groups on both sides. --force is the way round."""
    files = color_files(train=12, test=12)
    files |= {path.replace("train", "test"): data for path, data in files.items() if "train/red/" in path}
    write_files(tmp_path / "colors", files)
    command = ["run", str(tmp_path / "colors"), *options(tmp_path, "train.epochs=6", "data.group=^(.*)_")]
    assert 1 == main(command)
    assert "--allow-leakage" in capsys.readouterr().err.splitlines()[-1]

    assert 0 == main([*command, "--allow-leakage"])

    gate = gate_of(tmp_path, "colors")
    assert ("unfit", "candidate") == (gate["verdict"], gate["published_as"])
    allowed = "an error of the audit was allowed by data.allow_leakage: "
    assert [
        f"{allowed}12 images are in the test set and, the same, outside it",
        f"{allowed}6 groups are in the test set and outside it: the test figures are flattered",
    ] == gate["faults"]
    assert "gate: unfit; there was no live version; an error of the audit was allowed" in capsys.readouterr().out

    assert 0 == main([*command, "--allow-leakage", "--force", "--again"])
    assert 2 == ModelStore(tmp_path / "models").read_index()["colors"].live


@pytest.mark.slow
def test_unchanged_set_publishes_nothing_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before training; the closing lines say which version there is. --again, another seed or image trains."""
    write_files(tmp_path / "colors", color_files(train=12, test=12))
    store = ModelStore(tmp_path / "models")
    command = ["run", str(tmp_path / "colors"), *options(tmp_path, "train.epochs=6", "data.group=^(.*)_")]
    assert 0 == main(command)
    assert capsys.readouterr().out.splitlines()[-2:][0] == "live: colors/1"
    runs = set((tmp_path / "runs" / "colors").iterdir())

    assert 0 == main(command)
    output = capsys.readouterr()
    assert [
        "nothing new: colors/1 was trained on the same images by the same recipe and seed; train all the same with "
        "--again, or change the images, recipe or seed",
        "live: colors/1",
    ] == output.out.splitlines()[-2:]
    assert "Training" not in output.err
    assert (1,) == store.read_versions("colors")
    assert runs == set((tmp_path / "runs" / "colors").iterdir())

    settings = dict(setting.split("=", 1) for setting in [*SETTINGS, "train.epochs=6"])
    values = {
        key: json.loads(value) if value[0] in "0123456789ntf[" and value != "none" else value
        for key, value in settings.items()
    }
    folders = {"models_dir": tmp_path / "models", "runs_dir": tmp_path / "runs"}
    training = fovea.train(tmp_path / "colors", recipe="demo", settings={**values, "data.group": "^(.*)_"}, **folders)
    assert (False, 1, True) == (training.new, training.version, training.live)
    assert "nothing new: colors/1 was trained on the same images" in training._repr_html_()
    assert training.report.is_file()
    assert training.test["accuracy"] > 0.9

    assert 0 == main([*command, "--again"])
    assert "gate: passed; " in capsys.readouterr().out
    assert (1, 2) == store.read_versions("colors")
    assert 0 == main([*command, "--set=train.seed=1"])
    assert (1, 2, 3) == store.read_versions("colors")

    store.rollback("colors")
    capsys.readouterr()
    assert 0 == main([*command, "--set=train.seed=1"])
    assert "previous: colors/3; make it live with: python -m pipeline promote colors 3" in capsys.readouterr().out
    assert (1, 2, 3) == store.read_versions("colors")


def test_help_says_what_again_does(capsys: pytest.CaptureFixture[str]) -> None:
    """With the exit status of a run that publishes nothing."""
    with pytest.raises(SystemExit):
        main(["run", "--help"])

    text = " ".join(capsys.readouterr().out.split())
    assert "--again" in text
    assert "publishes nothing and ends with status 0" in text
