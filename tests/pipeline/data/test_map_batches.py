"""pipeline/data/map_batches.py: every record once, in order, a bounded number ahead, on any executor or none."""

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.map_batches import BATCH, map_batches

EXECUTORS = {"caller": lambda: nullcontext(None), "threads": lambda: ThreadPoolExecutor(3)}


@given(count=st.integers(0, 200), size=st.integers(1, 70), threads=st.integers(0, 3))
def test_every_record_is_mapped_once_in_order(count: int, size: int, threads: int) -> None:
    """All batches are full but the last; their records are all records in order."""
    with ThreadPoolExecutor(threads) if threads else nullcontext(None) as executor:
        batches = list(map_batches(list, range(count), executor, size=size))

    assert list(range(count)) == [record for batch in batches for record in batch]
    assert all(size == len(batch) for batch in batches[:-1])
    assert all(batches)


@pytest.mark.parametrize("size", [1, 5, BATCH, 100])
def test_records_are_read_a_bounded_number_ahead(size: int) -> None:
    """Of a source without an end, no more is read than the results that were taken, and two batches of 32, need."""
    read = 0

    def records() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    with ThreadPoolExecutor(2) as executor:
        results = map_batches(sum, records(), executor, size=size)
        for taken in range(1, 6):
            next(results)
            assert read <= taken * size + max(2 * BATCH, size)
        results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", list(EXECUTORS))
def test_exception_comes_in_the_place_of_its_result(kind: str) -> None:
    """What lies before the failing batch is yielded, the exception follows, the rest is not."""

    def fail_at_seven(batch: list[int]) -> list[int]:
        if 7 in batch:
            raise OSError("seven")
        return batch

    got: list[list[int]] = []
    with EXECUTORS[kind]() as executor, pytest.raises(OSError, match="seven"):
        for result in map_batches(fail_at_seven, range(12), executor, size=3):
            got.append(result)

    assert [[0, 1, 2], [3, 4, 5]] == got


def test_abandoned_map_cancels_what_has_not_begun() -> None:
    """Closing the iterator while one thread is busy runs nothing more than what that thread has begun."""
    begun: list[int] = []
    first, go_on = threading.Event(), threading.Event()

    def work(batch: list[int]) -> list[int]:
        begun.extend(batch)
        if batch == [1]:
            first.set()
            assert go_on.wait(60)
        return batch

    with ThreadPoolExecutor(1) as executor:
        results = map_batches(work, range(1000), executor, size=1)
        assert [0] == next(results)
        assert first.wait(60)
        results.close()  # type: ignore[attr-defined]
        go_on.set()

    assert [0, 1] == begun


def test_processes_are_executors_too() -> None:
    """The function and its records go to another process and come back in order."""
    executor: Executor
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        assert [6, 22, 38] == list(map_batches(sum, range(12), executor, size=4))
