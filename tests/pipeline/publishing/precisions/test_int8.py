"""pipeline/publishing/precisions/int8.py: an int8 model beside a SavedModel, and what the engine makes of it."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from contract.model import InputSpec
from contract.store import INT8_FILE, VERIFICATION_FILE
from engine.errors import ModelLoadError
from engine.loading import allowed_precisions, load_engine
from engine.precision_names import INT8
from pipeline.data.folder_source import FolderSource
from pipeline.data.pixels import Pixels
from pipeline.errors import QuantizationError
from pipeline.publishing.precisions.int8 import (
    NUM_CALIBRATION,
    Int8Images,
    can_quantize,
    choose_int8_images,
    int8_document,
    quantize,
    quantize_partly,
    remove_int8,
)
from tests.helpers.tiny_model import build_image

PATHS = [f"{colour}/{strength}.png" for colour in ("red", "green", "blue") for strength in range(100, 250, 10)]

needs_nncf = pytest.mark.skipif(not can_quantize(), reason="NNCF is not installed: pip install 'fovea-serving[int8]'")


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Pixels:
    """Pictures of one colour each, as the tiny model expects them."""
    folder = tmp_path_factory.mktemp("pictures")
    for path in PATHS:
        colour, name = path.split("/")
        (folder / colour).mkdir(exist_ok=True)
        Image.fromarray(build_image(colour, 16, strength=int(name.removesuffix(".png")))).save(folder / path)
    return Pixels(FolderSource(folder), InputSpec(16, 16))


@pytest.fixture(scope="module")
def quantised(pixels: Pixels, tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny model with an int8 model beside it."""
    if not can_quantize():
        pytest.skip("NNCF is not installed")
    directory = tmp_path_factory.mktemp("quantised") / "1"
    shutil.copytree(tiny_models["plain"], directory)
    quantize(directory, pixels, PATHS)
    return directory


def write_verification(directory: Path, *, equivalent: bool = True) -> None:
    """Write the file that allows int8."""
    verdict = {"engine": "openvino", "precision": INT8, "equivalent": equivalent}
    document = {"format": 1, "deviations": [], "equivalences": [verdict], **int8_document(directory)}
    (directory / VERIFICATION_FILE).write_text(json.dumps(document))


def test_the_int8_model_answers_nearly_the_same(quantised: Path, pixels: Pixels) -> None:
    """The same port names, another arithmetic; `explain` is there too."""
    images = pixels.batch(PATHS)
    with_float32 = load_engine(quantised, engine="openvino", precision="float32")
    with_int8 = load_engine(quantised, engine="openvino", precision=INT8)
    expected = with_float32.run("serving_default", {"images": images})["probabilities"]
    received = with_int8.run("serving_default", {"images": images})["probabilities"]
    explained = with_int8.run("explain", {"images": images[:2], "class_index": np.full(2, -1, np.int32)})
    assert with_int8.precision == INT8
    assert 0 < np.abs(received - expected).max() < 0.2
    assert (received.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert explained["saliency"].shape == (2, 4, 4)
    with_int8.close()
    with_float32.close()


def test_the_savedmodel_stays_as_it_was(quantised: Path, tiny_models: dict[str, Path]) -> None:
    """TensorFlow Serving reads the same bytes."""
    for path in tiny_models["plain"].rglob("*"):
        if path.is_file():
            assert (quantised / path.relative_to(tiny_models["plain"])).read_bytes() == path.read_bytes()


def test_int8_is_allowed_by_its_verdict_alone(quantised: Path, tmp_path: Path) -> None:
    """A server may choose it where verification.json says so; `auto` of the engine never takes it unmeasured."""
    directory = tmp_path / "1"
    shutil.copytree(quantised, directory)
    assert allowed_precisions(directory, "openvino") == ("float32",)
    write_verification(directory)
    assert allowed_precisions(directory, "openvino") == ("float32", INT8)
    assert load_engine(directory, engine="openvino").precision == "float32"
    write_verification(directory, equivalent=False)
    assert allowed_precisions(directory, "openvino") == ("float32",)


def test_changed_files_are_refused(quantised: Path, tmp_path: Path) -> None:
    """One flipped byte of the weights, as a disk or a person leaves it."""
    directory = tmp_path / "1"
    shutil.copytree(quantised, directory)
    write_verification(directory)
    load_engine(directory, engine="openvino", precision=INT8).close()
    weights = (directory / INT8_FILE).with_suffix(".bin")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelLoadError, match=r"not the one that was verified: int8\.bin has another SHA-256"):
        load_engine(directory, engine="openvino", precision=INT8)
    weights.unlink()
    with pytest.raises(ModelLoadError, match="the int8 model cannot be checked"):
        load_engine(directory, engine="openvino", precision=INT8)


def test_a_version_without_an_int8_model_says_so(tiny_models: dict[str, Path]) -> None:
    """`--precision int8` of a version that has none."""
    with pytest.raises(ModelLoadError, match="Received: int8; the version has no int8 model"):
        load_engine(tiny_models["plain"], engine="openvino", precision=INT8)


def test_without_nncf_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, pixels: Pixels, tiny_models: dict[str, Path]
) -> None:
    """The package is an extra; nothing is written without it."""
    monkeypatch.setattr("pipeline.publishing.precisions.int8.can_quantize", lambda: False)
    with pytest.raises(QuantizationError, match=r"which is not installed: pip install 'fovea-serving\[int8\]'"):
        quantize(tiny_models["plain"], pixels, PATHS)
    assert not (tiny_models["plain"] / INT8_FILE).exists()


@needs_nncf
def test_a_network_that_cannot_be_quantised_leaves_nothing(pixels: Pixels, tmp_path: Path) -> None:
    """A folder without a model: the reason in one line, no file."""
    with pytest.raises(QuantizationError, match="the network cannot be quantised: "):
        quantize(tmp_path, pixels, PATHS)
    assert list(tmp_path.iterdir()) == []


@needs_nncf
def test_the_package_that_reports_usage_is_never_imported(quantised: Path) -> None:
    """NNCF would send events with openvino-telemetry."""
    assert "openvino_telemetry" not in sys.modules


def check_signals() -> None:
    """A signal is handled: the stack that OpenVINO gives a thread for it may be freed by then."""
    received: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: received.append(number))
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert received == [signal.SIGUSR1]


@needs_nncf
def test_layers_that_hurt_stay_in_floating_point(quantised: Path, pixels: Pixels, tmp_path: Path) -> None:
    """With a tolerance that the plain model does not keep: it names the layers, and the new model moves less."""
    directory = tmp_path / "1"
    shutil.copytree(quantised, directory)
    images = pixels.batch(PATHS[1::2])
    before = run_at(directory, INT8, images)
    layers = quantize_partly(
        directory, pixels, Int8Images(tuple(PATHS[::2]), tuple(PATHS[1::2])), tolerance=1e-4, budget_s=600
    )
    expected, after = run_at(directory, "float32", images), run_at(directory, INT8, images)
    assert layers
    assert np.abs(after - expected).max() < np.abs(before - expected).max()
    assert int8_document(directory, layers)["int8"]["floating_point"] == list(layers)
    check_signals()


@needs_nncf
def test_a_search_without_time_leaves_no_model(quantised: Path, pixels: Pixels, tmp_path: Path) -> None:
    """The budget is over before the layers are ranked: the reason names it, the SavedModel stays."""
    directory = tmp_path / "1"
    shutil.copytree(quantised, directory)
    images = Int8Images(tuple(PATHS[::2]), tuple(PATHS[1::2]))
    with pytest.raises(QuantizationError, match="was stopped after 0 s"):
        quantize_partly(directory, pixels, images, tolerance=1e-4, budget_s=0.0)
    assert not (directory / INT8_FILE).parent.exists()
    run_at(directory, "float32", pixels.batch(PATHS[:1]))


def run_at(directory: Path, precision: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the probabilities of images."""
    engine = load_engine(directory, engine="openvino", precision=precision)
    try:
        return np.array(engine.run("serving_default", {"images": images})["probabilities"])
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        pytest.param(1000, (64, 128), id="enough for all"),
        pytest.param(299 + 64 + 64, (64, 64), id="fewer to tune by"),
        pytest.param(299 + 64 + 32, (64, 32), id="the fewest to tune by"),
        pytest.param(299 + 64 + 31, (64, 0), id="none to tune by"),
        pytest.param(299 + 64, (64, 0), id="just enough to judge by"),
        pytest.param(299 + 63, (0, 0), id="too few"),
        pytest.param(0, (0, 0), id="none"),
    ],
)
def test_what_makes_the_model_leaves_enough_to_judge_by(images: int, expected: tuple[int, int]) -> None:
    """No image does two of the three; the same seed chooses the same images."""
    paths = [f"{i:04}" for i in range(images)]

    def choose(seed: int) -> Int8Images:
        return choose_int8_images(paths, seed=seed, is_enough=lambda used: len({*paths} - {*used}) >= 299)

    chosen = choose(3)
    assert (len(chosen.calibration), len(chosen.tuning)) == expected
    assert not {*chosen.calibration} & {*chosen.tuning}
    assert len({*chosen.calibration}) in (0, NUM_CALIBRATION)
    assert chosen == choose(3)
    assert chosen == Int8Images() or chosen != choose(4)


def test_the_int8_model_is_removed_whole(quantised: Path, tmp_path: Path) -> None:
    """What did not prove equivalent takes no room in the store."""
    directory = tmp_path / "1"
    shutil.copytree(quantised, directory)
    remove_int8(directory)
    assert not (directory / INT8_FILE).parent.exists()
    assert int8_document(directory) == {}
    remove_int8(directory)


@needs_nncf
@pytest.mark.slow
def test_a_version_with_int8_takes_less_than_half_as_much_again(tmp_path: Path) -> None:
    """At most 1.45 times the weights, of a network with many small layers."""
    from benchmarks.workload.versions import NETWORKS, write_version

    side, channels, _ = NETWORKS["MobileNetV2"]
    sizes = write_version("MobileNetV2", tmp_path / "1")
    paths = [f"{i}.png" for i in range(4)]
    rng = np.random.default_rng(7)
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (side, side, channels), np.uint8)).save(tmp_path / path)
    quantize(tmp_path / "1", Pixels(FolderSource(tmp_path), InputSpec(side, side)), paths)
    files = (path for path in (tmp_path / "1").rglob("*") if path.is_file())
    assert sizes["weights"] < sum(path.stat().st_size for path in files) <= 1.45 * sizes["weights"]
