"""Streams and batch sizes: measured when no other call needs the cores, kept for the next start, never in the way."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.engine import Arrays, Engine
from service.modelserver.serving.scheduling import Plan
from service.modelserver.serving.tuning import Tuner, is_machine_busy, warm_up_batches
from tests.helpers.echo_engine import build_signature

ROW_S, CALL_S = 0.002, 0.008


class TimedEngine(Engine):
    """Takes a time for each call and a time for each row; remembers its batches.

    Args:
        call_s: seconds of a call, whatever it holds: what batching saves.
        row_s: seconds of a row.
    """

    name = "timed"

    def __init__(self, call_s: float = CALL_S, row_s: float = ROW_S) -> None:
        super().__init__({"serving_default": build_signature({"numbers": (-1, 3)}, {"sums": (-1,)})})
        self._call_s = call_s
        self._row_s = row_s
        self.batches: list[int] = []

    def execute(self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        rows = len(inputs["numbers"])
        self.batches.append(rows)
        time.sleep(self._call_s + rows * self._row_s)
        return {"sums": np.zeros(rows, np.int64)}

    def close(self) -> None:
        """Hold nothing."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that stands for a model's."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"x" * 1000)
    return folder


def test_batches_are_large_where_that_pays(model: Path, tmp_path: Path) -> None:
    """Where a call costs much beside its rows the batch is large; where it costs nothing it is small."""
    tuner = Tuner(1, tmp_path / "kept", is_busy=lambda: False)
    assert tuner.plan(model, TimedEngine(), None).max_batch >= 8
    other = Tuner(1, None, is_busy=lambda: False)
    assert other.plan(model, TimedEngine(call_s=0.0, row_s=0.03), None).max_batch < 8


def test_what_was_measured_is_kept(model: Path, tmp_path: Path) -> None:
    """A second start measures nothing, and a new version of the same size nothing either."""
    first = Tuner(1, tmp_path / "kept", is_busy=lambda: False).plan(model, TimedEngine(), None)
    (model / "saved_model.pb").write_bytes(b"y" * 1001)
    engine = TimedEngine()
    assert Tuner(1, tmp_path / "kept", is_busy=lambda: True).plan(model, engine, None) == first
    assert engine.batches == []


def test_another_model_or_another_number_of_threads_is_measured_anew(model: Path, tmp_path: Path) -> None:
    """A measurement does not hold for a model of another size, nor with more threads."""
    Tuner(1, tmp_path / "kept", is_busy=lambda: False).plan(model, TimedEngine(), None)
    engine = TimedEngine()
    Tuner(3, tmp_path / "kept", is_busy=lambda: False).plan(model, engine, None)
    assert engine.batches
    (model / "variables").write_bytes(b"x" * (5 << 20))
    engine = TimedEngine()
    Tuner(1, tmp_path / "kept", is_busy=lambda: False).plan(model, engine, None)
    assert engine.batches


def test_nothing_is_measured_while_others_need_the_cores(model: Path, tmp_path: Path) -> None:
    """A busy machine gets a stream for each core, where the runtime has streams; that is not kept."""
    engine = TimedEngine()
    plans = [
        Tuner(2, tmp_path / "kept", is_busy=lambda: True).plan(model, engine, load_streams)
        for load_streams in (lambda _: engine, None)
    ]
    assert plans == [Plan(num_streams=2, max_batch=8), Plan(num_streams=1, max_batch=8)]
    assert engine.batches == [] and not (tmp_path / "kept").exists()


@pytest.mark.parametrize(("one_core_s", "threads"), [(CALL_S, 1), (2 * CALL_S, 0)])
def test_a_lone_row_has_one_core_unless_all_are_faster(
    model: Path, tmp_path: Path, one_core_s: float, threads: int
) -> None:
    """All cores must save half a millisecond; the choice is kept. Where nothing says what one core takes: all."""

    def plan(*load_lone: Any, is_busy: bool = False) -> Plan:
        tuner = Tuner(2, tmp_path / "kept", is_busy=lambda: is_busy)
        return tuner.plan(model, TimedEngine(), lambda streams: TimedEngine(), *load_lone)

    assert 0 == plan(is_busy=True).lone_threads
    found = plan(lambda: TimedEngine(call_s=one_core_s))

    assert threads == found.lone_threads
    assert found == plan(is_busy=True)


def test_streams_are_taken_where_they_pay(model: Path) -> None:
    """Sleeping runs do not share cores, so two streams are twice one; an engine that is slower on two keeps one."""
    tuner = Tuner(2, None, is_busy=lambda: False)
    assert tuner.plan(model, TimedEngine(), lambda streams: TimedEngine()).num_streams == 2
    slower = Tuner(2, None, is_busy=lambda: False)
    assert (
        slower.plan(
            model, TimedEngine(), lambda streams: TimedEngine(call_s=0.2 if streams > 1 else CALL_S)
        ).num_streams
        == 1
    )


@pytest.mark.parametrize(
    "text", ["", "[]", '{"num_streams": 99, "max_batch": 1, "lone_threads": 0}', '{"num_streams": 1}']
)
def test_a_damaged_file_is_measured_again(model: Path, tmp_path: Path, text: str) -> None:
    """Unreadable and impossible entries are measured anew and replaced."""
    kept = tmp_path / "kept"
    first = Tuner(1, kept, is_busy=lambda: False).plan(model, TimedEngine(), None)
    (file,) = kept.iterdir()
    file.write_text(text)
    engine = TimedEngine()
    assert Tuner(1, kept, is_busy=lambda: False).plan(model, engine, None).num_streams == first.num_streams
    assert engine.batches
    assert json.loads(file.read_text()).keys() == {"num_streams", "max_batch", "lone_threads"}


def test_a_folder_that_cannot_be_written_is_harmless(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The measurement holds for this process, and the log says that it is not kept."""
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        tuner = Tuner(1, tmp_path / "file" / "kept", is_busy=lambda: False)
        plan = tuner.plan(model, TimedEngine(), None)
    assert "measurements are not kept for the next start" in caplog.text
    engine = TimedEngine()
    assert tuner.plan(model, engine, None) == plan
    assert engine.batches == []


def test_common_batches_are_warmed_up_on_every_stream() -> None:
    """Sizes up to the largest batch run once on each stream before the first caller comes."""
    engine = TimedEngine(call_s=0.0)
    warm_up_batches(engine, Plan(num_streams=2, max_batch=4))
    assert sorted(engine.batches) == [1, 1, 2, 2, 4, 4]


def test_watching_the_machine_gives_an_answer() -> None:
    """The system's counters can be read here; what they say is the machine's affair."""
    assert is_machine_busy(watch_s=0.05) in (True, False)
