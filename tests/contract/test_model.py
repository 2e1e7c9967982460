"""contract/model.py: the document is checked field by field and keeps what it does not know."""

import json
from typing import Any

import pytest

from contract.errors import ContractError
from contract.model import InputSpec, Label, ModelContract, OperatingPoint, build_document

LABELS = [Label("g", "glaucoma"), Label("n", "normal")]


def document(**changes: Any) -> dict[str, Any]:
    return build_document(LABELS, InputSpec(8, 8), saliency="cam", temperature=1.5) | changes


def test_json_round_trip_keeps_everything() -> None:
    """A contract survives being written and read, unknown optional fields included."""
    point = {"label": "g", "threshold": 0.4, "sensitivity": 0.9, "specificity": 0.8}
    contract = ModelContract.from_document(document(operating_points=[point], future={"a": 1}))

    again = ModelContract.from_json(contract.to_json())

    assert contract == again
    assert contract.sha256 == again.sha256
    assert {"a": 1} == again.document["future"]
    assert (OperatingPoint("g", 0.4, 0.9, 0.8),) == again.operating_points
    assert tuple(LABELS) == again.labels
    assert (8, 8, 3) == again.input.shape


def test_hash_depends_on_content_not_on_order() -> None:
    """Two documents with the same fields in another order have one hash; another value has another."""
    one = document()
    other = dict(reversed(list(one.items())))

    assert ModelContract.from_document(one).sha256 == ModelContract.from_document(other).sha256
    assert ModelContract.from_document(one).sha256 != ModelContract.from_document(one | {"temperature": 1.25}).sha256


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"format": 3}, "format: this Fovea reads 1 and 2. Received: 3", id="format"),
        pytest.param({"format": True}, "format: this Fovea reads 1 and 2. Received: True", id="format-bool"),
        pytest.param({"input": {"height": 8, "width": 8, "crop_fraction": 0}}, "0.01 to 1.0", id="no-crop"),
        pytest.param({"input": {"height": 8, "width": 8, "crop_fraction": 1.5}}, "0.01 to 1.0", id="wide-crop"),
        pytest.param({"input": {"height": 8, "width": 8, "crop_fraction": "a"}}, "crop_fraction: expected", id="crop"),
        pytest.param({"input": {"height": 8, "width": 8, "crop_fraction": 0.8}}, "expected format 2", id="crop-of-1"),
        pytest.param(
            {"format": 2, "input": {"height": 8, "width": 8, "fit": "pad", "crop_fraction": 0.8}},
            "expected 1 for fit 'pad'",
            id="crop-and-pad",
        ),
        pytest.param({"task": "detection"}, "task: expected", id="task"),
        pytest.param({"labels": []}, "at least two", id="no-labels"),
        pytest.param({"labels": [{"id": "a"}, {"id": "b"}]}, "missing name", id="label-without-name"),
        pytest.param({"labels": [{"id": "a", "name": "x"}] * 2}, "ids must differ", id="same-ids"),
        pytest.param({"labels": [{"id": 1, "name": "x"}, {"id": "b", "name": "y"}]}, "expected texts", id="label-type"),
        pytest.param({"labels": [1, 2]}, "expected an object", id="label-number"),
        pytest.param({"input": None}, "input: expected an object", id="no-input"),
        pytest.param({"input": {"height": 8}}, "input: missing width", id="no-width"),
        pytest.param({"input": {"height": 0, "width": 8}}, "input.height: expected a whole number", id="height"),
        pytest.param({"input": {"height": 8, "width": 8, "color": "bgr"}}, "rgb, grey", id="color"),
        pytest.param({"input": {"height": 8, "width": 8, "channels": 1}}, "input.channels: expected 3", id="channels"),
        pytest.param({"input": {"height": 8, "width": 8, "decoder": 3}}, "knows versions 1 and 2", id="decoder"),
        pytest.param({"input": {"height": 8, "width": 8, "reduced_decode": 1}}, "true or false", id="reduced"),
        pytest.param({"saliency": "lime"}, "saliency: expected", id="saliency"),
        pytest.param({"temperature": 0}, "temperature: expected a number", id="temperature"),
        pytest.param({"tolerance": True}, "tolerance: expected a number", id="tolerance"),
        pytest.param({"operating_points": {}}, "operating_points: expected a list", id="points"),
        pytest.param(
            {"operating_points": [{"label": "x", "threshold": 0, "sensitivity": 0, "specificity": 0}]},
            "no such label",
            id="point-label",
        ),
    ],
)
def test_wrong_documents_name_the_field(changes: dict[str, Any], words: str) -> None:
    """The first wrong field is named, with what was expected and received."""
    with pytest.raises(ContractError, match=words):
        ModelContract.from_document(document(**changes))


@pytest.mark.parametrize("text", ["", "[1", "[]", "3"], ids=["empty", "cut", "list", "number"])
def test_text_that_is_no_contract_is_refused(text: str) -> None:
    """Anything but a JSON object is a ContractError, never another exception."""
    with pytest.raises(ContractError):
        ModelContract.from_json(text)


@pytest.mark.parametrize("text", ['{"x": NaN}', '{"x": "\\ud800"}', '{"x": Infinity}'], ids=["nan", "surrogate", "inf"])
def test_what_json_cannot_hold_is_no_contract(text: str) -> None:
    """Its hash could not be taken; a model that tells such a contract is broken, not the gateway."""
    labels = [Label("a", "a"), Label("b", "b")]
    document = build_document(labels, InputSpec(8, 8), **json.loads(text))

    with pytest.raises(ContractError, match="JSON"):
        ModelContract.from_document(document)


def test_only_a_fraction_needs_format_2() -> None:
    """A reader of format 1 would ignore the fraction and see other pixels: the format makes it refuse."""
    cropped = build_document(LABELS, InputSpec(8, 8, fit="crop", crop_fraction=0.875))
    whole = build_document(LABELS, InputSpec(8, 8, fit="crop"))

    assert (2, 0.875) == (cropped["format"], cropped["input"]["crop_fraction"])
    assert (1, False) == (whole["format"], "crop_fraction" in whole["input"])
    assert [0.875, 1.0] == [ModelContract.from_document(each).input.crop_fraction for each in (cropped, whole)]
    assert 1.0 == ModelContract.from_document(whole | {"format": 2}).input.crop_fraction
