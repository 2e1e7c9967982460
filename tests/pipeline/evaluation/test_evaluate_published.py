"""evaluate on a published version: precision and order of the classes."""

import json
from pathlib import Path

import pytest

from contract.model import ModelContract
from contract.store import CONTRACT_FILE
from pipeline.__main__ import main
from pipeline.data.lineage import class_order
from tests.helpers.tiny_model import VARIANTS, build_contract


def evaluate(work: Path, *flags: str) -> int:
    return main(["evaluate", "colours", str(work / "set"), f"--models-dir={work / 'models'}", *flags])


@pytest.mark.parametrize("flags", [[], ["--precision=float32"]])
def test_the_precision_is_named(work: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The console and the JSON say at which precision the numbers were computed."""
    assert 0 == evaluate(work, f"--out={work / 'out.json'}", *flags)

    assert "colours/1 on 9 images in 9 groups of set, at float32" == capsys.readouterr().out.splitlines()[0]
    document = json.loads((work / "out.json").read_text())
    assert "float32" == document["precision"]
    assert 1.0 == document["accuracy"]


@pytest.mark.parametrize("command", [["evaluate"], ["score", "--out=scores.csv"]], ids=["evaluate", "score"])
def test_an_unknown_precision_is_refused(command: list[str], work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reason lists those that there are."""
    name, *flags = command
    with pytest.raises(SystemExit) as refusal:
        main([name, "colours", str(work / "set"), f"--models-dir={work / 'models'}", "--precision=float8", *flags])

    error = capsys.readouterr().err.splitlines()[-1].replace("'auto', 'float32'", "auto, float32")  # of Python 3.11
    assert 2 == refusal.value.code
    assert "argument --precision: invalid choice: 'float8' (choose from auto, float32" in error


def test_tables_have_the_order_that_the_recipe_declared(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Classes and confusion of `evaluate` follow evaluate.order of the version's recipe."""
    path = work / "models" / "colours" / "1" / CONTRACT_FILE
    before = path.read_text()
    document = json.loads(before)
    document["provenance"] = {"recipe": {"evaluate": {"order": ["green", "red", "blue"]}}}
    path.chmod(0o644)
    path.write_text(json.dumps(document))
    try:
        assert 0 == evaluate(work)
    finally:
        path.write_text(before)

    lines = capsys.readouterr().out.splitlines()
    matrix = next(i for i, line in enumerate(lines) if line.startswith("true / predicted"))
    assert ["green", "red", "blue"] == lines[matrix].split()[3:]
    assert ["green 3 0 0", "red 0 3 0", "blue 0 0 3"] == [" ".join(line.split()) for line in lines[matrix + 1 :][:3]]


@pytest.mark.parametrize("order", [None, ["red"], ["red", "green", "pink"], "red", [1, 2, 3]])
def test_an_order_of_other_classes_is_not_taken(order: object) -> None:
    """A foreign contract may hold anything there."""
    document = build_contract(VARIANTS["plain"]).document | {"provenance": {"recipe": {"evaluate": {"order": order}}}}

    assert ("blue", "green", "red") == class_order(ModelContract.from_document(document))
