"""The decoder: bounded in threads and in work, in order, and not for those who have left."""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from types import FrameType

import numpy as np
import pytest

from contract.image import OpenImage, decode_image, open_image
from contract.model import InputSpec
from service.gateway.context.errors import RefusedImageError, TooMuchDecodingError
from service.gateway.images.decoding import Decoder
from tests.helpers.pictures import COLOURS, encode

SPEC = InputSpec(height=16, width=16)


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    """Two threads."""
    threads = Decoder(threads=2, max_pixels=10_000, budget_s=1)
    yield threads
    threads.close()


def test_images_come_back_in_their_order_with_their_errors(decoder: Decoder) -> None:
    """However many there are beyond the threads."""
    images = [encode(colour) for colour in COLOURS] * 20
    images[7], images[30] = b"not an image", encode("red", size=101)
    results = asyncio.run(decoder.decode(images, SPEC))

    assert {7, 30} == {n for n, result in enumerate(results) if isinstance(result, RefusedImageError)}
    for n, result in enumerate(results):
        if not isinstance(result, RefusedImageError):
            np.testing.assert_array_equal(decode_image(images[n], SPEC), result)


def test_no_more_are_decoded_at_once_than_there_are_threads(decoder: Decoder) -> None:
    """Memory is bounded by that number."""
    lock, running, most = threading.Lock(), 0, 0

    def count(event: str, _: FrameType) -> None:
        nonlocal running, most
        with lock:
            running += 1 if event == "call" else -1
            most = max(most, running)
        threading.Event().wait(0.005)

    with watched(OpenImage.decode, count):
        asyncio.run(decoder.decode([encode("red")] * 20, SPEC))

    assert 1 <= most <= 2


@pytest.mark.parametrize(("size", "is_quiet", "on_loop"), [(40, True, True), (40, False, False), (900, True, False)])
def test_a_small_image_is_decoded_on_the_loop_while_nobody_else_is_here(
    size: int, is_quiet: bool, on_loop: bool
) -> None:
    """A large one, or one of many, goes to a thread; the pixels are the same."""
    before = set(threading.enumerate())
    decoder = Decoder(threads=1, max_pixels=1_000_000, budget_s=1, is_quiet=lambda: is_quiet)
    image = encode("red", size=size)
    (pixels,) = asyncio.run(decoder.decode([image], SPEC))
    started = set(threading.enumerate()) - before
    decoder.close()
    np.testing.assert_array_equal(decode_image(image, SPEC), pixels)
    assert on_loop == (not started)


@pytest.mark.parametrize("image", [b"not an image", encode("red", size=101)], ids=["broken", "too large"])
def test_what_is_refused_is_refused_on_the_loop_as_well(image: bytes) -> None:
    """With the same error as from a thread."""
    errors = []
    for is_quiet in (True, False):
        decoder = Decoder(threads=1, max_pixels=10_000, budget_s=1, is_quiet=lambda is_quiet=is_quiet: is_quiet)
        (refused,) = asyncio.run(decoder.decode([image], SPEC))
        decoder.close()
        assert isinstance(refused, RefusedImageError)
        errors.append(str(refused))
    assert errors[0] == errors[1]


def test_images_of_a_caller_that_left_are_not_decoded() -> None:
    """Waiting images are dropped; decoding that has begun ends, without an error."""
    begun, go_on = threading.Event(), threading.Event()
    opened: list[bytes] = []

    def wait(event: str, frame: FrameType) -> None:
        if event == "call":
            opened.append(frame.f_locals["data"])
            begun.set()
            go_on.wait(60)

    async def run() -> None:
        decoder = Decoder(threads=1, max_pixels=10_000, budget_s=1)
        leaving = asyncio.gather(*(decoder.decode([data], SPEC) for data in (b"begun", b"waits", b"waits too")))
        await asyncio.to_thread(begun.wait, 60)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        staying = asyncio.create_task(decoder.decode([b"stays"], SPEC))
        go_on.set()
        await staying
        decoder.close()

    with watched(open_image, wait):
        asyncio.run(run())

    assert [b"begun", b"stays"] == opened


def test_fault_of_ours_reaches_the_request_and_the_thread_lives(decoder: Decoder) -> None:
    """One request fails with what went wrong, here an array where bytes belong; the next one is answered."""
    for _ in range(3):
        with pytest.raises(ValueError, match="truth value of an array"):
            asyncio.run(decoder.decode([np.zeros(2, np.uint8)], SPEC))  # type: ignore[list-item]

    assert (16, 16, 3) == asyncio.run(decoder.decode([encode("red")], SPEC))[0].shape  # type: ignore[union-attr]


def bomb(side: int) -> bytes:
    """Return a PNG whose header declares side x side transparent pixels, and which holds none."""
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("is_quiet", [False, True])
def test_an_image_beyond_the_budget_is_413_in_words(is_quiet: bool) -> None:
    """From its header: nothing is decoded, on whichever thread."""
    decoded: list[str] = []
    decoder = Decoder(threads=1, max_pixels=80_000_000, budget_s=0.4, is_quiet=lambda: is_quiet)
    with watched(OpenImage.decode, lambda event, _: decoded.append(event)):
        (refused,) = asyncio.run(decoder.decode([bomb(8900)], SPEC))
        decoder.close()

    assert isinstance(refused, RefusedImageError)
    assert (413, "image_too_large") == (refused.status_code, refused.code)
    assert re.search(
        r"about \d\.\d\d s; the limit is 0.4 s \(FOVEA_DECODE_BUDGET_S\).* PNG, 8900 x 8900, RGBA", str(refused)
    )
    assert [] == decoded


def test_images_of_a_request_add_up() -> None:
    """Each within the budget, together beyond it: the request is refused, whole; one that is refused does not count."""
    image = encode("red", size=100)
    seconds = open_image(image, SPEC).seconds
    decoder = Decoder(threads=2, max_pixels=80_000_000, budget_s=4.5 * seconds)
    four = asyncio.run(decoder.decode([image] * 4, SPEC))
    five = asyncio.run(decoder.decode([*[image] * 4, bomb(8000)], SPEC))
    with pytest.raises(TooMuchDecodingError, match=r"5 images .* \(FOVEA_DECODE_BUDGET_S\); send fewer"):
        asyncio.run(decoder.decode([image] * 5, SPEC))
    decoder.close()

    assert not any(isinstance(result, RefusedImageError) for result in four)
    assert [False] * 4 + [True] == [isinstance(result, RefusedImageError) for result in five]


def test_callers_take_turns_at_the_decoder() -> None:
    """Sixteen images of one caller are in the queue; another's only image is decoded after the one that has begun."""
    begun, go_on = threading.Event(), threading.Event()
    opened: list[bytes] = []

    def wait(event: str, frame: FrameType) -> None:
        if event == "call":
            opened.append(frame.f_locals["data"])
            begun.set()
            go_on.wait(60)

    async def run() -> None:
        decoder = Decoder(threads=1, max_pixels=10_000, budget_s=1)
        many = [asyncio.create_task(decoder.decode([b"a%d" % n], SPEC, caller="key a")) for n in range(16)]
        await asyncio.to_thread(begun.wait, 60)
        one = asyncio.create_task(decoder.decode([b"b"], SPEC, caller="key b"))
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(one, *many)
        decoder.close()

    with watched(open_image, wait):
        asyncio.run(run())

    assert [b"a0", b"b", *(b"a%d" % n for n in range(1, 16))] == opened


@pytest.mark.parametrize("threads", [1, 2])
def test_small_images_are_decoded_while_every_thread_has_a_large_one(threads: int) -> None:
    """One further thread takes nothing above a tenth of the budget."""
    small, large = encode("red", size=20), encode("red", size=1500)
    budget_s = 2 * open_image(large, SPEC).seconds
    begun, go_on = threading.Semaphore(0), threading.Event()

    def wait(event: str, frame: FrameType) -> None:
        if event == "call" and frame.f_locals["self"].size == (1500, 1500):
            begun.release()
            go_on.wait(60)

    async def run() -> list[object]:
        decoder = Decoder(threads=threads, max_pixels=10_000_000, budget_s=budget_s)
        held = [asyncio.create_task(decoder.decode([large], SPEC, caller="key a")) for _ in range(threads + 2)]
        for _ in range(threads):
            await asyncio.to_thread(begun.acquire, timeout=60)
        async with asyncio.timeout(60):
            results: list[object] = [(await decoder.decode([small], SPEC, caller="key b"))[0] for _ in range(3)]
        assert not any(task.done() for task in held)
        go_on.set()
        await asyncio.gather(*held)
        decoder.close()
        return results

    with watched(OpenImage.decode, wait):
        results = asyncio.run(run())

    assert all(isinstance(result, np.ndarray) for result in results)


@contextlib.contextmanager
def watched(function: Callable[..., object], note: Callable[[str, FrameType], None]) -> Iterator[None]:
    """Tell of every "call" and "return" of a function and its frame, on its own thread, before it goes on.

    Only threads that start meanwhile are watched.
    """

    def profile(frame: FrameType, event: str, _: object) -> None:
        if frame.f_code is function.__code__ and event in ("call", "return"):
            note(event, frame)

    threading.setprofile(profile)
    try:
        yield
    finally:
        threading.setprofile(None)
