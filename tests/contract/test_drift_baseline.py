"""The drift baseline of a contract: read whole, or refused by what is wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest

from contract.drift_baseline import DriftBaseline
from contract.errors import ContractError
from contract.model import InputSpec, Label, ModelContract, build_document

LABELS = [Label("normal", "Normal"), Label("glaucoma", "Glaucoma")]
BASELINE = DriftBaseline(
    images=120,
    class_shares={"normal": 0.6, "glaucoma": 0.4},
    mean_probability=0.93,
    warning_shares={"unlike_training_images": 0.0083},
)


def read(value: object) -> DriftBaseline | None:
    """Read a contract with this drift baseline."""
    return ModelContract.from_document(build_document(LABELS, InputSpec(8, 8), drift_baseline=value)).drift_baseline


def test_what_is_written_is_read() -> None:
    """Through the contract's JSON."""
    document = build_document(LABELS, InputSpec(8, 8), drift_baseline=BASELINE.document())
    assert BASELINE == ModelContract.from_json(ModelContract.from_document(document).to_json()).drift_baseline


def test_contracts_without_one_are_read() -> None:
    """Imported models and older versions have none."""
    assert read(None) is None
    assert ModelContract.from_document(build_document(LABELS, InputSpec(8, 8))).drift_baseline is None


@pytest.mark.parametrize(
    "change",
    [
        {"images": "many"},
        {"images": math.inf},
        {"class_shares": [0.5, 0.5]},
        {"class_shares": {"normal": None}},
        {"class_shares": {"normal": 1.5}},
        {"mean_probability": -0.1},
        {"mean_probability": math.nan},
        {"warning_shares": {"unlike_training_images": 2}},
    ],
)
def test_what_is_no_baseline_is_refused(change: dict[str, Any]) -> None:
    """A gateway shows no gauge that means nothing."""
    with pytest.raises(ContractError, match=r"drift_baseline|NaN|JSON"):
        read({**BASELINE.document(), **change})


@pytest.mark.parametrize("value", ["none", 7, [], {}])
def test_other_documents_are_refused(value: object) -> None:
    """An empty object lacks its fields."""
    with pytest.raises(ContractError, match="drift_baseline"):
        read(value)
