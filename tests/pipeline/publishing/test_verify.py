"""verify.py and verify_published.py: models that do not do what they promise are found out, each in its own way."""

import csv
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from contract.errors import StoreError
from contract.model import InputSpec, Label, ModelContract, build_document
from contract.store import CONTRACT_FILE, VERIFICATION_FILE, WARMUP_FILE, ModelStore
from engine.kept import build_synthetic_images
from engine.runtime import RUNTIMES
from engine.warmup import build_warmup_request, write_warmup_records
from pipeline.__main__ import main
from pipeline.data.ingest import FolderSource
from pipeline.data.pixels import Pixels
from pipeline.errors import VerificationError
from pipeline.publishing.verify import Verification, open_engines, verify, verify_alone
from tests.helpers.halving_runtime import FILE
from tests.helpers.versions import ColorSet

SIZE, CLASSES = 8, 3
LABELS = [Label(name, name) for name in ("blue", "green", "red")]
CONTRACT = ModelContract.from_document(
    build_document(
        LABELS,
        InputSpec(SIZE, SIZE),
        saliency="cam",
        embedding={"dimension": 3},
        provenance={"run": "20260101T000000Z-cccccc"},
    )
)
KERNEL = np.random.default_rng(1).normal(0, 2, (3, CLASSES)).astype(np.float32)


def build(directory: Path, fault: str = "") -> Path:
    """Write a model of mean colours that promises CONTRACT and has one fault."""
    images_spec = tf.TensorSpec([None, SIZE, SIZE, 3], tf.uint8, name="images")

    def classify(images: Any) -> Any:
        values = tf.reduce_mean(tf.cast(images, tf.float32) / 255.0, axis=[1, 2])
        if fault == "unknown to OpenVINO":  # adds zero, by an operation that only TensorFlow has
            values += 0.0 * tf.math.betainc(1.0, 1.0, tf.zeros_like(values))
        if fault == "depends on the batch":
            values -= tf.reduce_mean(values, axis=0)
        return tf.nn.softmax(values @ KERNEL)

    @tf.function(input_signature=[images_spec])
    def serving_default(images: Any) -> dict[str, Any]:
        probabilities = classify(images)
        wrong = {
            "not a number": probabilities * np.float32("nan"),
            "one row": probabilities[:1],
            "one class less": tf.nn.softmax(probabilities[:, :2]),
            "logits": tf.math.log(probabilities),
        }
        return {"scores" if fault == "other output" else "probabilities": wrong.get(fault, probabilities)}

    @tf.function(input_signature=[images_spec, tf.TensorSpec([None], tf.int32, name="class_index")])
    def explain(images: Any, class_index: Any) -> dict[str, Any]:
        probabilities = classify(images)
        if fault == "explain disagrees":
            probabilities = probabilities[:, ::-1]
        chosen = tf.cast(class_index, tf.float32)[:, None, None]
        heat = tf.reduce_mean(tf.cast(images, tf.float32) / 255.0, axis=3) + 0.0 * chosen
        wrong = {
            "saliency above one": heat + 1.0,
            "saliency not a number": heat * np.float32("nan"),
            "saliency flat": tf.reduce_mean(heat, axis=2),
        }
        return {"probabilities": probabilities, "saliency": wrong.get(fault, heat)}

    @tf.function(input_signature=[images_spec])
    def embed(images: Any) -> dict[str, Any]:
        pooled = tf.reduce_mean(tf.cast(images, tf.float32) / 255.0, axis=[1, 2])
        if fault == "embedding depends on the batch":
            pooled -= tf.reduce_mean(pooled, axis=0)
        wrong = {
            "embedding not a number": pooled * np.float32("nan"),
            "embedding too short": pooled[:, :2],
            "embedding of one image": pooled[:1],
            "embedding of doubles": tf.cast(pooled, tf.float64),
        }
        return {"embedding": wrong.get(fault, pooled)}

    text = CONTRACT.to_json()
    if fault == "describes another":
        text = text.replace("green", "grape")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="row")])
    def describe(row: Any) -> dict[str, Any]:
        return {"contract": tf.fill(tf.shape(row)[:1] // (2 if fault == "describes once" else 1), text)}

    signatures = {"serving_default": serving_default, "explain": explain, "embed": embed, "describe": describe}
    signatures.pop(fault.removeprefix("no "), None)
    tf.saved_model.save(tf.Module(), str(directory), signatures=signatures)
    size = 5 if fault == "warm-up of another size" else SIZE
    request = build_warmup_request("serving_default", {"images": np.zeros((1, size, size, 3), np.uint8)})
    write_warmup_records(directory / WARMUP_FILE, [request])
    (directory / CONTRACT_FILE).write_text(CONTRACT.to_json())
    if fault == "cut graph":
        path = directory / "saved_model.pb"
        path.write_bytes(path.read_bytes()[:-1000])
    return directory


def right_probabilities(images: np.ndarray) -> np.ndarray:
    """What the model must say, by plain numpy."""
    exponents = np.exp((images / 255.0).mean(axis=(1, 2)) @ KERNEL)
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), np.float32)


@pytest.fixture(name="images", scope="module")
def fixture_images(tmp_path_factory: pytest.TempPathFactory) -> ColorSet:
    """Twelve test images, and two to train on for each colour."""
    images = ColorSet(tmp_path_factory.mktemp("images") / "set")
    images.add("train", 2)
    images.add("test", 4)
    return images


def pixels_of(images: ColorSet) -> tuple[Pixels, list[str]]:
    return Pixels(FolderSource(images.folder), CONTRACT.input), [row.path for row in images.manifest.of("test")]


def verify_images(directory: Path, images: ColorSet) -> Verification:
    pixels, paths = pixels_of(images)
    expected = right_probabilities(np.stack([pixels[path] for path in paths]))
    return verify(directory, CONTRACT, pixels, paths, expected)


def test_right_model_passes(tmp_path: Path, images: ColorSet) -> None:
    """The deviation is measured over all images, and what the model says of synthetic ones is written down."""
    found = verify_images(build(tmp_path / "model"), images)

    engines = {(deviation.engine, deviation.precision) for deviation in found.deviations}
    assert {("tensorflow", "float32"), ("openvino", "float32")} <= engines
    for deviation in found.deviations:
        assert (12, 0) == (deviation.images, deviation.changed_predictions)
        assert deviation.max_deviation < (1e-6 if deviation.precision == "float32" else 0.02)
    synthetic = np.array(found.document()["synthetic"]["probabilities"])
    images_of_nobody = build_synthetic_images(CONTRACT.input)
    assert np.abs(right_probabilities(images_of_nobody) - synthetic).max() < 1e-6
    (embedding,) = found.document()["synthetic"]["embeddings"]
    assert np.abs((images_of_nobody[0] / 255.0).mean(axis=(0, 1)) - embedding).max() < 1e-6
    (parity,) = [item for item in found.document()["embedding_deviations"] if item["precision"] == "float32"]
    assert "openvino" == parity["engine"]
    assert parity["max_deviation"] < 1e-5


FAULTS = {
    "no embed": 'embed: .*"embed" not found',
    "embedding not a number": r"embed: expected finite float32 of shape \(4, 3\)\. Received: .* 12 of them not finite",
    "embedding too short": r"embed: expected finite float32 of shape \(4, 3\)\. Received: float32 of shape \(4, 2\)",
    "embedding of one image": r"embed: expected finite float32 of shape \(4, 3\)\. Received: float32 of shape \(1, 3\)",
    "embedding of doubles": "embed: expected finite float32 .* Received: float64",
    "embedding depends on the batch": "embed: tensorflow at float32, an image alone, against the same image in a batch",
    "not a number": "serving_default: .*finite",
    "one row": "a row for each of 4 images. Received: 1",
    "one class less": r"expected shape \(batch, 3\)",
    "logits": "sum to 1",
    "other output": "expected the outputs probabilities. Received: scores",
    "depends on the batch": "an image alone, against the same image in a batch",
    "no serving_default": 'signature key "serving_default" not found',
    "no explain": 'signature key "explain" not found',
    "explain disagrees": "explain, against serving_default",
    "saliency above one": r"finite values in \[0, 1\]",
    "saliency not a number": r"finite values in \[0, 1\]",
    "saliency flat": r"maps of shape \(4, rows, columns\)",
    "no describe": 'signature key "describe" not found',
    "describes another": "describe: expected the contract sha256:",
    "describes once": r"one contract a row, shape \(2,\)",
    "warm-up of another size": "warm-up records that the model answers",
    "cut graph": "can be loaded by tensorflow",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_models_are_refused(tmp_path: Path, fault: str) -> None:
    """Whatever is wrong with a signature, the error names it; no images are needed to see it."""
    with pytest.raises(VerificationError, match=FAULTS[fault]):
        verify_alone(build(tmp_path / "model", fault), CONTRACT)


def test_what_openvino_cannot_read_is_not_published(
    tmp_path: Path, images: ColorSet, caplog: pytest.LogCaptureFixture
) -> None:
    """An export must run on every engine; somebody else's model may leave OpenVINO out, with a warning."""
    directory = build(tmp_path / "model", "unknown to OpenVINO")

    with pytest.raises(VerificationError, match=r"loaded by openvino. Received: .* operations: Betainc"):
        verify_images(directory, images)
    verify_alone(directory, CONTRACT)
    assert "TensorFlow will serve it" in caplog.text


def test_every_registered_runtime_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference comes first; a third runtime is asked for a model in its format, and for no other."""
    monkeypatch.setitem(RUNTIMES, "halving", "tests.helpers.halving_runtime")
    directory = build(tmp_path / "model")

    assert ["tensorflow", "openvino"] == list(dict.fromkeys(engine.name for engine in open_engines(directory)))
    (directory / FILE).write_text('{"offset": 0}')
    assert "halving" == [engine.name for engine in open_engines(directory)][-1]


def test_a_contract_beside_the_graph_that_differs_is_refused(tmp_path: Path) -> None:
    """OpenVINO's `describe` answers with contract.json, which must be what the graph says."""
    directory = build(tmp_path / "model")
    path = directory / CONTRACT_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(CONTRACT.to_json().replace("green", "grape"))

    with pytest.raises(VerificationError, match="describe: expected the contract sha256:"):
        verify_alone(directory, CONTRACT)


def test_disagreement_with_the_trained_model_is_refused(tmp_path: Path, images: ColorSet) -> None:
    """A model that is right in itself but 2e-4 away from the trained one for one image is not published."""
    directory = build(tmp_path / "model")
    pixels, paths = pixels_of(images)
    expected = right_probabilities(np.stack([pixels[path] for path in paths]))
    expected[-1] += np.array([2e-4, -2e-4, 0], np.float32)

    with pytest.raises(VerificationError, match=r"at most 0\.0001 apart, .* Received: 2\.0"):
        verify(directory, CONTRACT, pixels, paths, expected)


@pytest.mark.parametrize("shape", [(8, 8, 3), (13, 21, 1), (2, 3, 3)])
def test_synthetic_images_are_varied_and_fixed(shape: tuple[int, int, int]) -> None:
    """Their bytes are the same for ever, and use the whole range."""
    spec = InputSpec(shape[0], shape[1], shape[2], "rgb" if shape[2] == 3 else "grey")

    first, second = build_synthetic_images(spec), build_synthetic_images(spec)

    assert (4, *shape) == first.shape
    assert np.array_equal(first, second)
    assert len({image.tobytes() for image in first}) == 4
    assert first.std() > 30


def test_synthetic_images_are_these() -> None:
    """A change of the formula would make every recorded probability worthless, so the first bytes are pinned."""
    image = build_synthetic_images(InputSpec(8, 8))[0]

    assert [[199, 11, 160], [136, 49, 90], [84, 37, 59], [50, 97, 5]] == image[0, :4].tolist()


@contextmanager
def published(tmp_path: Path, images: ColorSet) -> Iterator[tuple[ModelStore, list[str]]]:
    """A store with a verified version `eyes`/1 that a run on `images` made, and the flags that name it."""
    store, run = ModelStore(tmp_path / "models"), tmp_path / "runs/eyes/20260101T000000Z-cccccc"
    run.mkdir(parents=True)
    images.manifest.write(run / "manifest.csv")
    (run / "run.json").write_text(json.dumps({"location": str(images.folder)}))
    pixels, paths = pixels_of(images)
    expected = right_probabilities(np.stack([pixels[path] for path in paths]))
    with (run / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "predicted", *(f"probability_{label.id}" for label in LABELS)])
        writer.writerows([path, "", "", *map(str, row)] for path, row in zip(paths, expected, strict=True))
    with store.staging() as staging:
        build(staging)
        document = verify_alone(staging, CONTRACT).document()
        (staging / VERIFICATION_FILE).write_text(json.dumps(document))
        store.publish("eyes", staging)
    yield store, [f"--models-dir={tmp_path / 'models'}", f"--runs-dir={tmp_path / 'runs'}"]


def test_verify_command_compares_the_runs_images(
    tmp_path: Path, images: ColorSet, capsys: pytest.CaptureFixture[str]
) -> None:
    """Synthetic and test images agree with the recorded probabilities; nothing is rewritten."""
    with published(tmp_path, images) as (store, flags):
        before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*") if path.is_file()}
        assert 0 == main(["verify", "eyes/live", *flags])

    output = capsys.readouterr().out
    for engine in ("tensorflow", "openvino"):
        assert f"synthetic: 4 images on {engine} at float32, at most " in output
        assert f"test: 12 images on {engine} at float32, at most " in output
    assert "verified: eyes/1" == output.splitlines()[-1]
    assert before == {path: path.stat().st_mtime_ns for path in store.root.rglob("*") if path.is_file()}


def test_verify_command_without_data(tmp_path: Path, images: ColorSet, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the data is gone the synthetic images remain; --data says where it went; changed files are left out."""
    moved = ColorSet(tmp_path / "set", list(images.rows))
    shutil.copytree(images.folder, moved.folder)
    with published(tmp_path, moved) as (_, flags):
        elsewhere = moved.folder.rename(tmp_path / "elsewhere")
        assert 0 == main(["verify", "eyes", *flags])
        assert "name their folder with --data DIR" in capsys.readouterr().out
        (elsewhere / "test/red/000.png").write_bytes((elsewhere / "test/blue/000.png").read_bytes())
        assert 0 == main(["verify", "eyes", f"--data={elsewhere}", *flags])
        assert "test: 11 images" in (output := capsys.readouterr().out)
        assert "1 images are gone or have changed" in output
        shutil.rmtree(tmp_path / "runs")
        assert 0 == main(["verify", "eyes", *flags])
        assert "test: the run that made it is not recorded here" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["graph", "predictions"])
def test_verify_command_refuses_what_disagrees(
    tmp_path: Path, images: ColorSet, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A graph that was exchanged is seen on synthetic images, predictions that differ on the run's."""
    with published(tmp_path, images) as (store, flags):
        if where == "graph":
            path = store.version_path("eyes", 1) / "saved_model.pb"
            path.write_bytes(path.read_bytes().replace(KERNEL.tobytes(), (KERNEL * 1.1).tobytes()))
        else:
            (path,) = (tmp_path / "runs").glob("*/*/predictions.csv")
            lines = path.read_text().splitlines()
            path.write_text("\n".join([lines[0], lines[1].rsplit(",", 3)[0] + ",0.1,0.2,0.7", *lines[2:]]))
        assert 1 == main(["verify", "eyes/1", *flags])

    words = {"graph": "against the version's verification.json", "predictions": "against the run's predictions.csv"}
    assert words[where] in capsys.readouterr().err.splitlines()[-1]


def test_verify_of_nothing_is_refused(tmp_path: Path) -> None:
    """A version that does not exist cannot be verified."""
    with pytest.raises(StoreError, match="no model 'eyes'"):
        ModelStore(tmp_path).resolve("eyes")
