"""engine/runtimes/openvino.py: what it needs, what it reads, and what it leaves to TensorFlow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from contract.store import CONTRACT_FILE
from engine.engine import Engine
from engine.errors import ModelLoadError, RunError, UnreadableError
from engine.loading import list_precisions, load_engine
from engine.runtimes.openvino import select_faster
from tests.helpers.server_process import ROOT

RUN = """
import sys
from pathlib import Path
import numpy as np
connected = []
sys.addaudithook(lambda event, args: connected.append(event) if event == "socket.connect" else None)
from engine.errors import ModelLoadError
from engine.loading import load_engine
engine = load_engine(Path(sys.argv[1]), warm_up=True)
images = np.zeros((2, 16, 16, 3), np.uint8)
maps = engine.run("explain", {"images": images, "class_index": np.zeros(2, np.int32)})["saliency"]
print(engine.name, engine.precision, maps.shape)
print([name for name in sys.modules if "telemetry" in name or name.partition(".")[0] == "tensorflow"], connected)
try:
    load_engine(Path(sys.argv[2]))
except ModelLoadError as err:
    print(err.code, err)
"""


def test_no_tensorflow_is_needed(tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    """With the stubs alone, as in the image, a model loads and answers; another one says what is missing, and why."""
    packages = Path(next(path for path in sys.path if (Path(path) / "tensorflow/core").is_dir()))
    command = [sys.executable, "scripts/extract_stubs.py", "--packages", str(packages), "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    command = [sys.executable, "-c", RUN, str(tiny_models["plain"]), str(tiny_models["slow"])]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first == "openvino float32 (2, 4, 4)"
    assert second == "[] []"
    assert third.startswith(
        "UNIMPLEMENTED OpenVINO cannot read serving_default: No conversion rule found for operation"
    )
    assert "pip install 'fovea-serving[tensorflow]'" in third


def test_what_openvino_cannot_read_runs_on_tensorflow(
    tiny_models: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Such a model loads on TensorFlow and says so, unless OpenVINO was asked for."""
    engine = load_engine(tiny_models["slow"])
    try:
        assert engine.name == "tensorflow"
        assert "it runs on TensorFlow instead" in caplog.text
        assert engine.run("serving_default", {"images": np.zeros((1, 16, 16, 3), np.uint8)})["probabilities"].size == 3
    finally:
        engine.close()
    with pytest.raises(UnreadableError, match="operations: Timestamp"):
        load_engine(tiny_models["slow"], engine="openvino")


def test_texts_need_the_contract_or_tensorflow(tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    """OpenVINO computes no texts: without contract.json beside the graph it leaves `describe`, and so the model."""
    shutil.copytree(tiny_models["plain"], tmp_path / "model")
    (tmp_path / "model" / CONTRACT_FILE).unlink()
    with pytest.raises(UnreadableError, match="OpenVINO cannot read describe"):
        load_engine(tmp_path / "model", engine="openvino", warm_up=True)


def test_both_engines_give_the_same(engine: Engine, tiny_models: dict[str, Path]) -> None:
    """Every signature of one model, on OpenVINO and on TensorFlow."""
    other = load_engine(tiny_models["plain"], engine="tensorflow")
    try:
        images = np.random.default_rng(3).integers(0, 256, (5, 16, 16, 3), np.uint8)
        asked = {
            "serving_default": {"images": images},
            "explain": {"images": images, "class_index": np.array([-1, 0, 1, 2, -1], np.int32)},
            "describe": {"row": np.zeros(2, np.int32)},
        }
        for signature, inputs in asked.items():
            one, two = engine.run(signature, inputs), other.run(signature, inputs)
            assert one.keys() == two.keys()
            for name in one:
                assert (one[name].shape, one[name].dtype) == (two[name].shape, two[name].dtype)
                if one[name].dtype == np.object_:
                    assert one[name].tolist() == two[name].tolist()
                else:
                    np.testing.assert_allclose(one[name], two[name], rtol=0, atol=1e-6)
    finally:
        other.close()


def test_a_model_for_single_rows_gives_the_same(engine: Engine, tiny_models: dict[str, Path]) -> None:
    """One row and several: the same numbers as from the model that takes any batch; it holds nothing else."""
    single = load_engine(tiny_models["plain"], single_row=True, warm_up=True)
    try:
        assert list(single.signatures) == ["serving_default"]
        images = np.random.default_rng(5).integers(0, 256, (3, 16, 16, 3), np.uint8)
        for num_rows in (1, 3):
            asked = {"images": images[:num_rows]}
            one, two = single.run("serving_default", asked), engine.run("serving_default", asked)
            assert one.keys() == two.keys()
            for name in one:
                np.testing.assert_allclose(one[name], two[name], rtol=0, atol=1e-6)
    finally:
        single.close()


@pytest.mark.parametrize("kind", ["read-only", "not contiguous", "no rows"])
def test_arrays_of_any_kind_are_taken(engine: Engine, kind: str) -> None:
    """Arrays that share memory with other bytes, or with every second row of an array, are read right."""
    images = np.random.default_rng(4).integers(0, 256, (6, 16, 16, 3), np.uint8)
    given = {
        "read-only": np.frombuffer(images.tobytes(), np.uint8).reshape(images.shape),
        "not contiguous": np.repeat(images, 2, axis=0)[::2],
        "no rows": images[:0],
    }[kind]
    whole = engine.run("serving_default", {"images": images})["probabilities"]
    np.testing.assert_array_equal(
        engine.run("serving_default", {"images": given})["probabilities"], whole[: len(given)]
    )


@pytest.mark.parametrize("warm_up", [True, False], ids=["warm", "cold"])
def test_serving_default_is_compiled_ahead_and_explain_at_its_first_call(
    tmp_path: Path, tiny_models: dict[str, Path], warm_up: bool
) -> None:
    """A loaded model predicts without its files; its first explanation reads them, and says what fails."""
    directory = tmp_path / "model"
    shutil.copytree(tiny_models["plain"], directory)
    engine = load_engine(directory, warm_up=warm_up)
    try:
        shutil.rmtree(directory)
        images = np.zeros((1, 16, 16, 3), np.uint8)
        inputs = {"images": images, "class_index": np.zeros(1, np.int32)}
        assert engine.run("serving_default", {"images": images})["probabilities"].shape == (1, 3)
        with pytest.raises(RunError, match=r"there is no SavedModel: expected saved_model\.pb"):
            engine.run("explain", inputs)
        shutil.copytree(tiny_models["permuted"], directory)
        with pytest.raises(RunError, match=r"saved_model\.pb was replaced after the version was loaded"):
            engine.run("explain", inputs)
    finally:
        engine.close()


def test_only_what_the_machine_has_can_be_asked_for(tiny_models: dict[str, Path]) -> None:
    """An unknown engine, and a precision that is not in hardware, are refused with the choice there is."""
    with pytest.raises(ModelLoadError, match=r"expected one of auto, openvino, tensorflow. Received: torch"):
        load_engine(tiny_models["plain"], engine="torch")
    with pytest.raises(ModelLoadError, match=r"expected one of auto, float32.* with openvino on this machine"):
        load_engine(tiny_models["plain"], precision="int3")
    with pytest.raises(ModelLoadError, match=r"expected one of auto, float32 with tensorflow on this machine"):
        load_engine(tiny_models["plain"], engine="tensorflow", precision="bfloat16")
    for precision in ("bfloat16", "float16"):
        if precision in list_precisions("openvino"):
            engine = load_engine(tiny_models["plain"], precision=precision)
            assert engine.precision == precision
            engine.close()
        else:
            with pytest.raises(ModelLoadError, match=f"Received: {precision}"):
                load_engine(tiny_models["plain"], precision=precision)


@pytest.mark.parametrize(
    ("capabilities", "machine", "flags", "faster"),
    [
        pytest.param(["FP32", "INT8", "BIN"], "x86_64", {"avx2"}, (), id="AVX2"),
        pytest.param(["FP32", "BF16"], "x86_64", {"avx512_bf16"}, ("bfloat16",), id="AVX-512 with bfloat16"),
        pytest.param(["FP32", "FP16", "BF16"], "x86_64", {"amx_bf16", "avx512_fp16"}, ("bfloat16",), id="AMX"),
        pytest.param(["FP16", "BF16"], "x86_64", {"amx_bf16", "amx_fp16"}, ("bfloat16", "float16"), id="AMX-FP16"),
        pytest.param(["FP32", "FP16"], "aarch64", {"fphp", "asimdhp"}, ("float16",), id="Arm"),
    ],
)
def test_only_what_is_faster_is_offered(
    capabilities: list[str], machine: str, flags: set[str], faster: tuple[str, ...]
) -> None:
    """float16 in vector units alone, which the plugin offers too, is slower than float32 and not taken."""
    assert select_faster(capabilities, machine=machine, flags=flags) == faster


def test_this_machine_offers_what_it_offers() -> None:
    """float32 comes first; what follows is each a precision that a model can be loaded at."""
    first, *others = list_precisions("openvino")
    assert first == "float32"
    assert set(others) <= {"bfloat16", "float16"}
