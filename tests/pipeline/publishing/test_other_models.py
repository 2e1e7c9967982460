"""`import` of what other people have: Keras files, SavedModels that no server restores, sigmoids, any preprocessing."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from contract.store import ModelStore
from engine.loading import load_engine
from pipeline.__main__ import main
from pipeline.publishing.imports.label_files import read_labels
from tests.docs.blocks import DOCS, read_blocks
from tests.helpers.foreign_models import IMAGES, NUM_CLASSES, SIZE, expected, import_it, write_model
from tests.helpers.server_process import ROOT

MARKER = "FOVEA_TEST_MARKER"


@pytest.fixture(name="two")
def fixture_two(tmp_path: Path) -> Path:
    """Two names."""
    path = tmp_path / "two.txt"
    path.write_text("cat\ndog\n")
    return path


def run(tmp_path: Path, images: np.ndarray = IMAGES) -> np.ndarray:
    engine = load_engine(tmp_path / "models/pets/1", warm_up=True)
    try:
        return engine.run("serving_default", {"images": images})["probabilities"]
    finally:
        engine.close()


def network(outputs: int = NUM_CLASSES, activation: str | None = "softmax", *between: Any) -> keras.Model:
    """A small network with what is stored in several ways: batch norm, depthwise convolution, a nested model."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    inner = keras.Sequential([layers.Input((SIZE, SIZE, 3)), layers.Rescaling(1 / 127.5, -1), layers.Conv2D(4, 3)])
    images = keras.Input((SIZE, SIZE, 3))
    x = layers.DepthwiseConv2D(3, activation="relu")(inner(images))
    x = layers.BatchNormalization()(x)
    for layer in between:
        x = layer(x)
    x = layers.Dense(outputs, activation=activation)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(images, x)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([array + 0.1 * (i + 1) for i, array in enumerate(layer.get_weights())])
    return model


def answer(model: keras.Model, images: np.ndarray = IMAGES) -> np.ndarray:
    return np.asarray(model(images.astype(np.float32), training=False))


def as_teachable_machine(model: keras.Model, path: Path) -> Path:
    """Write an .h5 file as Keras 2 does, whose depthwise convolutions say `groups`."""
    model.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "DepthwiseConv2D":
                layer["config"]["groups"] = 1
        file.attrs["model_config"] = json.dumps(config)
    return path


def saved(model: keras.Model, path: Path) -> Path:
    tf.saved_model.save(model, str(path))
    return path


def exported(model: keras.Model, path: Path) -> Path:
    model.export(path, verbose=False)
    return path


def file_of(model: keras.Model, path: Path) -> Path:
    model.save(path)
    return path


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda m, d: file_of(m, d / "m.keras"), id="keras"),
        pytest.param(lambda m, d: file_of(m, d / "m.h5"), id="h5"),
        pytest.param(lambda m, d: file_of(m, d / "m.keras").rename(d / "no-suffix"), id="no-suffix"),
        pytest.param(lambda m, d: file_of(m, d / "m.h5").rename(d / "m.hdf5"), id="hdf5"),
        pytest.param(lambda m, d: as_teachable_machine(m, d / "keras_model.h5"), id="teachable-machine"),
        pytest.param(lambda m, d: saved(m, d / "saved"), id="tf.saved_model.save"),
        pytest.param(lambda m, d: exported(m, d / "exported"), id="export"),
    ],
)
def test_every_form_of_a_keras_model_gives_its_numbers(
    tmp_path: Path, labels: Path, write: Callable[[keras.Model, Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published version computes what the network in memory does; nothing stays in TMPDIR."""
    model = network()
    path = write(model, tmp_path)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)

    assert 0 == import_it(tmp_path, path, f"--labels={labels}")

    assert np.abs(answer(model) - run(tmp_path)).max() < 1e-5
    assert [] == list(temporary.iterdir())
    provenance = ModelStore(tmp_path / "models").read_contract("pets", 1).document["provenance"]
    assert path.name == provenance["imported"]


class Doubled(keras.layers.Layer):
    """A layer of one's own."""

    def call(self, x: Any) -> Any:
        """Double."""
        return x * 2


@keras.saving.register_keras_serializable("mine")
class Registered(Doubled):
    """A layer that is registered, which says nothing about whose it is."""


def touching(x: Any) -> Any:
    Path(os.environ[MARKER]).touch()
    return x


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (lambda: Doubled(), "Doubled"),
        (lambda: Registered(), "Registered"),
        (lambda: keras.layers.Lambda(touching, output_shape=lambda shape: shape), "Lambda"),
    ],
)
def test_code_in_a_keras_file_is_not_run(
    tmp_path: Path,
    labels: Path,
    suffix: str,
    layer: Callable[[], Any],
    named: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Layers that are not Keras's are named with the way round; a lambda's code is not touched."""
    marker = tmp_path / "marker"
    monkeypatch.setenv(MARKER, str(marker))
    path = file_of(network(NUM_CLASSES, "softmax", layer()), tmp_path / f"m{suffix}")
    marker.unlink(missing_ok=True)

    assert 1 == import_it(tmp_path, path, f"--labels={labels}")

    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert named in error
    assert "model.export(DIR)" in error
    assert not marker.exists()
    assert {} == ModelStore(tmp_path / "models").read_index()


def weights_alone(folder: Path) -> Path:
    network().save_weights(folder / "m.weights.h5")
    return folder / "m.weights.h5"


def damaged_zip(folder: Path) -> Path:
    path = file_of(network(), folder / "m.keras")
    path.write_bytes(path.read_bytes()[:-200])
    return path


def without_config(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "m.keras", "w") as archive:
        archive.writestr("else.txt", "x")
    return folder / "m.keras"


def below_a_version(folder: Path) -> Path:
    write_model(folder / "base" / "1")
    return folder / "base"


def text(folder: Path) -> Path:
    (folder / "m.onnx").write_text("onnx")
    return folder / "m.onnx"


@pytest.mark.parametrize(
    ("build", "words"),
    [
        pytest.param(weights_alone, "weights alone", id="weights"),
        pytest.param(damaged_zip, "expected a SavedModel", id="damaged"),
        pytest.param(without_config, "expected a SavedModel", id="zip"),
        pytest.param(below_a_version, "did you mean {folder}/base/1?", id="numbered"),
        pytest.param(text, "m.onnx: OpenVINO cannot read it", id="onnx"),
        pytest.param(lambda folder: folder / "nowhere.keras", "no such file or folder", id="absent"),
        pytest.param(lambda folder: folder, "a folder without saved_model.pb", id="empty"),
    ],
)
def test_what_is_no_model_is_named(
    tmp_path: Path, build: Callable[[Path], Path], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says what it is instead and what is expected."""
    folder = tmp_path / "given"
    folder.mkdir()

    assert 1 == import_it(tmp_path, build(folder))

    assert words.format(folder=folder) in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "flags", [["nowhere"], ["labels.txt"], [".", "--labels=nowhere.txt"], ["saved", "--labels=twice.txt"]]
)
def test_wrong_paths_are_refused_before_tensorflow_is_imported(tmp_path: Path, flags: list[str]) -> None:
    """Model, labels and their contents are looked at first: a second, not ten."""
    write_model(tmp_path / "saved")
    (tmp_path / "labels.txt").write_text("cat\n")
    (tmp_path / "twice.txt").write_text("cat\ncat\n")
    code = "import sys; from pipeline.__main__ import main; status = main(sys.argv[1:]); "
    code += "sys.exit(10 * status + ('tensorflow' in sys.modules) + ('keras' in sys.modules))"

    done = subprocess.run(
        [sys.executable, "-c", code, "import", "--name=pets", *flags],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert 10 == done.returncode, done.stderr
    assert done.stderr.startswith("error: ")


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def test_one_sigmoid_becomes_two_classes(tmp_path: Path, two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The number is the second class's probability, as Keras counts; it has to be said."""
    model = network(1, "sigmoid")
    path = file_of(model, tmp_path / "m.keras")

    assert 1 == import_it(tmp_path, path, f"--labels={two}")
    assert "say --binary" in capsys.readouterr().err
    assert 1 == import_it(tmp_path, path, f"--labels={two}", "--binary", "--softmax")
    assert "leave --softmax out" in capsys.readouterr().err
    assert 0 == import_it(tmp_path, path, f"--labels={two}", "--binary")

    second = answer(model)
    assert np.abs(np.concatenate([1 - second, second], 1) - run(tmp_path)).max() < 1e-5


def test_one_logit_becomes_two_classes(tmp_path: Path, two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A logit is told from a probability by its range."""
    source = write_model(tmp_path / "foreign", num_classes=1, finish=lambda x: 20 * x + 3)

    assert 1 == import_it(tmp_path, source, f"--labels={two}", "--binary")
    assert "if it is a logit, add --softmax" in capsys.readouterr().err
    assert 0 == import_it(tmp_path, source, f"--labels={two}", "--binary", "--softmax")

    kernel = np.random.default_rng(3).normal(0, 1, (3, 1)).astype(np.float32)
    second = sigmoid(20 * (IMAGES.astype(np.float64).mean((1, 2)) / 255 @ kernel) + 3)
    assert np.abs(np.concatenate([1 - second, second], 1) - run(tmp_path)).max() < 1e-5


def test_binary_is_refused_for_several_classes(
    tmp_path: Path, labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flag that does not fit is an error, not ignored."""
    assert 1 == import_it(tmp_path, write_model(tmp_path / "foreign"), f"--labels={labels}", "--binary")
    assert "expected one number an image with --binary. Received: 3" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--softmax"]])
@pytest.mark.parametrize("form", ["keras", "export", "graph"])
def test_several_sigmoids_are_several_labels(
    tmp_path: Path, labels: Path, form: str, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With and without --softmax they are named as multi-label and refused."""
    if form == "graph":
        path = write_model(tmp_path / "foreign", finish=tf.sigmoid)
    else:
        model = network(NUM_CLASSES, "sigmoid")
        path = file_of(model, tmp_path / "m.keras") if form == "keras" else exported(model, tmp_path / "m")

    assert 1 == import_it(tmp_path, path, f"--labels={labels}", *flags)

    assert "multi-label" in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_softmax_of_probabilities_is_refused(
    tmp_path: Path, labels: Path, scale: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Softmax twice is a model that is hardly ever sure."""
    source = write_model(tmp_path / "foreign", scale=scale)

    assert 1 == import_it(tmp_path, source, f"--labels={labels}", "--softmax")

    assert "probabilities already; leave --softmax out" in capsys.readouterr().err.strip().splitlines()[-1]


def test_logits_that_happen_to_lie_between_0_and_1_are_logits(tmp_path: Path, labels: Path) -> None:
    """The last operation tells them from sigmoids."""
    source = write_model(tmp_path / "foreign", finish=lambda x: x * 0.0001 + [0.3, 0.5, 0.1])

    assert 0 == import_it(tmp_path, source, f"--labels={labels}", "--softmax")


@pytest.mark.parametrize("dtype", [tf.float32, tf.uint8])
@pytest.mark.parametrize(
    ("flags", "arithmetic"),
    [
        (["--color-order=bgr"], lambda x: x[..., ::-1]),
        (["--scale=1/127.5", "--offset=-1"], lambda x: x / 127.5 - 1),
        (["--scale=0.01,0.02,0.005", "--offset=-1,0.5,2"], lambda x: x * [0.01, 0.02, 0.005] + [-1, 0.5, 2]),
        (
            ["--scale=0.01,0.02,0.005", "--offset=3", "--color-order=bgr"],
            lambda x: x[..., ::-1] * [0.01, 0.02, 0.005] + 3,
        ),
        (["--preprocessing=unit", "--color-order=bgr"], lambda x: x[..., ::-1] / 255),
        (
            ["--preprocessing=torch", "--color-order=bgr"],
            lambda x: ((x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225])[..., ::-1],
        ),
    ],
)
def test_any_scale_offset_and_order_of_colors(
    tmp_path: Path,
    labels: Path,
    dtype: Any,
    flags: list[str],
    arithmetic: Callable[[np.ndarray], np.ndarray],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The graph computes what numpy does, in the model's own order; a model of bytes takes an order alone."""
    source = write_model(tmp_path / "foreign", dtype=dtype, scale=1.0 if dtype == tf.float32 else 1 / 255)
    pixels = arithmetic(IMAGES.astype(np.float64))

    if dtype == tf.uint8 and flags != ["--color-order=bgr"]:
        assert 1 == import_it(tmp_path, source, f"--labels={labels}", *flags)
        assert "takes uint8 pixels" in capsys.readouterr().err
        return
    assert 0 == import_it(tmp_path, source, f"--labels={labels}", *flags)

    wanted = expected(pixels, scale=1.0 if dtype == tf.float32 else 1 / 255)
    assert np.abs(wanted - run(tmp_path)).max() < 1e-4


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--preprocessing=tf", "--scale=2"], "expected neither --scale nor --offset"),
        (["--preprocessing=caffe", "--color-order=bgr"], "caffe gives BGR"),
        (["--scale=1,2"], "expected one number, or 3 for 3 channels. Received: 2"),
        (["--fit=pad", "--crop-fraction=0.9"], "expected 1 for fit 'pad'"),
    ],
)
def test_contradictions_are_refused(
    tmp_path: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each."""
    assert 1 == import_it(tmp_path, write_model(tmp_path / "foreign"), *flags)

    assert words in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("flag", ["--scale=a", "--scale=1/0", "--scale=1,2,3,4", "--offset=inf", "--crop-fraction=0"])
def test_numbers_that_are_none_are_wrong_use(tmp_path: Path, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, as argparse does."""
    with pytest.raises(SystemExit, match="2"):
        import_it(tmp_path, tmp_path, flag)
    assert "Received" in capsys.readouterr().err


def test_crop_fraction_is_in_a_contract_of_format_2(tmp_path: Path, labels: Path) -> None:
    """An old reader refuses it instead of seeing other pixels."""
    source = write_model(tmp_path / "foreign")

    assert 0 == import_it(tmp_path, source, f"--labels={labels}", "--fit=crop", "--crop-fraction=0.875")

    contract = ModelStore(tmp_path / "models").read_contract("pets", 1)
    assert (2, 0.875, "crop") == (contract.document["format"], contract.input.crop_fraction, contract.input.fit)


@pytest.mark.parametrize(
    ("text", "names", "warned"),
    [
        ("0 cats\n1 dogs\n2 big owls\n", ["cats", "dogs", "big owls"], False),
        ("0 Class 1\r\n1 Class 2\r\n", ["Class 1", "Class 2"], False),
        ("1 cats\n2 dogs\n", ["1 cats", "2 dogs"], True),
        ("1 dogs\n0 cats\n", ["1 dogs", "0 cats"], True),
        ("0 cats\ndogs\n", ["0 cats", "dogs"], False),
        ("0\n1\n", ["0", "1"], False),
    ],
)
def test_teachable_machines_labels(
    tmp_path: Path, text: str, names: list[str], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The number is the index where every line has its own in order; otherwise it is part of the name."""
    (tmp_path / "labels.txt").write_text(text)

    assert names == [label.name for label in read_labels(tmp_path / "labels.txt")]
    assert warned == ("the numbers stay" in caplog.text)


def test_the_command_of_versions_md(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An EfficientNet-Lite's preprocessing, scale, offset and crop, as docs/versions.md gives it."""
    (block,) = [block for block in read_blocks(DOCS / "versions.md") if block.elsewhere == Path(__file__)]
    model = network(NUM_CLASSES, None)
    model.save(tmp_path / "lite0.keras")
    monkeypatch.chdir(tmp_path)

    assert 0 == main(shlex.split(block.text)[3:])

    logits = answer(model, (IMAGES.astype(np.float32) - 127) / 128)
    wanted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    engine = load_engine(tmp_path / "models/lite/1")
    try:
        received = engine.run("serving_default", {"images": IMAGES})["probabilities"]
    finally:
        engine.close()
    assert np.abs(wanted - received).max() < 1e-5
    spec = ModelStore(tmp_path / "models").read_contract("lite", 1).input
    assert ("crop", "bicubic", 0.875) == (spec.fit, spec.resize, spec.crop_fraction)
