"""docs/lectures/: every network trains on a small set and is published."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import pytest
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

from contract.store import CONTRACT_FILE, ModelStore
from pipeline.__main__ import main
from pipeline.recipe.recipe import load_recipe
from pipeline.run.run import RunResult, run
from tests.helpers.image_sets import color_files, write_files
from tests.helpers.server_process import ROOT
from tests.pipeline.training.test_digits import digit_files

LECTURES = Path("docs/lectures")
pytestmark = pytest.mark.slow


@pytest.fixture(name="digits", scope="module")
def fixture_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 handwritten digits."""
    files = {path: data for path, data in digit_files().items() if int(Path(path).stem) < 500}
    return write_files(tmp_path_factory.mktemp("set") / "digits", files)


def trained(dataset: Path, folder: Path, recipe: str, *settings: str) -> tuple[RunResult, dict[str, object]]:
    chosen = load_recipe(recipe, ["train.early_stopping=null", "train.batch_size=20", *settings])
    result = run(dataset, chosen, ModelStore(folder / "models"), name="lecture", runs_dir=folder / "runs")
    return result, json.loads((result.directory / CONTRACT_FILE).read_text())


def test_every_file_is_run_here() -> None:
    """A file that is added has a test."""
    names = {path.name for path in LECTURES.iterdir() if path.suffix in (".py", ".yaml")}
    text = Path(__file__).read_text()

    assert all(name in text for name in names)


@pytest.mark.parametrize(("name", "saliency"), [("three-dropouts.yaml", "grad-cam"), ("flatten-mlp.yaml", None)])
def test_recipes(digits: Path, tmp_path: Path, name: str, saliency: str | None) -> None:
    """Straight networks learn digits."""
    result, contract = trained(digits, tmp_path, str(LECTURES / name), "train.epochs=14")

    assert saliency == contract["saliency"]
    assert result.test["accuracy"] >= 0.6


def test_alexnet_trains(digits: Path, tmp_path: Path) -> None:
    """Two epochs of AlexNet at 32 pixels lower the loss: to learn digits it takes minutes."""
    result, contract = trained(digits, tmp_path, str(LECTURES / "alexnet-32.yaml"), "train.epochs=2")

    curves = json.loads((result.folder / "metrics.json").read_text())["training"]["curves"]
    assert curves[-1]["loss"] < curves[0]["loss"]
    assert "grad-cam" == contract["saliency"]


@pytest.mark.parametrize("name", ["inception_auxiliary.py", "residual_block.py"])
def test_files(digits: Path, tmp_path: Path, name: str) -> None:
    """Networks with branches learn digits and are explained by class activation maps."""
    backbone = f"model.backbone={LECTURES / name}:build"

    result, contract = trained(
        digits, tmp_path, "default", backbone, "model.input_size=28", "train.epochs=14", "train.learning_rate=0.004"
    )

    assert "cam" == contract["saliency"]
    assert result.test["accuracy"] >= 0.6


def test_vgg19_takes_published_weights(tmp_path: Path) -> None:
    """A file in the form of Keras's own, weights by layer without the head, is loaded into the layers by hand."""
    keras.utils.set_random_seed(0)
    published = keras.applications.VGG19(include_top=False, weights=None, input_shape=(64, 64, 3))
    file = tmp_path / "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
    with h5py.File(file, "w") as group:
        save_weights_to_hdf5_group(group, published)
    dataset = write_files(tmp_path / "colors", color_files(train=6, test=2))
    settings = [f"model.weights={file}", "model.preprocessing=caffe", "model.input_size=64", "train.epochs=1"]

    result, contract = trained(
        dataset,
        tmp_path,
        "default",
        "model.backbone=docs/lectures/vgg19_by_hand.py:build",
        "train.fine_tune.epochs=0",
        "augment.views=1",
        *settings,
    )

    model = keras.models.load_model(result.folder / "model.keras")
    kernel = model.get_layer("block5_conv4").get_weights()[0]
    assert (published.get_layer("block5_conv4").get_weights()[0] == kernel).all()
    assert "cam" == contract["saliency"]


def test_gradient_tape(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A loop of the user's own ends in a Keras file that is imported."""
    model, labels = tmp_path / "model.keras", tmp_path / "labels.txt"
    script = [sys.executable, str(LECTURES / "gradient_tape.py"), str(digits / "train"), str(model), str(labels)]
    done = subprocess.run([*script, "--epochs=3"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert 0 == done.returncode, done.stderr[-2000:]
    first, *_, last = [float(line.split()[-1]) for line in done.stdout.splitlines() if line.startswith("epoch")]
    assert last < first

    command = ["import", str(model), "--name=tape", f"--labels={labels}", "--preprocessing=unit"]
    assert 0 == main([*command, f"--models-dir={tmp_path / 'models'}"]), capsys.readouterr().err
    assert 1 == ModelStore(tmp_path / "models").resolve("tape/live")[1]
