"""A real SavedModel runs as its signatures say."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from contract.store import WARMUP_FILE
from engine.engine import Engine
from engine.errors import InputError, ModelLoadError, SignatureError
from engine.loading import load_engine, run_warmup_records
from engine.warmup import build_warmup_request, read_warmup_records, write_warmup_records
from tests.helpers.tiny_model import VARIANTS, build_contract, build_image, expected_probabilities

LABELS = VARIANTS["plain"].labels


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_every_signature_runs_at_every_batch_size(engine: Engine, batch: int) -> None:
    """`serving_default`, `explain` and `describe` answer one row for each row that is asked."""
    images = np.random.default_rng(batch).integers(0, 256, (batch, 16, 16, 3), dtype=np.uint8)
    expected = expected_probabilities(images, LABELS)
    probabilities = engine.run("serving_default", {"images": images})["probabilities"]
    explained = engine.run("explain", {"images": images, "class_index": np.full(batch, 1, np.int32)})
    described = engine.run("describe", {"row": np.zeros(batch, np.int32)})["contract"]
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(explained["probabilities"], expected, atol=1e-5)
    assert explained["saliency"].shape == (batch, 4, 4)
    assert described.tolist() == [build_contract(VARIANTS["plain"]).to_json().encode()] * batch


def test_name_and_precision_are_stated(engine: Engine) -> None:
    """An engine says which runtime it is and how precisely it computes."""
    assert (engine.name, engine.precision) == ("openvino", "float32")


def test_parallel_runs_do_not_mix(engine: Engine) -> None:
    """Runs on several threads each get the answer to their own image."""
    colours = ["red", "green", "blue"] * 20

    def predicted(colour: str) -> str:
        row = engine.run("serving_default", {"images": build_image(colour, 16)[None]})["probabilities"][0]
        return LABELS[int(row.argmax())]

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(predicted, colours)) == colours


@pytest.mark.parametrize(
    ("signature", "inputs", "outputs", "error", "text"),
    [
        pytest.param("nothing", {}, None, SignatureError, 'Serving signature key "nothing" not found.', id="signature"),
        pytest.param("describe", {}, None, InputError, "input size does not match signature: 0!=1", id="no input"),
        pytest.param("describe", {"row": np.zeros(1, np.float32)}, None, InputError, "Expects arg", id="dtype"),
        pytest.param("describe", {"row": np.zeros(1, np.complex64)}, None, InputError, "invalid is", id="odd dtype"),
        pytest.param("describe", {"row": np.zeros((1, 1), np.int32)}, None, InputError, "expected shape", id="shape"),
        pytest.param("describe", {"row": np.zeros(1, np.int32)}, ["x"], InputError, "alias not found", id="output"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_runs(
    engine: Engine, signature: str, inputs: dict, outputs: list | None, error: type[Exception], text: str
) -> None:
    """A wrong name, dtype, shape or output is an error that says so."""
    with pytest.raises(error, match=text):
        engine.run(signature, inputs, outputs)


def test_wrong_batches_name_both(engine: Engine) -> None:
    """Inputs with different numbers of rows are refused with both numbers."""
    inputs = {"images": np.zeros((2, 16, 16, 3), np.uint8), "class_index": np.zeros(3, np.int32)}
    with pytest.raises(InputError, match=r"expected equal sizes. Received: class_index 3, images 2"):
        engine.run("explain", inputs)


@pytest.mark.parametrize("damage", ["missing", "corrupt graph", "truncated weights", "empty graph"])
def test_a_damaged_model_is_a_load_error(tmp_path: Path, tiny_models: dict[str, Path], damage: str) -> None:
    """A SavedModel that is missing or damaged raises ModelLoadError, not the runtime's own error."""
    directory = tmp_path / "model"
    shutil.copytree(tiny_models["plain"], directory)
    if damage == "missing":
        (directory / "saved_model.pb").unlink()
    elif damage == "corrupt graph":
        (directory / "saved_model.pb").write_bytes(b"\xff" * 100)
    elif damage == "empty graph":
        (directory / "saved_model.pb").write_bytes(b"")
    else:
        weights = next((directory / "variables").glob("variables.data*"))
        weights.write_bytes(weights.read_bytes()[:3])
    with pytest.raises(ModelLoadError):
        load_engine(directory)


def test_a_failing_warmup_record_fails_the_load(tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    """A model whose warm-up record does not fit it is not loaded."""
    directory = tmp_path / "model"
    shutil.copytree(tiny_models["plain"], directory)
    bad = build_warmup_request("serving_default", {"images": np.zeros((1, 3, 3, 3), np.uint8)})
    write_warmup_records(directory / "assets.extra" / "tf_serving_warmup_requests", [bad])
    with pytest.raises(ModelLoadError, match="warmup record 1 failed: images: expected shape"):
        load_engine(directory, warm_up=True)
    load_engine(directory, warm_up=False).close()


def test_warmup_runs_records(engine: Engine, tiny_models: dict[str, Path]) -> None:
    """The record of `serving_default` runs, that of `explain`, which is compiled at its first call, does not."""
    requests = read_warmup_records(tiny_models["plain"] / WARMUP_FILE)
    assert [request.model_spec.signature_name for request in requests] == ["serving_default", "explain"]
    assert run_warmup_records(engine, tiny_models["plain"]) == 1
    assert run_warmup_records(engine, tiny_models["plain"].parent) == 0
