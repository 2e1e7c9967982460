"""pipeline/run/run.py and the command line: real training on small sets, and every way a set can be bad."""

import csv
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from contract.model import ModelContract
from contract.store import CONTRACT_FILE, VERIFICATION_FILE, WARMUP_FILE, ModelStore
from engine.loading import load_engine
from engine.precision_names import FLOAT32
from engine.runtime import find_runtimes
from pipeline.__main__ import main
from pipeline.recipe.recipe import load_recipe
from pipeline.run.run import RunResult, run
from tests.helpers.image_sets import color_files, png, write_files

QUICK = [
    "model.backbone=ResNet",
    "model.weights=none",
    "model.input_size=32",
    "data.group=^(.*)_",
    "train.epochs=4",
    "train.batch_size=8",
    "train.schedule=cosine",
    "train.freeze_backbone=false",
    "train.fine_tune.epochs=1",
    "augment.rotation_range=5",
]


@pytest.fixture(name="work", scope="module")
def fixture_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set of coloured squares in it."""
    work = tmp_path_factory.mktemp("work")
    write_files(work / "colors", color_files())
    return work


@pytest.fixture(name="result", scope="module")
def fixture_result(work: Path) -> RunResult:
    """A finished run."""
    store = ModelStore(work / "models")
    return run(work / "colors", load_recipe("demo", QUICK), store, name="colors", runs_dir=work / "runs")


def options(folder: Path) -> list[str]:
    return [f"--models-dir={folder / 'models'}", f"--runs-dir={folder / 'runs'}", *(f"--set={s}" for s in QUICK)]


def test_run_learns_and_publishes(result: RunResult) -> None:
    """Colours are told apart, and the version directory holds everything that serving and promotion need."""
    assert 1 == result.version
    assert result.test["accuracy"] >= 0.9
    for name in ("saved_model.pb", CONTRACT_FILE, VERIFICATION_FILE, WARMUP_FILE, "assets.extra/report.html"):
        assert (result.directory / name).is_file(), name
    verification = json.loads((result.directory / VERIFICATION_FILE).read_text())
    assert verification["deviations"][0]["max_deviation"] < 1e-4
    assert 12 == verification["deviations"][0]["images"]
    faster = [(runtime.name, p) for runtime in find_runtimes() for p in runtime.precisions() if p != FLOAT32]
    verdicts = verification["equivalences"]
    assert sorted(faster) == sorted((found["engine"], found["precision"]) for found in verdicts)
    assert all("at least 299" in found["reasons"][0] and not found["equivalent"] for found in verdicts)


def test_run_folder_records_everything(result: RunResult) -> None:
    """Recipe, manifest, curves, Keras model, report, metrics and predictions stand in the run's folder."""
    names = {path.name for path in result.folder.iterdir()}

    assert {
        "run.json",
        "recipe.yaml",
        "audit.json",
        "audit.html",
        "manifest.csv",
        "curves.csv",
        "best.weights.h5",
        "model.keras",
        "network.png",
        "network.svg",
        "predictions.csv",
        "wrong_labels.csv",
        "report.html",
        "report-aggregates.html",
        "metrics.json",
    } == names
    metrics = json.loads((result.folder / "metrics.json").read_text())
    assert result.test == metrics["test"]
    assert ["network"] * 4 + ["fine-tune"] == [row["stage"] for row in metrics["training"]["curves"]]
    assert min(row["val_loss"] for row in metrics["training"]["curves"]) == metrics["training"]["best"]["val_loss"]


def test_patients_stay_on_one_side(result: RunResult) -> None:
    """No group of the manifest is in two splits."""
    with (result.folder / "manifest.csv").open() as file:
        sides = {(row["group"], row["split"]) for row in csv.DictReader(file)}

    assert len({group for group, _ in sides}) == len(sides)
    assert {"train", "val", "test"} == {split for _, split in sides}


def test_exported_model_predicts_by_name(result: RunResult) -> None:
    """The SavedModel, its contract's labels and decoder give the colour's name for a new picture."""
    from contract.image import decode_image
    from contract.predictions import decode_predictions
    from tests.helpers.image_sets import COLORS

    contract = ModelContract.from_json((result.directory / CONTRACT_FILE).read_text())
    images = np.stack([decode_image(png(color, seed=99), contract.input) for color in COLORS.values()])
    engine = load_engine(result.directory)
    try:
        probabilities = engine.run("serving_default", {"images": images})["probabilities"]
    finally:
        engine.close()

    assert list(COLORS) == [row[0].label for row in decode_predictions(probabilities, contract.labels, top=1)]


def test_provenance_says_where_the_model_comes_from(result: RunResult) -> None:
    """Run, data hash, backbone, weights, recipe, versions and metrics are in the contract; no path is."""
    text = (result.directory / CONTRACT_FILE).read_text()
    provenance = json.loads(text)["provenance"]

    assert ("ResNet", "none", result.folder.name, "colors") == (
        provenance["backbone"],
        provenance["weights"],
        provenance["run"],
        provenance["dataset"],
    )
    assert 64 == len(provenance["dataset_sha256"]) == len(provenance["keras_model_sha256"])
    assert 32 == provenance["recipe"]["model"]["input_size"]
    assert result.test["accuracy"] == provenance["metrics"]["accuracy"]
    assert str(result.folder.parent) not in text


def test_report_shows_aggregates_only(result: RunResult) -> None:
    """The report that leaves with the model names no file and shows drawings alone; the run's shows images."""
    html = (result.directory / "assets.extra/report.html").read_text()

    assert "Not a medical device" not in html
    assert f"{100 * result.test['accuracy']:.1f}\N{NO-BREAK SPACE}%" in html
    assert ".png" not in html
    assert {"svg+xml"} == set(re.findall(r"data:image/([a-z+]+)", html))
    assert {"svg+xml", "jpeg", "png"} == set(
        re.findall(r"data:image/([a-z+]+)", (result.folder / "report.html").read_text())
    )


def test_saved_keras_model_is_the_published_one(result: RunResult) -> None:
    """model.keras can be loaded for continued training and gives the published probabilities."""
    from pipeline.networks.backbone import preprocess

    contract = ModelContract.from_json((result.directory / CONTRACT_FILE).read_text())
    images = np.random.default_rng(0).integers(0, 256, (5, *contract.input.shape), np.uint8)
    keras_probabilities = keras.models.load_model(result.folder / "model.keras")(
        preprocess(images.astype(np.float32), "tf"), training=False
    )
    engine = load_engine(result.directory, precision="float32")
    try:
        served = engine.run("serving_default", {"images": images})["probabilities"]
    finally:
        engine.close()

    scaled = np.power(np.asarray(keras_probabilities, np.float64), 1 / contract.temperature)
    assert np.abs(scaled / scaled.sum(axis=1, keepdims=True) - served).max() < 1e-4


def test_zip_gives_the_same_model_as_its_folder(
    work: Path, result: RunResult, capsys: pytest.CaptureFixture[str]
) -> None:
    """A zip is read in place: same images, same splits, same hash; with --force the rerun is version 2, live."""
    location = work / "colors.zip"
    with zipfile.ZipFile(location, "w") as archive:
        for path in sorted((work / "colors").rglob("*.png")):
            archive.write(path, "export/" + str(path.relative_to(work / "colors")))

    quick = ["--set=train.epochs=1", "--set=train.fine_tune.epochs=0"]
    status = main(["run", str(location), *options(work), *quick, "--force"])

    assert 0 == status
    output = capsys.readouterr().out
    assert f"published: {work / 'models' / 'colors' / '2'}" in output
    assert "at most" in output
    store = ModelStore(work / "models")
    assert (2, 1) == (store.read_index()["colors"].live, store.read_index()["colors"].previous)
    first, second = (store.read_contract("colors", version).document["provenance"] for version in (1, 2))
    assert first["dataset_sha256"] == second["dataset_sha256"]


def test_store_commands(work: Path, result: RunResult, capsys: pytest.CaptureFixture[str]) -> None:
    """Models lists the roles; rollback without a previous version is refused with the reason."""
    folder = f"--models-dir={work / 'models'}"

    assert 0 == main(["models", folder])
    assert "live" in capsys.readouterr().out
    assert 1 == main(["promote", "colors", folder])
    assert "no candidate" in capsys.readouterr().err
    assert 1 == main(["rollback", "nothing", folder])
    assert "no model 'nothing'" in capsys.readouterr().err


BROKEN = {
    "train/red/text.png": (b"this is no image", "unsupported_image"),
    "train/red/cut.png": (png(size=64)[:-300], "undecodable_image"),
    "train/red/empty.png": (b"", "empty_image"),
}


@pytest.mark.parametrize("path", BROKEN, ids=["text", "truncated", "empty"])
def test_unreadable_image_stops_the_run_before_training(
    tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is named with the reason and the way round; nothing is published."""
    write_files(tmp_path / "set", color_files(train=4, test=2) | {path: BROKEN[path][0]})

    status = main(["run", str(tmp_path / "set"), *options(tmp_path)])

    assert 1 == status
    error = capsys.readouterr().err
    assert path in error
    assert "1 of 19 images cannot be used" in error.splitlines()[-1]
    assert "data.on_unreadable=skip" in error.splitlines()[-1]
    assert not (tmp_path / "models").exists()
    (audit,) = (tmp_path / "runs").glob("set/*/audit.json")
    assert [BROKEN[path][1]] == [problem["code"] for problem in json.loads(audit.read_text())["problems"]]


def test_unreadable_images_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """on_unreadable=skip trains on the rest and says how many were left out; the closing lines repeat the warnings."""
    files = color_files(train=4, test=2) | {path: data for path, (data, _) in BROKEN.items()}
    write_files(tmp_path / "set", files)

    status = main(
        [
            "run",
            str(tmp_path / "set"),
            *options(tmp_path),
            "--set=data.on_unreadable=skip",
            "--set=data.group=null",
            "--set=train.epochs=1",
            "--set=train.fine_tune.epochs=0",
            '--set=evaluate.operating_points=[{"label":"red","sensitivity":0.9}]',
        ]
    )

    output = capsys.readouterr()
    assert 0 == status, output.err
    _check_closing_warnings(output.out)
    (metrics,) = (tmp_path / "runs").glob("set/*/metrics.json")
    document = json.loads(metrics.read_text())
    assert 3 == document["num_problems"]
    assert any("3 images cannot be read" in warning for warning in document["warnings"])
    assert any("No group rule" in warning for warning in document["warnings"])


def test_shortcuts_and_shift_are_in_the_closing_lines_and_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A white border in one class, and test images 40 % darker than the training images."""
    files = {}
    for path, data in color_files(train=16).items():
        pixels = np.array(Image.open(io.BytesIO(data)))
        if "/red/" in path:
            pixels[:3] = 255
        light = 0.6 if path.startswith("test/") else 1.0
        buffer = io.BytesIO()
        Image.fromarray((pixels * light).astype(np.uint8)).save(buffer, "PNG")
        files[path] = buffer.getvalue()
    write_files(tmp_path / "set", files)

    short = ["--set=train.epochs=1", "--set=train.fine_tune.epochs=0", "--set=data.val_fraction=0.3"]
    status = main(["run", str(tmp_path / "set"), *options(tmp_path), *short])

    output = capsys.readouterr()
    assert 0 == status, output.err
    (folder,) = (tmp_path / "runs" / "set").iterdir()
    closing = [line for line in output.out.splitlines() if line.startswith("warning: ")]
    documented = json.loads((folder / "metrics.json").read_text())["warnings"]
    report = (folder / "report.html").read_text()
    for words in (
        "12 of 12 test images are unlike the training images",
        "Training and test images can be told apart",
        "Classes can be told apart by borders",
    ):
        assert any(words in line for line in closing), words
        assert any(words in line for line in documented), words
        assert words in report


def _check_closing_warnings(output: str) -> None:
    """Every warning stands once before the other closing lines: groups, then thresholds, then images."""
    lines = output.splitlines()
    warnings = [line for line in lines if line.startswith("warning: ")]
    places = [
        next(i for i, line in enumerate(warnings) if words in line)
        for words in ("No group rule", "The threshold for red", "3 images cannot be read")
    ]
    assert sorted(places) == places
    assert len(set(warnings)) == len(warnings)
    assert lines.index(warnings[-1]) < next(i for i, line in enumerate(lines) if line.startswith("test accuracy:"))


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        pytest.param(["run", "{}/nowhere"], 1, "no such file or folder", id="missing-folder"),
        pytest.param(["run", "{}", "--set=train.epoch=3"], 1, "did you mean epochs?", id="misspelt-key"),
        pytest.param(["run", "{}", "--recipe=defualt"], 1, "expected one of classic", id="misspelt-recipe"),
        pytest.param(["run", "{}", "--name=a/b"], 1, "model name: expected", id="bad-name"),
        pytest.param(["run", "{}", "--set=model.backbone=ResNet5"], 1, "expected one of AlexNet", id="backbone"),
        pytest.param(["run", "{}", "--recipee=default"], 2, "unrecognized arguments", id="misspelt-flag"),
        pytest.param(["run", "{}", "--recip=default"], 2, "unrecognized arguments", id="abbreviated-flag"),
        pytest.param(["walk"], 2, "invalid choice", id="unknown-command"),
        pytest.param([], 2, "required", id="no-command"),
    ],
)
def test_wrong_use_has_its_exit_status(
    tmp_path: Path, arguments: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 is refused with the reason on the last line of stderr, 2 is wrong use."""
    arguments = [argument.format(tmp_path) for argument in arguments]
    folders = [f"--models-dir={tmp_path}/m", f"--runs-dir={tmp_path}/r"] if arguments[:1] == ["run"] else []
    try:
        actual = main([*arguments, *folders])
    except SystemExit as err:  # argparse's own way out
        actual = int(str(err.code))

    assert status == actual
    assert words in capsys.readouterr().err.strip().splitlines()[-1]


def test_diverging_training_stops_with_epoch_and_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A loss that is not finite (here: from damaged weights) names epoch and batch; nothing is published."""
    from pipeline.networks.backbones import find_backbone

    write_files(tmp_path / "set", color_files(train=4, test=2))
    network = find_backbone("ResNet").build((32, 32, 3))
    network.layers[1].set_weights([np.full_like(array, np.nan) for array in network.layers[1].get_weights()])
    network.save_weights(tmp_path / "damaged.weights.h5")

    damaged = f"--set=model.weights={tmp_path / 'damaged.weights.h5'}"
    status = main(["run", str(tmp_path / "set"), *options(tmp_path), damaged])

    assert 1 == status
    assert "the loss is nan in epoch 1, batch 1" in capsys.readouterr().err.splitlines()[-1]
    assert {} == ModelStore(tmp_path / "models").read_index()


def test_interrupted_run_publishes_nothing(work: Path, tmp_path: Path) -> None:
    """Ctrl-C during training ends with status 1 and a plain line; the store is untouched."""
    command = [sys.executable, "-m", "pipeline", "run", str(work / "colors"), "--recipe=demo", *options(tmp_path)]
    with subprocess.Popen([*command, "--set=train.epochs=500"], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "runs").glob("colors/*/curves.csv")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        error = process.communicate(timeout=60)[1]

    assert 1 == process.returncode
    assert "error: interrupted; nothing was published" == error.strip().splitlines()[-1]
    assert {} == ModelStore(tmp_path / "models").read_index()


def _fill_the_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "metrics.json")


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        (lambda *_: signal.raise_signal(signal.SIGINT), "interrupted; colors/1 was published before that and stays"),
        (_fill_the_disk, "metrics.json: No space left on device; colors/1 was published before that and stays"),
    ],
    ids=["ctrl-c", "disk"],
)
def test_a_run_that_stops_after_it_has_published_says_so(
    work: Path,
    tmp_path: Path,
    stop: Callable[..., None],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It cannot be gone on with, so nothing tells to."""
    monkeypatch.setattr("pipeline.run.run.describe_outcome", stop)
    quick = ["--set=train.epochs=1", "--set=train.fine_tune.epochs=0"]

    assert 1 == main(["run", str(work / "colors"), "--recipe=demo", *options(tmp_path), *quick])

    error = capsys.readouterr().err
    assert words in error.splitlines()[-1]
    assert "o on with" not in error + caplog.text
    assert 1 == ModelStore(tmp_path / "models").read_index()["colors"].live
