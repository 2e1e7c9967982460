"""The order in which threads work for callers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from service.gateway.bodies.turns import Shift, Turns

PATIENCE_S = 60


@contextmanager
def turns_of(threads: int, *, has_reserve: bool = False) -> Iterator[Turns]:
    turns = Turns(threads, name="test", has_reserve=has_reserve)
    yield turns
    turns.close(wait=True)


class Gate:
    """Work that says when it has begun and ends when it is let go."""

    def __init__(self, *, is_heavy: bool = False) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._is_heavy = is_heavy

    def __call__(self, shift: Shift) -> None:
        if self._is_heavy:
            shift.declare_heavy()
        self.begun.set()
        assert self.go_on.wait(PATIENCE_S)


def note(done: list[str], name: str, *, is_heavy: bool = False) -> Callable[[Shift], None]:
    def work(shift: Shift) -> None:
        if is_heavy:
            shift.declare_heavy()
        done.append(name)

    return work


async def begin(turns: Turns, gate: Gate, caller: str) -> asyncio.Future[None]:
    result = turns.submit(gate, caller=caller)
    assert await asyncio.to_thread(gate.begun.wait, PATIENCE_S)
    return result


def test_a_caller_who_comes_later_waits_for_one_job_of_another() -> None:
    """Sixteen jobs of one caller are in the queue before; each of the others has its first job next."""

    async def run() -> list[str]:
        done: list[str] = []
        gate = Gate()
        with turns_of(1) as turns:
            first = await begin(turns, gate, "a")
            jobs = [turns.submit(note(done, f"a{n}"), caller="a") for n in range(16)]
            jobs += [turns.submit(note(done, f"b{n}"), caller="b") for n in range(2)]
            jobs += [turns.submit(note(done, "c0"), caller="c")]
            gate.go_on.set()
            await asyncio.gather(first, *jobs)
        return done

    assert ["b0", "c0", "a0", "b1", *(f"a{n}" for n in range(1, 16))] == asyncio.run(run())


def test_jobs_of_one_caller_keep_their_order() -> None:
    """First come, first served."""

    async def run() -> list[str]:
        done: list[str] = []
        with turns_of(1) as turns:
            await asyncio.gather(*(turns.submit(note(done, str(n)), caller="a") for n in range(50)))
        return done

    assert [str(n) for n in range(50)] == asyncio.run(run())


def test_callers_who_come_anew_do_not_starve_one_who_waits() -> None:
    """A second job waits for the first jobs of others, and not for their second ones."""

    async def run() -> list[str]:
        done: list[str] = []
        gate = Gate()
        with turns_of(1) as turns:
            first = await begin(turns, gate, "a")
            jobs = [turns.submit(note(done, "a1"), caller="a")]
            jobs += [turns.submit(note(done, f"{caller}{n}"), caller=caller) for n in range(3) for caller in "bcd"]
            gate.go_on.set()
            await asyncio.gather(first, *jobs)
        return done

    assert ["b0", "c0", "d0", "a1"] == asyncio.run(run())[:4]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_light_work_does_not_wait_for_heavy_work(threads: int) -> None:
    """While every thread is busy with heavy jobs and more of them wait, light ones are done."""

    async def run() -> list[str]:
        done: list[str] = []
        gates = [Gate(is_heavy=True) for _ in range(threads)]
        with turns_of(threads, has_reserve=True) as turns:
            held = [await begin(turns, gate, f"heavy {n}") for n, gate in enumerate(gates)]
            heavy = [turns.submit(note(done, "heavy", is_heavy=True), caller=f"heavy {n % 2}") for n in range(4)]
            for n in range(5):
                async with asyncio.timeout(PATIENCE_S):
                    await turns.submit(note(done, f"light{n}"), caller="light")
            assert [f"light{n}" for n in range(5)] == done
            for gate in gates:
                gate.go_on.set()
            await asyncio.gather(*held, *heavy)
        return done

    assert ["heavy"] * 4 == asyncio.run(run())[5:]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_reserve_rests_while_a_thread_is_busy_with_light_work(threads: int) -> None:
    """No more jobs run at once than there are threads, unless all of them are heavy."""

    async def run() -> None:
        gates = [Gate() for _ in range(threads)]
        with turns_of(threads, has_reserve=True) as turns:
            held = [await begin(turns, gate, "a") for gate in gates]
            last = Gate()
            waiting = turns.submit(last, caller="b")
            assert not await asyncio.to_thread(last.begun.wait, 0.2)
            for gate in [*gates, last]:
                gate.go_on.set()
            await asyncio.gather(*held, waiting)

    asyncio.run(run())


def test_a_job_whose_caller_has_left_is_dropped() -> None:
    """Running jobs end, waiting jobs never start."""

    async def run() -> list[str]:
        done: list[str] = []
        gate = Gate()
        with turns_of(1) as turns:
            first = await begin(turns, gate, "a")
            left = turns.submit(note(done, "left"), caller="a")
            stays = turns.submit(note(done, "stays"), caller="a")
            left.cancel()
            gate.go_on.set()
            await asyncio.gather(first, stays)
        return done

    assert ["stays"] == asyncio.run(run())


def test_an_error_reaches_its_caller_and_the_thread_lives() -> None:
    """Also one of heavy work, after which light work is no longer for the reserve."""

    def fail(shift: Shift) -> None:
        shift.declare_heavy()
        raise ZeroDivisionError("once")

    async def run() -> list[str]:
        done: list[str] = []
        with turns_of(1, has_reserve=True) as turns:
            for _ in range(3):
                with pytest.raises(ZeroDivisionError):
                    await turns.submit(fail, caller="a")
            await turns.submit(note(done, "after"), caller="a")
        return done

    assert ["after"] == asyncio.run(run())


def test_callers_are_forgotten_when_their_round_is_over() -> None:
    """However many have come, no more are remembered than had a job in the last round."""

    async def run() -> int:
        with turns_of(1) as turns:
            for n in range(200):
                await turns.submit(lambda _: None, caller=f"caller {n}")
            for _ in range(2):
                await turns.submit(lambda _: None, caller="last")
            return len(turns._last_rounds)

    assert 1 == asyncio.run(run())
