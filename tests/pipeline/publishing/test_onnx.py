"""`import` of ONNX files as PyTorch writes them, against PyTorch's own answers (tests/fixtures/onnx)."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from contract.store import NETWORK_FILE, VERIFICATION_FILE, ModelStore
from engine.errors import ModelLoadError
from engine.loading import load_engine
from pipeline.__main__ import main
from tests.docs.blocks import DOCS, read_blocks
from tests.helpers.foreign_models import write_model
from tests.helpers.model_client import ModelClient
from tests.helpers.server_process import start_server

FILES = Path(__file__).parents[2] / "fixtures" / "onnx"
ANSWERS = np.load(FILES / "answers.npz")
IMAGES: NDArray[np.uint8] = ANSWERS["images"]
LOGITS_FLAGS = ("--preprocessing=torch", "--softmax")


def expected() -> NDArray[np.float64]:
    exponents = np.exp(ANSWERS["logits"].astype(np.float64))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def import_file(store: ModelStore, path: Path, *flags: str, name: str = "pets") -> int:
    folders = [f"--models-dir={store.root}", f"--runs-dir={store.root.parent / 'runs'}"]
    return main(["import", str(path), f"--name={name}", *folders, *flags])


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def imported(store: ModelStore) -> ModelStore:
    """A store whose only version is an ONNX model."""
    assert 0 == import_file(store, FILES / "free.onnx", *LOGITS_FLAGS)
    return store


@pytest.mark.parametrize(
    ("file", "flags", "tolerance"),
    [
        pytest.param("free.onnx", LOGITS_FLAGS, 1e-6, id="dynamic batch"),
        pytest.param("fixed.onnx", LOGITS_FLAGS, 1e-6, id="batch of one"),
        pytest.param("dynamo.onnx", LOGITS_FLAGS, 1e-6, id="weights in a file beside it"),
        pytest.param("softmax.onnx", LOGITS_FLAGS[:1], 1e-6, id="probabilities"),
        pytest.param("half.onnx", LOGITS_FLAGS, 5e-3, id="float16"),
    ],
)
def test_probabilities_are_those_of_pytorch(
    store: ModelStore, file: str, flags: tuple[str, ...], tolerance: float
) -> None:
    """Pixels of 0-255 go in, channels last; scaling, order of axes and softmax are inside."""
    assert 0 == import_file(store, FILES / file, *flags)

    engine = load_engine(store.version_path("pets", 1), warm_up=True, precision="float32")
    try:
        received = engine.run("serving_default", {"images": IMAGES})["probabilities"]
    finally:
        engine.close()
    assert np.abs(expected() - received).max() < tolerance


def without_its_weights(folder: Path) -> Path:
    return shutil.copy(FILES / "dynamo.onnx", folder)


def cut(folder: Path) -> Path:
    path = folder / "cut.onnx"
    path.write_bytes((FILES / "free.onnx").read_bytes()[:3000])
    return path


@pytest.mark.parametrize(
    ("find", "flags", "words"),
    [
        (
            lambda _: FILES / "view.onnx",
            LOGITS_FLAGS,
            "scores: expected a free batch axis. Received: shape [1,3]; export",
        ),
        (lambda _: FILES / "two.onnx", LOGITS_FLAGS, "two.onnx: expected one output. Received: scores, softmax"),
        (lambda _: FILES / "free.onnx", (), "if the model gives logits, say --softmax"),
        (lambda _: FILES / "softmax.onnx", LOGITS_FLAGS, "leave --softmax out"),
        (lambda _: FILES / "free.onnx", ("--input-size=8x8",), "pixels: the model takes 32 x 40 pixels"),
        (without_its_weights, LOGITS_FLAGS, "dynamo.onnx: OpenVINO cannot read it"),
        (cut, LOGITS_FLAGS, "cut.onnx: OpenVINO cannot read it"),
    ],
)
def test_what_cannot_be_served_is_refused(
    store: ModelStore,
    tmp_path: Path,
    find: Callable[[Path], Path],
    flags: tuple[str, ...],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the reason; nothing is published."""
    assert 1 == import_file(store, find(tmp_path), *flags)

    assert words in capsys.readouterr().err.splitlines()[-1]
    assert () == store.read_versions("pets")


def test_tensorflow_serving_is_not_told_of_it(imported: ModelStore, tmp_path: Path) -> None:
    """It has a list of its own beside models.config, by which one model may have versions of both kinds."""
    write_model(tmp_path / "saved")
    assert 0 == import_file(imported, tmp_path / "saved", "--preprocessing=unit", name="others")
    first, second = (imported.root / name for name in ("models.config", "models.openvino.config"))

    assert ("others" in first.read_text(), "pets" in first.read_text()) == (True, False)
    assert ("others" in second.read_text(), "pets" in second.read_text()) == (False, True)

    assert 0 == import_file(imported, tmp_path / "saved", "--preprocessing=unit")
    assert ("versions: 2 " in first.read_text(), "versions: 1 " in second.read_text()) == (True, True)


def test_the_model_server_serves_it_beside_saved_models(imported: ModelStore, tmp_path: Path) -> None:
    """A version that comes while the server runs is loaded, too."""
    server = start_server(imported, tmp_path / "log")
    try:
        with ModelClient(server.address) as client:
            client.wait_for("pets", 1)
            received = client.predict("pets", {"images": IMAGES})["probabilities"]
            assert 0 == import_file(imported, FILES / "softmax.onnx", "--preprocessing=torch")
            client.wait_for("pets", 2)
            write_model(tmp_path / "saved")
            assert 0 == import_file(imported, tmp_path / "saved", "--preprocessing=unit", name="others")
            client.wait_for("others", 1)
            assert {1, 2} == set(client.states("pets"))
    finally:
        server.stop()
    assert np.abs(expected() - received).max() < 0.02


def test_changed_weights_are_not_served(imported: ModelStore) -> None:
    """verification.json has the hashes of both files."""
    directory = imported.version_path("pets", 1)
    weights = (directory / NETWORK_FILE).with_suffix(".bin")
    hashes = json.loads((directory / VERIFICATION_FILE).read_text())["network"]["sha256"]
    assert {"model.xml", "model.bin"} == set(hashes)

    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")

    with pytest.raises(ModelLoadError, match=r"the network is not the one that was verified: model\.bin"):
        load_engine(directory)


def test_a_version_from_another_store_is_taken_as_it_is(imported: ModelStore, tmp_path: Path) -> None:
    """Its folder, contract included."""
    other = ModelStore(tmp_path / "other")
    folder = shutil.copytree(imported.version_path("pets", 1), tmp_path / "from-elsewhere")

    assert 0 == import_file(other, folder, name="again")

    assert imported.read_contract("pets", 1).sha256 == other.read_contract("again", 1).sha256
    assert 1 == import_file(other, folder, "--softmax", name="again")


def test_commands_of_the_store_take_it(
    imported: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`verify` and `score` run it; `show`, which draws by TensorFlow, says why it does not."""
    (tmp_path / "pictures").mkdir()
    for i, pixels in enumerate(IMAGES):
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    models = f"--models-dir={imported.root}"

    assert 0 == main(["verify", "pets", models, f"--runs-dir={tmp_path / 'runs'}"])
    table = tmp_path / "scores.csv"
    assert 0 == main(["score", "pets", str(tmp_path / "pictures"), f"--out={table}", models, "--precision=float32"])
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    assert np.abs(expected() - np.array([row[4:7] for row in rows], float)).max() < 1e-6

    assert 1 == main(["show", str(tmp_path / "pictures/0.png"), "--model=pets", models, f"--out={tmp_path / 'x.html'}"])
    assert "pets/1 came from an ONNX file" in capsys.readouterr().err.splitlines()[-1]


def test_the_command_of_versions_md(store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of torchvision's preprocessing that gives logits."""
    (block,) = [block for block in read_blocks(DOCS / "versions.md") if block.elsewhere == Path(__file__)]
    shutil.copy(FILES / "free.onnx", tmp_path / "resnet18.onnx")
    (tmp_path / "labels.txt").write_text("cat\ndog\nhorse\n")
    monkeypatch.chdir(tmp_path)

    assert 0 == main(shlex.split(block.text)[3:])

    assert ["cat", "dog", "horse"] == [label.name for label in store.read_contract("pets", 1).labels]
