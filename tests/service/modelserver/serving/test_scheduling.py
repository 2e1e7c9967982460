"""Calls are batched, shared out, refused and dropped; every caller gets its own answer."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.engine import Arrays, CheckedCall
from engine.errors import DeadlineError, EngineError, InputError, OverloadedError, RunError, SignatureError
from service.modelserver.serving.scheduling import BatchRecord, ModelQueue, Plan, Scheduler
from tests.helpers.echo_engine import POISON, EchoEngine


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    """Two cores, ten calls may wait for a model."""
    opened = Scheduler(2, max_waiting=10)
    yield opened
    opened.close()


@pytest.fixture
def held(scheduler: Scheduler) -> Iterator[tuple[EchoEngine, ModelQueue]]:
    """A model on one stream, batches up to 4, that is at work on the number 0 until its gate is opened."""
    engine = EchoEngine()
    queue = ModelQueue(scheduler, engine, Plan(num_streams=1, max_batch=4))
    engine.gate.clear()
    first = ask(queue, 0)
    engine.wait_for_runs(1)
    yield engine, queue
    engine.gate.set()
    assert value(first) == 0
    queue.close()


def rows(*numbers: int) -> dict[str, NDArray[np.int64]]:
    """Return the inputs of a call: one row of two equal numbers for each."""
    return {"numbers": np.repeat(np.array(numbers, np.int64), 2).reshape(-1, 2)}


def ask(queue: ModelQueue, *numbers: int, caller: str = "", **details: object) -> Future[Arrays]:
    """Submit a call to `echo`."""
    return queue.submit("echo", rows(*numbers), caller=caller, **details)  # type: ignore[arg-type]


def value(future: Future[Arrays]) -> int:
    """Return the sum that a call of one row was answered."""
    (result,) = future.result(60)["sums"].tolist()
    return int(result)


def test_what_comes_while_a_batch_runs_is_the_next_one(held: tuple[EchoEngine, ModelQueue]) -> None:
    """The first call runs alone at once; the three that come meanwhile run together, each with its own answer."""
    engine, queue = held
    calls = [ask(queue, number) for number in (1, 2, 3)]
    engine.gate.set()
    assert [value(call) for call in calls] == [2, 4, 6]
    assert engine.batches == [("echo", [0]), ("echo", [1, 2, 3])]


def test_no_batch_is_larger_than_planned(held: tuple[EchoEngine, ModelQueue]) -> None:
    """Six waiting rows become batches of at most 4, and a call of five rows is split and put together again."""
    engine, queue = held
    large, small = ask(queue, 1, 2, 3, 4, 5), ask(queue, 6)
    engine.gate.set()
    assert large.result(60)["doubled"].tolist() == [[2 * n, 2 * n] for n in (1, 2, 3, 4, 5)]
    assert value(small) == 12
    assert engine.batches[1:] == [("echo", [1, 2, 3, 4]), ("echo", [5, 6])]


def test_callers_take_turns(held: tuple[EchoEngine, ModelQueue]) -> None:
    """A caller with one call is in the next batch, although another caller's six came first."""
    engine, queue = held
    calls = [ask(queue, number, caller="many") for number in range(1, 7)] + [ask(queue, 9, caller="one")]
    engine.gate.set()
    assert [value(call) for call in calls] == [2, 4, 6, 8, 10, 12, 18]
    assert engine.batches[1:] == [("echo", [1, 9, 2, 3]), ("echo", [4, 5, 6])]


def test_models_take_turns(scheduler: Scheduler, held: tuple[EchoEngine, ModelQueue]) -> None:
    """A model with one call runs it after one batch of another model whose queue is longer."""
    engine, queue = held
    other_engine = EchoEngine()
    other = ModelQueue(scheduler, other_engine, Plan(num_streams=2, max_batch=1))
    order: list[str] = []
    calls = [ask(queue, number) for number in range(1, 10)]
    lone = ask(other, 1)
    for call in calls:
        call.add_done_callback(lambda _: order.append("many"))
    lone.add_done_callback(lambda _: order.append("one"))
    engine.gate.set()
    assert [value(call) for call in [*calls, lone]] == [*range(2, 20, 2), 2]
    other.close()
    assert order.index("one") <= 4  # at most one batch of four came before it


def test_a_model_that_needs_all_cores_gets_its_turn(scheduler: Scheduler) -> None:
    """Small models that keep a core each do not shut out a model that needs both."""
    small_engine, large_engine = EchoEngine(), EchoEngine()
    small = ModelQueue(scheduler, small_engine, Plan(num_streams=2, max_batch=1))
    large = ModelQueue(scheduler, large_engine, Plan(num_streams=1))
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            ask(small, 1).result(60)

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(keep_asking) for _ in range(4)]
        try:
            assert [value(ask(large, number)) for number in range(50)] == list(range(0, 100, 2))
        finally:
            stop.set()
        for future in asking:
            future.result(60)
    small.close()
    large.close()


def test_two_streams_run_two_batches_at_a_time(scheduler: Scheduler) -> None:
    """With two streams a second call does not wait for the first."""
    engine = EchoEngine()
    queue = ModelQueue(scheduler, engine, Plan(num_streams=2, max_batch=4))
    engine.gate.clear()
    calls = [ask(queue, 1)]
    engine.wait_for_runs(1)
    calls.append(ask(queue, 2))
    engine.wait_for_runs(1)
    engine.gate.set()
    assert [value(call) for call in calls] == [2, 4]
    queue.close()


def test_a_full_queue_refuses_and_others_are_answered(held: tuple[EchoEngine, ModelQueue]) -> None:
    """The eleventh waiting call is refused at once; the ten are answered."""
    engine, queue = held
    calls = [ask(queue, number) for number in range(10)]
    with pytest.raises(OverloadedError, match=r"overloaded: 10 calls wait for the model, the limit"):
        ask(queue, 99)
    engine.gate.set()
    assert [value(call) for call in calls] == list(range(0, 20, 2))


def test_a_call_whose_deadline_has_passed_is_not_run(held: tuple[EchoEngine, ModelQueue]) -> None:
    """Its caller gets DEADLINE_EXCEEDED, its batch mates their answers, and the engine never sees it."""
    engine, queue = held
    late, other = ask(queue, 5, timeout_s=0.0), ask(queue, 6, timeout_s=60.0)
    engine.gate.set()
    assert value(other) == 12
    with pytest.raises(DeadlineError, match="the deadline passed while the call waited to run"):
        late.result(60)
    assert engine.batches[1:] == [("echo", [6])]


def test_a_cancelled_call_makes_room_and_is_not_run(held: tuple[EchoEngine, ModelQueue]) -> None:
    """Cancelling takes a waiting call out of the queue at once."""
    engine, queue = held
    calls = [ask(queue, number) for number in range(1, 11)]
    assert calls[0].cancel() and calls[4].cancel()
    late = [ask(queue, 11), ask(queue, 12)]
    engine.gate.set()
    answered = [*calls[1:4], *calls[5:], *late]
    assert [value(call) for call in answered] == [4, 6, 8, 12, 14, 16, 18, 20, 22, 24]
    assert sorted(number for _, batch in engine.batches for number in batch) == [0, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12]


def test_a_call_that_fails_harms_no_other(held: tuple[EchoEngine, ModelQueue]) -> None:
    """When a batch fails its calls are run alone, and only the one at fault gets the error."""
    engine, queue = held
    good, bad, other = ask(queue, 1), ask(queue, POISON), ask(queue, 2)
    engine.gate.set()
    assert [value(good), value(other)] == [2, 4]
    with pytest.raises(RunError, match="poisoned") as caught:
        bad.result(60)
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_large_call_that_fails_in_part_fails_once(held: tuple[EchoEngine, ModelQueue]) -> None:
    """A call of six rows with a bad one gets the error; the call behind it is answered."""
    engine, queue = held
    bad, good = ask(queue, 1, 2, POISON, 4, 5, 6), ask(queue, 7)
    engine.gate.set()
    with pytest.raises(RunError, match="poisoned"):
        bad.result(60)
    assert value(good) == 14


class CountingEngine(EchoEngine):
    """Counts checks."""

    num_checks = 0

    def check(self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> CheckedCall:
        """Count and check."""
        self.num_checks += 1
        return super().check(signature, inputs, outputs)


def test_a_call_is_checked_once(scheduler: Scheduler) -> None:
    """Calls are checked when they are submitted; their batch is not checked again, nor is a call that is checked."""
    engine = CountingEngine()
    queue = ModelQueue(scheduler, engine, Plan(num_streams=1, max_batch=4))
    assert [value(ask(queue, number)) for number in (1, 2, 3)] == [2, 4, 6]
    checked = engine.check("echo", rows(4), ("sums",))
    assert value(queue.submit_checked(checked)) == 8
    queue.close()
    assert engine.num_checks == 4


class WideningEngine(EchoEngine):
    """Answers each batch with wider rows than the one before."""

    def execute(self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        """Return rows as wide as the number of batches."""
        answered = super().execute(signature, inputs, outputs)
        return {**answered, "doubled": np.ones((len(inputs["numbers"]), len(self.batches)), np.int64)}


def test_a_call_whose_batches_do_not_fit_together_fails_alone(scheduler: Scheduler) -> None:
    """A call in two batches of other shapes gets an error; the stream that ran it answers the next call."""
    queue = ModelQueue(scheduler, WideningEngine(), Plan(num_streams=1, max_batch=4))
    with pytest.raises(ValueError, match="array dimensions"):
        ask(queue, 1, 2, 3, 4, 5).result(60)
    assert value(ask(queue, 7)) == 14
    queue.close()


def test_a_signature_without_batch_axis_runs_alone(held: tuple[EchoEngine, ModelQueue]) -> None:
    """Calls to a signature with a scalar output are never batched, nor split however large."""
    engine, queue = held
    calls = [queue.submit("whole", rows(*numbers)) for numbers in ((1,), (2, 3, 4, 5, 6, 7))]
    engine.gate.set()
    assert [int(call.result(60)["total"]) for call in calls] == [2, 54]
    assert engine.batches[1:] == [("whole", [1]), ("whole", [2, 3, 4, 5, 6, 7])]


def test_rows_of_other_shapes_share_no_batch(held: tuple[EchoEngine, ModelQueue]) -> None:
    """Where a signature leaves more than the batch free, only equal shapes meet; no rows at all run alone."""
    engine, queue = held
    wide = queue.submit("echo", {"numbers": np.ones((1, 5), np.int64)})
    empty = queue.submit("echo", {"numbers": np.empty((0, 2), np.int64)})
    narrow = ask(queue, 3)
    engine.gate.set()
    assert [value(wide), value(narrow), empty.result(60)["sums"].size] == [5, 6, 0]
    assert sorted(engine.batches[1:]) == [("echo", []), ("echo", [1]), ("echo", [3])]


def test_outputs_without_a_row_for_each_are_noticed(held: tuple[EchoEngine, ModelQueue]) -> None:
    """A model that answers a batch with too few rows has its calls run alone instead of mixed up."""
    engine, queue = held
    calls = [queue.submit("liar", rows(number)) for number in (1, 2)]
    engine.gate.set()
    assert [value(call) for call in calls] == [2, 4]
    assert engine.batches[1:] == [("liar", [1, 2]), ("liar", [1]), ("liar", [2])]


def test_only_the_outputs_that_were_asked_for_come_back(held: tuple[EchoEngine, ModelQueue]) -> None:
    """Calls of one batch may want different outputs."""
    engine, queue = held
    sums, both = queue.submit("echo", rows(1), ["sums"]), queue.submit("echo", rows(2))
    engine.gate.set()
    assert sorted(sums.result(60)) == ["sums"]
    assert sorted(both.result(60)) == ["doubled", "sums"]


def test_wrong_inputs_are_refused_before_they_meet_others(held: tuple[EchoEngine, ModelQueue]) -> None:
    """A wrong signature, name, type or shape raises at once and leaves nothing behind."""
    engine, queue = held
    with pytest.raises(SignatureError, match='Serving signature key "nothing" not found'):
        queue.submit("nothing", rows(1))
    for inputs in ({"figures": rows(1)["numbers"]}, {"numbers": np.ones(3, np.int64)}, {"numbers": np.ones((1, 2))}):
        with pytest.raises(InputError):
            queue.submit("echo", inputs)
    engine.gate.set()
    assert value(ask(queue, 4)) == 8
    assert [batch for _, batch in engine.batches] == [[0], [4]]


def test_closing_finishes_the_calls_that_are_there(scheduler: Scheduler) -> None:
    """`close` returns when running and waiting calls are answered, and closes the engine then."""
    engine = EchoEngine()
    queue = ModelQueue(scheduler, engine, Plan(num_streams=1, max_batch=2))
    engine.gate.clear()
    calls = [ask(queue, number) for number in range(6)]
    engine.wait_for_runs(1)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(queue.close)
        assert not engine.is_closed
        engine.gate.set()
        closing.result(60)
    assert engine.is_closed
    assert [value(call) for call in calls] == list(range(0, 12, 2))


def test_batches_are_observed(scheduler: Scheduler) -> None:
    """The observer is told the rows and calls of every batch."""
    engine, seen = EchoEngine(), list[BatchRecord]()
    queue = ModelQueue(scheduler, engine, Plan(num_streams=1, max_batch=4), seen.append)
    engine.gate.clear()
    calls = [ask(queue, 1)]
    engine.wait_for_runs(1)
    calls += [ask(queue, 2, 3), ask(queue, 4)]
    engine.gate.set()
    for call in calls:
        call.result(60)
    queue.close()
    assert [(batch.signature, batch.rows, len(batch.waits_s)) for batch in seen] == [("echo", 1, 1), ("echo", 3, 2)]
    assert all(batch.run_s > 0 and min(batch.waits_s) >= 0 for batch in seen)


@pytest.mark.parametrize("seed", range(4))
def test_every_caller_gets_its_own_answer(seed: int) -> None:
    """Of 400 calls from 8 threads, some cancelled, late, wrong or large, each gets the answer to its own numbers."""
    scheduler = Scheduler(3, max_waiting=10_000)
    plans = (Plan(num_streams=1, max_batch=5), Plan(num_streams=3, max_batch=8))
    queues = [ModelQueue(scheduler, EchoEngine(), plan) for plan in plans]

    def act(caller: int) -> int:
        chance = random.Random(f"{seed} {caller}")
        num_right = 0
        waiting: list[tuple[list[int], Future[Arrays]]] = []
        for number in range(50):
            numbers = [1_000_000 * caller + 1000 * number + row for row in range(chance.choice((1, 1, 1, 2, 7, 20)))]
            if chance.random() < 0.1:
                numbers[chance.randrange(len(numbers))] = POISON
            timeout_s = 0.0 if chance.random() < 0.1 else None
            future = ask(chance.choice(queues), *numbers, caller=str(caller % 3), timeout_s=timeout_s)
            if chance.random() < 0.15:
                future.cancel()
            waiting.append((numbers, future))
            if chance.random() < 0.3:
                num_right += sum(check(*call) for call in waiting)
                waiting.clear()
        return num_right + sum(check(*call) for call in waiting)

    with ThreadPoolExecutor(8) as pool:
        num_right = sum(pool.map(act, range(8)))
    for queue in queues:
        queue.close()
    scheduler.close()
    assert num_right > 200


def check(numbers: list[int], future: Future[Arrays]) -> bool:
    """Check one call's end; return whether it was answered rightly, False if it failed as it should."""
    try:
        outputs = future.result(60)
    except CancelledError:
        return False
    except EngineError as err:
        assert isinstance(err, DeadlineError) or POISON in numbers
        return False
    assert POISON not in numbers
    assert outputs["doubled"].tolist() == [[2 * number] * 2 for number in numbers]
    assert outputs["sums"].tolist() == [2 * number for number in numbers]
    return True


def test_an_observer_that_fails_stops_nothing(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    """Calls are answered, before and after, and the log has the failure."""

    def fail(_: BatchRecord) -> None:
        raise ZeroDivisionError("observed badly")

    queue = ModelQueue(scheduler, EchoEngine(), Plan(num_streams=1, max_batch=4), fail)
    assert [value(ask(queue, number)) for number in range(5)] == [0, 2, 4, 6, 8]
    queue.close()
    scheduler.close()  # its threads have said everything then
    assert "observed badly" in caplog.text


def test_a_lone_call_gets_all_cores_and_many_share_them(scheduler: Scheduler) -> None:
    """A call that is alone runs on the engine that uses all cores; those that come meanwhile on the streams."""
    streams, lone = EchoEngine(), EchoEngine()
    queue = ModelQueue(scheduler, streams, Plan(num_streams=2, max_batch=2), lone_engine=lone)
    lone.gate.clear()
    calls = [ask(queue, 0)]
    lone.wait_for_runs(1)
    calls += [ask(queue, number) for number in (1, 2, 3)]
    assert streams.batches == []
    lone.gate.set()
    assert [value(call) for call in calls] == [0, 2, 4, 6]
    queue.close()
    assert lone.batches[0] == ("echo", [0]) and streams.batches
    assert lone.is_closed and streams.is_closed


def test_the_streams_share_a_lone_call_of_many_rows(scheduler: Scheduler) -> None:
    """One row is what the other engine is for; more are split into as many batches as there are streams."""
    streams, lone = EchoEngine(), EchoEngine()
    queue = ModelQueue(scheduler, streams, Plan(num_streams=2, max_batch=8), lone_engine=lone)
    rows = np.arange(10).reshape(5, 2)
    doubled = queue.submit("echo", {"numbers": rows}, ("doubled",)).result(60)["doubled"]
    np.testing.assert_array_equal(doubled, 2 * rows)
    assert sorted(streams.batches) == [("echo", [0, 2, 4]), ("echo", [6, 8])] and not lone.batches
    queue.close()


@pytest.mark.parametrize(("signature", "num_rows"), [("echo", 0), ("whole", 1)])
def test_what_has_no_rows_stays_off_the_engine_for_one_row(scheduler: Scheduler, signature: str, num_rows: int) -> None:
    """No rows at all, and a signature whose outputs are not by row: both run as they are."""
    streams, lone = EchoEngine(), EchoEngine()
    queue = ModelQueue(scheduler, streams, Plan(num_streams=2, max_batch=8), lone_engine=lone)
    numbers = np.ones((num_rows, 2), np.int64)
    assert len(queue.submit(signature, {"numbers": numbers}, ("doubled",)).result(60)["doubled"]) == num_rows
    assert len(streams.batches) == 1 and not lone.batches
    queue.close()
