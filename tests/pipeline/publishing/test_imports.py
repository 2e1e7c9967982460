"""pipeline/publishing/imports/import_model.py: anybody's SavedModel, checked, completed, and computing what it did."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from contract.model import ModelContract
from contract.store import CONTRACT_FILE, VERIFICATION_FILE, ModelEntry, ModelStore
from engine.loading import load_engine
from pipeline.errors import DatasetError
from pipeline.publishing.imports.label_files import read_labels
from tests.conftest import StartModelServer
from tests.helpers.foreign_models import (
    IMAGES,
    NUM_CLASSES,
    SIZE,
    expected,
    import_it,
    write_model,
    write_tensorflow1_model,
)
from tests.helpers.model_client import ModelClient


def run(directory: Path, images: np.ndarray = IMAGES) -> np.ndarray:
    engine = load_engine(directory, warm_up=True)
    try:
        described = engine.run("describe", {"row": np.zeros(2, np.int32)})["contract"]
        assert [(directory / CONTRACT_FILE).read_bytes()] * 2 == list(described)
        return engine.run("serving_default", {"images": images})["probabilities"]
    finally:
        engine.close()


def test_imported_model_computes_what_it_did(tmp_path: Path, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A float model on raw pixels: the same numbers, by name, with a contract that it can say and a warm-up record."""
    source = write_model(tmp_path / "foreign")
    before = {path.name: path.read_bytes() for path in source.rglob("*") if path.is_file()}

    assert 0 == import_it(tmp_path, source, f"--labels={labels}")

    version = tmp_path / "models/pets/1"
    assert np.abs(expected(IMAGES) - run(version)).max() < 1e-6
    contract = ModelContract.from_json((version / CONTRACT_FILE).read_bytes())
    assert ["cat", "dog", "owl"] == [label.name for label in contract.labels]
    assert ((SIZE, SIZE, 3), "rgb", None) == (contract.input.shape, contract.input.color, contract.saliency)
    output = capsys.readouterr().out
    assert "explanations are not available" in output
    assert "live: pets/1" in output
    verification = json.loads((version / VERIFICATION_FILE).read_text())
    assert "first" == verification["gate"]["verdict"]
    assert verification["deviations"][0]["max_deviation"] < 1e-6
    assert before == {path.name: path.read_bytes() for path in source.rglob("*") if path.is_file()}


def test_imported_model_loads_in_tensorflow_2_too(tmp_path: Path, labels: Path) -> None:
    """tf.saved_model.load finds the new signatures, not the old ones."""
    import_it(tmp_path, write_model(tmp_path / "foreign"), f"--labels={labels}")

    loaded = tf.saved_model.load(str(tmp_path / "models/pets/1"))

    assert {"serving_default", "describe"} == {name for name in loaded.signatures if not name.startswith("__")}
    actual = loaded.signatures["serving_default"](images=tf.constant(IMAGES))["probabilities"].numpy()
    assert np.abs(expected(IMAGES) - actual).max() < 1e-6


@pytest.mark.parametrize("mode", ["tf", "caffe", "torch"])
def test_preprocessing_is_keras_own(tmp_path: Path, labels: Path, mode: str) -> None:
    """The added nodes give the network what keras.applications' preprocess_input of that mode gives."""
    source = write_model(tmp_path / "foreign", scale=1.0)

    assert 0 == import_it(tmp_path, source, f"--labels={labels}", f"--preprocessing={mode}")

    from keras.applications.imagenet_utils import preprocess_input

    pixels = preprocess_input(IMAGES.astype(np.float32), mode=mode)
    assert np.abs(expected(pixels, scale=1.0) - run(tmp_path / "models/pets/1")).max() < 1e-5


def test_unit_preprocessing_scales_to_one(tmp_path: Path, labels: Path) -> None:
    """A model of the many that were trained with rescale=1/255."""
    source = write_model(tmp_path / "foreign", scale=1.0)

    assert 0 == import_it(tmp_path, source, f"--labels={labels}", "--preprocessing=unit")

    assert np.abs(expected(IMAGES) - run(tmp_path / "models/pets/1")).max() < 1e-6


def test_uint8_model_needs_no_cast(tmp_path: Path, labels: Path) -> None:
    """A model that takes bytes gets them; preprocessing it again would be wrong and is refused."""
    source = write_model(tmp_path / "foreign", dtype=tf.uint8)

    assert 1 == import_it(tmp_path, source, f"--labels={labels}", "--preprocessing=tf")
    assert 0 == import_it(tmp_path, source, f"--labels={labels}")

    assert np.abs(expected(IMAGES) - run(tmp_path / "models/pets/1")).max() < 1e-6


def test_logits_need_to_be_called_so(tmp_path: Path, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Outputs that are no probabilities are refused with the way round, which gives probabilities."""
    source = write_model(tmp_path / "foreign", finish=tf.identity)

    assert 1 == import_it(tmp_path, source, f"--labels={labels}")
    assert "if the model gives logits, say --softmax" in capsys.readouterr().err.splitlines()[-1]
    assert 0 == import_it(tmp_path, source, f"--labels={labels}", "--softmax")

    assert np.abs(expected(IMAGES) - run(tmp_path / "models/pets/1")).max() < 1e-6


def test_half_precision_output_becomes_float(tmp_path: Path, labels: Path) -> None:
    """Any float type of output is cast to float32."""
    source = write_model(tmp_path / "foreign", finish=lambda x: tf.cast(tf.nn.softmax(x), tf.float64))

    assert 0 == import_it(tmp_path, source, f"--labels={labels}")

    assert np.float32 == run(tmp_path / "models/pets/1").dtype


def test_grey_model_of_open_size(tmp_path: Path, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One channel means grey; a size that the model leaves open must be given."""
    source = write_model(tmp_path / "foreign", shape=(None, None, None, 1), channels=1)

    assert 1 == import_it(tmp_path, source, f"--labels={labels}")
    assert "--input-size" in capsys.readouterr().err
    assert 0 == import_it(tmp_path, source, f"--labels={labels}", "--input-size=20x30")

    contract = ModelStore(tmp_path / "models").read_contract("pets", 1)
    assert ((20, 30, 1), "grey") == (contract.input.shape, contract.input.color)


def test_tensorflow_1_model_with_a_table(tmp_path: Path, labels: Path) -> None:
    """Graph, session, table and asset file of TensorFlow 1 survive; the other signature goes."""
    source = write_tensorflow1_model(tmp_path / "foreign")

    assert 0 == import_it(tmp_path, source, f"--labels={labels}")

    version = tmp_path / "models/pets/1"
    assert np.abs(expected(IMAGES) - run(version)).max() < 1e-6
    assert (version / "assets/vocabulary.txt").is_file()


def test_keras_export_is_understood(tmp_path: Path, labels: Path) -> None:
    """What Keras's own model.export writes comes in with its numbers."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.layers.Input((SIZE, SIZE, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(NUM_CLASSES, activation="softmax"),
        ]
    )
    model.export(tmp_path / "foreign", verbose=False)

    assert 0 == import_it(tmp_path, tmp_path / "foreign", f"--labels={labels}", "--preprocessing=unit")

    wanted = np.asarray(model(IMAGES.astype(np.float32) / 255, training=False))
    assert np.abs(wanted - run(tmp_path / "models/pets/1")).max() < 1e-5


def test_numbered_classes_without_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a labels file the classes are numbered, and a warning says so."""
    assert 0 == import_it(tmp_path, write_model(tmp_path / "foreign"))

    labels = ModelStore(tmp_path / "models").read_contract("pets", 1).labels
    assert ["class_0", "class_1", "class_2"] == [label.id for label in labels]


def test_fovea_model_comes_as_it_is(tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    """A version directory of another store keeps its graph, contract, saliency and warm-up records."""
    assert 0 == import_it(tmp_path, tiny_models["plain"])

    version = tmp_path / "models/pets/1"
    for name in ("saved_model.pb", CONTRACT_FILE):
        assert (tiny_models["plain"] / name).read_bytes() == (version / name).read_bytes()
    assert "cam" == ModelStore(tmp_path / "models").read_contract("pets", 1).saliency


def test_fovea_model_takes_no_labels(
    tmp_path: Path, labels: Path, tiny_models: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its contract is in its graph; another one beside it would be a lie."""
    assert 1 == import_it(tmp_path, tiny_models["plain"], f"--labels={labels}")
    assert "brings its own contract" in capsys.readouterr().err


def test_second_import_stays_candidate(tmp_path: Path, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is known of an imported model's training, so it does not replace a live one unless it is forced to."""
    source = write_model(tmp_path / "foreign")
    store = ModelStore(tmp_path / "models")

    assert [0, 0] == [import_it(tmp_path, source, f"--labels={labels}") for _ in range(2)]
    assert ModelEntry(live=1, candidate=2, highest=2) == store.read_index()["pets"]
    assert "python -m pipeline promote pets" in capsys.readouterr().out

    assert 0 == import_it(tmp_path, source, f"--labels={labels}", "--force")
    assert 3 == store.read_index()["pets"].live


def two_inputs(directory: Path) -> Path:
    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 3]), tf.TensorSpec([None])])
    def serve(x: Any, y: Any) -> dict[str, Any]:
        return {"scores": tf.nn.softmax(tf.reduce_mean(x, [1, 2]) + y[:, None])}

    tf.saved_model.save(tf.Module(), str(directory), signatures=serve)
    return directory


def calls_python(directory: Path) -> Path:
    def python(x: Any) -> Any:
        return tf.ensure_shape(tf.numpy_function(lambda v: v, [x], tf.float32), [None, NUM_CLASSES])

    return write_model(directory, finish=lambda x: tf.nn.softmax(python(x)))


def broken_graph(directory: Path) -> Path:
    directory.mkdir()
    (directory / "saved_model.pb").write_bytes(b"\xff\xff nothing")
    return directory


def without_variables(directory: Path) -> Path:
    for path in (write_model(directory) / "variables").iterdir():
        path.unlink()
    return directory


@pytest.mark.parametrize(
    ("build", "words"),
    [
        pytest.param(two_inputs, "expected one input, an image tensor", id="two-inputs"),
        pytest.param(calls_python, "calls Python. Received: the operations", id="python"),
        pytest.param(broken_graph, "expected a SavedModel", id="corrupt"),
        pytest.param(lambda d: d, "expected a SavedModel", id="absent"),
        pytest.param(without_variables, "can be loaded", id="no-variables"),
        pytest.param(
            lambda d: write_model(d, num_classes=4), "each of the model's 4 classes. Received: 3", id="labels"
        ),
        pytest.param(lambda d: write_model(d, num_classes=1), "at least two classes", id="one-class"),
        pytest.param(lambda d: write_model(d, shape=(2, SIZE, SIZE, 3)), "free batch axis", id="fixed-batch"),
        pytest.param(lambda d: write_model(d, dtype=tf.int32), "expected uint8 or float", id="int-input"),
        pytest.param(
            lambda d: write_model(d, shape=(None, 3, 8, 8), channels=8), "1 or 3 channels", id="channels-first"
        ),
        pytest.param(lambda d: write_model(d, finish=lambda x: x / 0.0), "not finite", id="not-finite"),
        pytest.param(lambda d: write_model(d, finish=tf.argmax), "expected a float type", id="no-scores"),
        pytest.param(lambda d: write_model(d, finish=lambda x: x[:, None]), "[batch, classes]", id="rank"),
    ],
)
def test_unsuitable_models_are_refused(
    tmp_path: Path, labels: Path, build: Callable[[Path], Path], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line of stderr says what was expected and received; the store stays empty."""
    assert 1 == import_it(tmp_path, build(tmp_path / "foreign"), f"--labels={labels}")

    assert words in capsys.readouterr().err.strip().splitlines()[-1]
    assert {} == ModelStore(tmp_path / "models").read_index()


@pytest.mark.slow
def test_imported_model_is_served(
    tmp_path: Path, labels: Path, start_modelserver: StartModelServer, store: ModelStore
) -> None:
    """A running model server takes an imported version up, answers with its numbers and says its contract."""
    server = start_modelserver(store)
    source = write_model(tmp_path / "foreign")

    assert 0 == import_it(tmp_path, source, f"--labels={labels}")

    with ModelClient(server.address) as client:
        client.wait_for("pets", 1)
        actual = client.predict("pets", {"images": IMAGES})["probabilities"]
        described = client.predict("pets", {"row": np.zeros(1, np.int32)}, signature="describe")["contract"]
    assert np.abs(expected(IMAGES) - actual).max() < 1e-6
    assert store.read_contract("pets", 1).to_json().encode() == described[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", "n1\nn2\n\n"),
        ("labels.csv", "\ufeffn1\r\nn2\r\n"),
        ("list.json", '["n1", "n2"]'),
        ("pairs.json", '[["n1", "cat"], ["n2", "dog"]]'),
        ("objects.json", '[{"id": "n1", "name": "cat"}, {"id": "n2"}]'),
        ("keras.json", '{"1": ["n2", "dog"], "0": ["n1", "cat"]}'),
        ("indices.json", '{"n2": 1, "n1": 0}'),
        ("by_index.json", '{"1": "n2", "0": "n1"}'),
    ],
)
def test_labels_in_the_forms_that_people_have(tmp_path: Path, name: str, text: str) -> None:
    """All give the ids in class-index order."""
    (tmp_path / name).write_text(text, encoding="utf-8")

    assert ["n1", "n2"] == [label.id for label in read_labels(tmp_path / name)]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("twice.txt", "crane\ncrane\n", "each name once"),
        ("gap.json", '{"0": "a", "2": "b"}', "every index from 0 on"),
        ("same.json", '{"a": 0, "b": 0}', "each index once"),
        ("number.json", "3", "expected a text file"),
        ("numbers.json", "[1, 2]", "Received: 1"),
        ("cut.json", "[", "is not JSON"),
    ],
)
def test_labels_in_no_known_form_are_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    """The error says which forms there are, or what is wrong."""
    (tmp_path / name).write_text(text)

    with pytest.raises(DatasetError, match=words):
        read_labels(tmp_path / name)
