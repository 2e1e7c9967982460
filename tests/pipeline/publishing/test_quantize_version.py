"""`quantize`: a version published again with an int8 model, by pictures of its own kind, with and without labels."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contract.store import INT8_FILE, VERIFICATION_FILE, ModelStore
from engine.loading import allowed_precisions, list_precisions, load_engine
from engine.precision_names import INT8
from pipeline.__main__ import main
from pipeline.publishing.precisions.int8 import can_quantize, int8_packages
from pipeline.publishing.precisions.quantized import find_quantized
from tests.helpers.judged_model import make_judged
from tests.helpers.tiny_model import MODEL_NAME, build_image, publish_variant

pytestmark = pytest.mark.skipif(not can_quantize(), reason="NNCF is not installed: pip install 'fovea-serving[int8]'")

LEAST = 363
COLOURS = ("red", "green", "blue")


def write_pictures(folder: Path, number: int, *, clear: bool = True) -> Path:
    """Write different pictures into a folder for each colour; those that are not clear lie between two classes."""
    rng = np.random.default_rng(7)
    for i in range(number):
        colour = COLOURS[i % 3]
        pixels = build_image(colour, 16, strength=int(rng.integers(190, 250)))
        if not clear:
            pixels[..., (i + 1) % 3] = pixels[..., i % 3]
        pixels[0, 0] = (i % 256, i // 256, 9)
        (folder / colour).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / colour / f"{i:04}.png")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As few as will do."""
    return write_pictures(tmp_path_factory.mktemp("pictures"), LEAST)


@pytest.fixture
def store(tmp_path: Path, tiny_models: dict[str, Path]) -> ModelStore:
    """One live version that nothing is known of but its contract, as `import` leaves it."""
    store = ModelStore(tmp_path / "models")
    publish_variant(store, tiny_models["plain"])
    return store


def quantize(store: ModelStore, *arguments: str | Path) -> int:
    folders = ("--models-dir", store.root, "--runs-dir", store.root.parent / "runs")
    return main(["quantize", *map(str, (*arguments, *folders))])


def verdict(store: ModelStore, version: int) -> dict[str, Any]:
    """Return the verdict on int8."""
    document = json.loads((store.version_path(MODEL_NAME, version) / VERIFICATION_FILE).read_text())
    found: dict[str, Any] = next(item for item in document["equivalences"] if item["precision"] == INT8)
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pictures_without_labels_judge_by_float32(
    store: ModelStore, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next version has the same SavedModel and an int8 model; the first is as it was, and the words say by what."""
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in pictures.rglob("*.png"):
        (flat / path.name).write_bytes(path.read_bytes())
    before = files_of(store.version_path(MODEL_NAME, 1))
    assert quantize(store, MODEL_NAME, "--images", flat) == 0
    printed = capsys.readouterr().out
    after = files_of(store.version_path(MODEL_NAME, 2))
    assert store.read_index()[MODEL_NAME].live == 2
    assert files_of(store.version_path(MODEL_NAME, 1)) == before
    assert {name: after[name] for name in before} == before
    assert "judged without labels" in printed
    assert "gate: passed; the network of live version 1" in printed
    found = verdict(store, 2)
    assert (found["equivalent"], found["labelled"], found["images"]) == (True, False, 299)
    assert found["divergence_bound"] < 0.01
    assert found["log_loss_rise_bound"] is None
    assert INT8 in allowed_precisions(store.version_path(MODEL_NAME, 2), "openvino")


def test_folders_of_classes_are_labels(store: ModelStore, pictures: Path) -> None:
    """Log loss and metric are judged too; outputs of synthetic pictures are kept, and the engine's are the same."""
    assert quantize(store, MODEL_NAME, "--images", pictures) == 0
    found = verdict(store, 2)
    assert (found["labelled"], found["validation_images"], found["metric"]) == (True, 299, "balanced_accuracy")
    directory = store.version_path(MODEL_NAME, 2)
    document = json.loads((directory / VERIFICATION_FILE).read_text())
    kept = next(item for item in document["synthetic"]["precisions"] if item["precision"] == INT8)
    assert (kept["bound"], np.shape(kept["probabilities"])) == (0.02, (4, 3))
    assert document["copy_of"] == 1
    load_engine(directory, engine="openvino", precision=INT8).close()


def test_a_version_that_is_there_already_is_not_published_again(
    store: ModelStore, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the same pictures or a run's images, from the copy or its origin: the words say which version has it."""
    assert quantize(store, MODEL_NAME, "--images", pictures) == 0
    before = files_of(store.root)
    for arguments, what in (
        ((f"{MODEL_NAME}/1", "--images", pictures), "that"),
        ((f"{MODEL_NAME}/2", "--images", pictures), "that"),
        ((f"{MODEL_NAME}/1",), "an"),
        ((MODEL_NAME,), "an"),
    ):
        capsys.readouterr()
        assert quantize(store, *arguments) == 0
        said = f"nothing was published: {MODEL_NAME}/2 has {what} int8 model already, and it is equivalent to float32"
        assert capsys.readouterr().out.splitlines()[-1] == said
        assert files_of(store.root) == before


@pytest.mark.parametrize("fault", ["another release", "damaged", "not judged", "not equivalent"])
def test_a_model_that_is_not_current_is_made_again(store: ModelStore, tiny_models: dict[str, Path], fault: str) -> None:
    """An int8 model of another NNCF, one with a changed file, and one that lacks a verdict are not taken for it."""
    directory = store.version_path(MODEL_NAME, 1)
    shutil.rmtree(directory)
    make_judged(tiny_models["plain"], directory)
    document = json.loads((directory / VERIFICATION_FILE).read_text())
    document["int8"] |= int8_packages()
    judged = [{"engine": "openvino", "precision": name, "equivalent": True} for name in list_precisions("openvino")[1:]]
    document["equivalences"] += judged
    (directory / VERIFICATION_FILE).write_text(json.dumps(document))
    assert find_quantized(store, MODEL_NAME, 1) == 1
    if fault == "another release":
        document["int8"]["nncf"] = "1.0"
    elif fault == "damaged":
        (directory / INT8_FILE).write_text("")
    elif fault == "not judged":
        document["equivalences"] = judged
    else:
        document["equivalences"][0]["equivalent"] = False
    (directory / VERIFICATION_FILE).write_text(json.dumps(document))
    assert find_quantized(store, MODEL_NAME, 1) is None


@pytest.mark.slow
def test_a_version_that_is_not_live_leaves_a_candidate(
    store: ModelStore, pictures: Path, tiny_models: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The gate says why; nothing that serves changes."""
    publish_variant(store, tiny_models["permuted"])
    assert quantize(store, f"{MODEL_NAME}/1", "--images", pictures, "--minutes", "0") == 0
    assert (store.read_index()[MODEL_NAME].live, store.read_index()[MODEL_NAME].candidate) == (2, 3)
    assert "the network of version 1, which is not live" in capsys.readouterr().out


def test_what_is_not_equivalent_is_not_published(
    store: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures at the border between two classes: the reason says which condition fails, nothing is left."""
    unclear = write_pictures(tmp_path / "unclear", LEAST, clear=False)
    assert quantize(store, MODEL_NAME, "--images", unclear, "--minutes", "0") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: nothing was published: {MODEL_NAME}/1 stays with float32")
    assert "int8 is not equivalent to float32: " in error
    assert store.read_versions(MODEL_NAME) == (1,)
    assert list((store.root / ".staging").iterdir()) == []


def test_too_few_pictures_are_counted(
    store: ModelStore, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy and a file that is no picture do not count; the limit and the number are in the error."""
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(pictures.rglob("*.png"))[1:]:
        (few / path.name).write_bytes(path.read_bytes())
    (few / "copy.png").write_bytes((few / "0003.png").read_bytes())
    (few / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert quantize(store, MODEL_NAME, "--images", few) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "expected at least 363 images, 64 to calibrate int8 and 299 others to judge it. Received: 362" in error


def test_what_is_missing_is_named(store: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No run and no pictures, an unknown model, a folder that is not there, a folder without pictures."""
    (tmp_path / "empty").mkdir()
    for arguments, reason in (
        ((MODEL_NAME,), "no run of it is recorded in"),
        (("eyes",), "eyes"),
        ((MODEL_NAME, "--images", tmp_path / "gone"), "Received: no such file or folder"),
        ((MODEL_NAME, "--images", tmp_path / "empty"), "Received: 0 that can be read"),
    ):
        assert quantize(store, *arguments) == 1
        assert reason in capsys.readouterr().err.splitlines()[-1]
    assert store.read_versions(MODEL_NAME) == (1,)


def test_without_nncf_the_command_says_how_to_install_it(
    store: ModelStore, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any picture is read."""
    monkeypatch.setattr("pipeline.publishing.precisions.int8.can_quantize", lambda: False)
    assert quantize(store, MODEL_NAME, "--images", pictures) == 1
    assert "pip install 'fovea-serving[int8]'" in capsys.readouterr().err.splitlines()[-1]


_STOPS_AFTER_INT8 = """
import sys
from pipeline.__main__ import main
from pipeline.publishing.precisions.judge import PrecisionJudge

make = PrecisionJudge.make_int8


def make_and_wait(self, directory):
    make(self, directory)
    print("made", flush=True)
    sys.stdin.read()


PrecisionJudge.make_int8 = make_and_wait
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_killed_with_a_model_half_published(store: ModelStore, pictures: Path, tmp_path: Path) -> None:
    """Killed when the int8 model is written: versions and index are as before, and the next writer clears the rest."""
    before = files_of(store.root / MODEL_NAME), (store.root / "index.json").read_bytes()
    folders = ["--models-dir", str(store.root), "--runs-dir", str(tmp_path / "runs")]
    command = [sys.executable, "-c", _STOPS_AFTER_INT8, "quantize", MODEL_NAME, "--images", str(pictures), *folders]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        assert list((store.root / ".staging").glob(f"*/{INT8_FILE}"))
        process.kill()
    assert (files_of(store.root / MODEL_NAME), (store.root / "index.json").read_bytes()) == before
    with store.staging() as directory:
        assert list((store.root / ".staging").iterdir()) == [directory]
