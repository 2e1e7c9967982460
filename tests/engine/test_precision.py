"""engine/precision.py: a faster precision is taken only where figures of this very engine and precision allow it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contract.model import InputSpec, Label, build_document, canonical_json
from contract.store import CONTRACT_FILE, VERIFICATION_FILE
from engine.errors import ModelLoadError
from engine.precision import choose_precision

GOOD = {"engine": "openvino", "precision": "bfloat16", "images": 40, "max_deviation": 0.01, "changed_predictions": 0}


def write_version(directory: Path, deviations: Any, *, tolerance: float = 0.02) -> Path:
    """Write the two files that the choice depends on."""
    path = directory / CONTRACT_FILE
    path.parent.mkdir(parents=True)
    labels = [Label("a", "a"), Label("b", "b")]
    path.write_text(canonical_json(build_document(labels, InputSpec(8, 8), tolerance=tolerance)))
    (directory / VERIFICATION_FILE).write_text(json.dumps({"format": 1, "deviations": deviations}))
    return directory


def choose(directory: Path, wanted: str = "auto", offered: tuple[str, ...] = ("bfloat16", "float16")) -> str:
    return choose_precision(directory, wanted, engine="openvino", offered=offered)


@pytest.mark.parametrize(
    ("deviations", "chosen"),
    [
        pytest.param([GOOD], "bfloat16", id="good"),
        pytest.param([GOOD | {"precision": "float16"}], "float16", id="the slower one is good"),
        pytest.param([GOOD | {"precision": "float16"}, GOOD], "bfloat16", id="the faster of two"),
        pytest.param([GOOD | {"max_deviation": 0.021}], "float32", id="too far"),
        pytest.param([GOOD | {"changed_predictions": 1}], "float32", id="another prediction"),
        pytest.param([GOOD | {"engine": "tensorflow"}], "float32", id="another engine"),
        pytest.param([GOOD | {"images": 0}], "float32", id="no image"),
        pytest.param([GOOD | {"max_deviation": None}], "float32", id="no figure"),
        pytest.param([GOOD | {"max_deviation": float("nan")}], "float32", id="not a number"),
        pytest.param([], "float32", id="nothing known"),
        pytest.param("?", "float32", id="not a list"),
    ],
)
def test_auto_believes_what_verification_found(tmp_path: Path, deviations: Any, chosen: str) -> None:
    """Without verdicts: within the tolerance, no prediction changed, this engine and precision: or float32."""
    assert choose(write_version(tmp_path / "1", deviations)) == chosen


@pytest.mark.parametrize(
    ("verdicts", "chosen"),
    [
        pytest.param([("openvino", "bfloat16", True)], "bfloat16", id="equivalent"),
        pytest.param([("openvino", "bfloat16", False), ("openvino", "float16", True)], "float16", id="the slower one"),
        pytest.param([("openvino", "bfloat16", False)], "float32", id="not equivalent, though good by the older rule"),
        pytest.param([("tensorflow", "bfloat16", True)], "float32", id="another engine"),
        pytest.param([("openvino", "bfloat16", "true")], "float32", id="a text"),
        pytest.param([], "float32", id="no verdict"),
    ],
)
def test_a_verdict_counts_before_deviations(
    tmp_path: Path, verdicts: list[tuple[str, str, object]], chosen: str
) -> None:
    """Versions with verdicts are judged by them, older ones by the deviations of their test images."""
    directory = write_version(tmp_path / "1", [GOOD])
    keys = ("engine", "precision", "equivalent")
    equivalences = [dict(zip(keys, verdict, strict=True)) for verdict in verdicts]
    document = {"format": 1, "deviations": [GOOD], "equivalences": equivalences}
    (directory / VERIFICATION_FILE).write_text(json.dumps(document))
    assert choose(directory) == chosen


def test_auto_takes_only_what_the_machine_has(tmp_path: Path) -> None:
    """A version that was verified at bfloat16 elsewhere runs at float32 on a machine without it."""
    directory = write_version(tmp_path / "1", [GOOD])
    assert choose(directory, offered=()) == "float32"
    assert choose(tmp_path / "somebody else's") == "float32"


def test_the_tolerance_is_the_contracts(tmp_path: Path) -> None:
    """A recipe that allows less gets less."""
    assert choose(write_version(tmp_path / "1", [GOOD], tolerance=0.005)) == "float32"


def test_what_is_asked_for_is_done_or_refused(tmp_path: Path) -> None:
    """An explicit precision may be one that was not verified, if the machine has it."""
    assert choose(tmp_path, "float16") == "float16"
    assert choose(tmp_path, "float32", offered=()) == "float32"
    with pytest.raises(ModelLoadError, match="expected one of auto, float32 with openvino"):
        choose(tmp_path, "bfloat16", offered=())
