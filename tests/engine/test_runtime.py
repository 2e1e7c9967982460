"""engine/runtime.py: which runtimes there are, and which of them loads a model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ModelLoadError, UnreadableError
from engine.loading import import_runtime, list_precisions, load_engine
from engine.runtime import RUNTIMES, engine_names, find_runtimes, preferred_runtime, reference_runtime
from tests.helpers.halving_runtime import FILE
from tests.helpers.server_process import ROOT


@pytest.fixture
def third(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A third runtime is registered; returns a model of it."""
    monkeypatch.setitem(RUNTIMES, "halving", "tests.helpers.halving_runtime")
    model = tmp_path / "model"
    model.mkdir()
    (model / FILE).write_text('{"offset": 2}')
    return model


def test_importing_the_registry_imports_no_runtime() -> None:
    """Naming the runtimes imports neither their packages nor numpy; asking for them imports no package."""
    code = (
        "import sys; import engine.runtime as r; names = r.engine_names();"
        "print([n for n in ('openvino', 'tensorflow', 'numpy') if n in sys.modules]);"
        "print([runtime.name for runtime in r.find_runtimes()]);"
        "print('openvino' in sys.modules, hasattr(sys.modules.get('tensorflow'), 'compat'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (["[]", "['openvino', 'tensorflow']", "False False"]) == done.stdout.splitlines(), done.stderr


def test_the_preferred_and_the_reference() -> None:
    """OpenVINO is asked first; the others are compared with TensorFlow."""
    assert ("openvino", "tensorflow") == (preferred_runtime().name, reference_runtime().name)
    assert ("auto", "openvino", "tensorflow") == engine_names()


def test_every_runtime_answers_for_its_name() -> None:
    """An entry's module has a runtime of that name, whose first precision is float32."""
    for name in RUNTIMES:
        (runtime,) = find_runtimes(name)
        assert (name, "float32") == (runtime.name, list_precisions(name)[0])


def test_a_full_collection_does_not_look_at_tensorflow() -> None:
    """Unloading a model on TensorFlow needs one; every thread waits for it."""
    code = (
        "import gc\nfrom engine.runtimes.tensorflow import import_tensorflow\nimport_tensorflow()\n"
        "print(len(gc.get_objects()) < gc.get_freeze_count() / 10)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)

    assert "True\n" == done.stdout


@pytest.mark.parametrize("engine", ["onnx", "", "OpenVINO"])
def test_an_unknown_runtime_is_refused(tmp_path: Path, engine: str) -> None:
    """The error lists the names."""
    with pytest.raises(ModelLoadError, match=f"expected one of auto, openvino, tensorflow. Received: {engine}$"):
        load_engine(tmp_path, engine=engine)
    with pytest.raises(ModelLoadError, match="expected one of"):
        import_runtime(engine)


@pytest.mark.parametrize("engine", ["auto", "halving"])
def test_a_third_runtime_loads_its_models(third: Path, engine: str) -> None:
    """It is chosen by name, and by "auto" for a format that the others do not have."""
    loaded = load_engine(third, engine=engine, warm_up=True)
    assert ("halving", "float32") == (loaded.name, loaded.precision)
    assert [2.5, 4.0] == loaded.run("serving_default", {"x": np.array([1, 4], np.float32)})["y"].tolist()
    assert ("auto", "openvino", "tensorflow", "halving") == engine_names()


def test_the_others_refuse_its_models(third: Path) -> None:
    """A runtime that is asked for by name says what it expected."""
    with pytest.raises(ModelLoadError, match=r"expected saved_model.pb") as caught:
        load_engine(third, engine="openvino")
    assert "NOT_FOUND" == caught.value.code


def test_models_of_the_others_stay_theirs(third: Path, tiny_models: dict[str, Path]) -> None:
    """A SavedModel is loaded by the runtime that was asked first before."""
    loaded = load_engine(tiny_models["plain"])
    loaded.close()
    assert "openvino" == loaded.name


def test_what_no_runtime_reads_names_every_reason(
    monkeypatch: pytest.MonkeyPatch, tiny_models: dict[str, Path]
) -> None:
    """Two runtimes that cannot read a graph each say why."""
    monkeypatch.delitem(RUNTIMES, "tensorflow")
    monkeypatch.setitem(RUNTIMES, "again", "engine.runtimes.openvino")
    with pytest.raises(UnreadableError) as caught:
        load_engine(tiny_models["slow"])
    assert 2 == str(caught.value).count("operations: Timestamp")
