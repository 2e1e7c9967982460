"""The plan and the parts of work in units: written once, read whole, and shared by shards."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.units.plan import PLAN_FILE, Plan, keep_plan, read_plan
from pipeline.units.work import Shard

PLAN = Plan(46, "a" * 64, 10, {"model": "colours", "version": 1, "precision": "float32"})
DOCUMENT = {"format": 1, "images": 46, "listing_sha256": "a" * 64, "unit_rows": 10, **PLAN.facts}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "{}",
        '{"format": 2}',
        json.dumps(DOCUMENT | {"images": "46"}),
        json.dumps(DOCUMENT | {"version": 1.5}),
    ],
)
def test_file_that_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    """It is named; nothing is scored on its word."""
    (tmp_path / PLAN_FILE).write_text(text)
    with pytest.raises(PipelineError, match=r"_plan\.json: expected the plan of work in units"):
        read_plan(tmp_path)


def test_first_of_two_plans_stays(tmp_path: Path) -> None:
    """The same plan is fine from any number of shards; another is refused."""
    keep_plan(tmp_path, PLAN)
    keep_plan(tmp_path, PLAN)
    with pytest.raises(PipelineError, match=r"precision \(float32 there, bfloat16 now\)"):
        keep_plan(tmp_path, dataclasses.replace(PLAN, facts={**PLAN.facts, "precision": "bfloat16"}))
    assert [PLAN_FILE] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_shards_share_all_units(count: int) -> None:
    """Each unit belongs to one shard."""
    units = [unit for index in range(count) for unit in Shard(index, count).units(PLAN.num_units)]
    assert list(range(5)) == sorted(units)


def test_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    """With its facts; a plan of other work differs by those that it lacks."""
    keep_plan(tmp_path, PLAN)
    assert PLAN == read_plan(tmp_path)
    assert DOCUMENT == json.loads((tmp_path / PLAN_FILE).read_text())
    with pytest.raises(PipelineError, match=r"these differ: the measures, model \(colours there, none now\)"):
        keep_plan(tmp_path, dataclasses.replace(PLAN, facts={"measures": "c" * 64}))
