"""Training on several devices: two logical CPUs in a process of their own, against one."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fovea
from pipeline.__main__ import main
from pipeline.errors import TrainingError
from pipeline.training.devices import make_strategy
from tests.helpers.image_sets import color_files, write_files
from tests.helpers.server_process import ROOT

SETTINGS = [
    "model.layers=[{Conv2D: {filters: 4, kernel_size: 5, strides: 2}}, ReLU, Flatten]",
    "model.weights=none",
    "model.input_size=32",
    "train.freeze_backbone=false",
    "train.fine_tune.epochs=0",
    "train.epochs=3",
    "train.batch_size=8",
    "train.early_stopping=null",
    *(f"augment.{name}=0" for name in ("rotation_range", "width_shift_range", "height_shift_range")),
    "augment.horizontal_flip=false",
]
TWO_CPUS = """
import sys
from engine.runtimes.tensorflow_start import quiet_tensorflow
quiet_tensorflow()
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from pipeline.__main__ import leave, main
leave(main(sys.argv[1:]))
"""


def arguments(folder: Path, dataset: Path, *further: str) -> list[str]:
    """The command line of a run in a folder."""
    options = [word for setting in SETTINGS for word in ("--set", setting)]
    return [
        "run",
        str(dataset),
        *options,
        f"--models-dir={folder / 'models'}",
        f"--runs-dir={folder / 'runs'}",
        *further,
    ]


def curves(folder: Path) -> np.ndarray:
    """Losses and accuracies of each epoch."""
    (path,) = (folder / "runs").rglob("curves.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(row[key]) for key in ("loss", "val_loss", "accuracy", "val_accuracy")] for row in rows])


@pytest.mark.slow
def test_two_devices_train_as_one(tmp_path: Path) -> None:
    """The same curves within 1e-5, without what is random: a whole run, published and verified."""
    dataset = write_files(tmp_path / "colors", color_files(train=12, test=4))
    run = arguments(tmp_path / "two", dataset, "--devices", "all")
    done = subprocess.run(
        [sys.executable, "-c", TWO_CPUS, *run], cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )
    assert 0 == done.returncode, done.stderr[-3000:]

    assert 0 == main(arguments(tmp_path / "one", dataset))

    assert np.allclose(curves(tmp_path / "one"), curves(tmp_path / "two"), rtol=0, atol=1e-5)
    (record,) = (tmp_path / "two" / "runs").rglob("run.json")
    assert "all" == json.loads(record.read_text())["devices"]


def test_one_device_is_refused() -> None:
    """A machine without several devices has nothing to share."""
    with pytest.raises(TrainingError, match=r"--devices all: expected two GPUs or more .* Received: 1 CPU"):
        make_strategy("all", 32)
    with pytest.raises(TrainingError, match=r"devices: expected one or all\. Received: two"):
        make_strategy("two", 32)
    assert make_strategy("one", 32) is None


def test_python_takes_devices_too(tmp_path: Path) -> None:
    """`fovea.train` refuses as the command does, and leaves no folder."""
    dataset = write_files(tmp_path / "colors", color_files(train=12, test=4))
    folders = {"models_dir": tmp_path / "models", "runs_dir": tmp_path / "runs"}
    settings = {"model.layers": ["Flatten"], "model.weights": "none", "train.freeze_backbone": False}
    with pytest.raises(TrainingError, match=r"--devices all: expected two GPUs or more"):
        fovea.train(dataset, recipe="demo", settings=settings, devices="all", **folders)
    assert not (tmp_path / "runs" / "colors").exists()
