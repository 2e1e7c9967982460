"""Maps images: a callable over batches of records, in order, on an executor or in the caller's thread."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

BATCH = 32
_AHEAD = 2 * BATCH  # records that may be worked on before their results are needed

Record = TypeVar("Record")
Result = TypeVar("Result")


def map_batches(
    function: Callable[[list[Record]], Result],
    records: Iterable[Record],
    executor: Executor | None = None,
    *,
    size: int = BATCH,
) -> Iterator[Result]:
    """Yield `function(batch)` for batches of records, in order.

    Records are read as they are needed, a bounded number ahead of the results, so memory does not grow with their
    number. An exception of the function is raised in place of its result; what has not begun is then cancelled.

    Args:
        function: takes at most `size` records; for an executor of processes it must be picklable.
        records: any number.
        executor: runs the function; None runs it in this thread. The caller shuts it down.
        size: records a call; the last call may have fewer.
    """
    iterator = iter(records)
    batches = iter(lambda: list(itertools.islice(iterator, size)), [])
    if executor is None:
        yield from map(function, batches)
        return
    waiting: deque[Future[Result]] = deque()
    try:
        for batch in batches:
            waiting.append(executor.submit(function, batch))
            if len(waiting) * size >= _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
