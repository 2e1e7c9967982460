"""The threads that decode: bounded, in order, and not for those who have left."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import numpy as np
import pytest

from contract.image import decode_image
from contract.model import InputSpec
from service.gateway.decoding import Decoder
from service.gateway.errors import RefusedImageError
from tests.helpers.pictures import COLOURS, encode

SPEC = InputSpec(height=16, width=16)


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    """Two threads."""
    threads = Decoder(threads=2, max_pixels=10_000)
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

    def count(event: str, data: bytes) -> None:
        nonlocal running, most
        with lock:
            running += 1 if event == "call" else -1
            most = max(most, running)
        threading.Event().wait(0.005)

    with watched_decoding(count):
        asyncio.run(decoder.decode([encode("red")] * 20, SPEC))

    assert 1 <= most <= 2


@pytest.mark.parametrize(("size", "is_quiet", "on_loop"), [(40, True, True), (40, False, False), (900, True, False)])
def test_a_small_image_is_decoded_on_the_loop_while_nobody_else_is_here(
    size: int, is_quiet: bool, on_loop: bool
) -> None:
    """A large one, or one of many, goes to a thread; the pixels are the same."""
    before = set(threading.enumerate())
    decoder = Decoder(threads=1, max_pixels=1_000_000, is_quiet=lambda: is_quiet)
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
        decoder = Decoder(threads=1, max_pixels=10_000, is_quiet=lambda is_quiet=is_quiet: is_quiet)
        (refused,) = asyncio.run(decoder.decode([image], SPEC))
        decoder.close()
        assert isinstance(refused, RefusedImageError)
        errors.append(str(refused))
    assert errors[0] == errors[1]


def test_images_of_a_caller_that_left_are_not_decoded() -> None:
    """What waits is dropped; what has begun ends, and nobody minds."""
    begun, go_on = threading.Event(), threading.Event()
    decoded: list[bytes] = []

    def wait(event: str, data: bytes) -> None:
        if event == "call":
            decoded.append(data)
            begun.set()
            go_on.wait(60)

    async def run() -> None:
        decoder = Decoder(threads=1, max_pixels=10_000)
        leaving = asyncio.create_task(decoder.decode([b"begun", b"waits", b"waits too"], SPEC))
        await asyncio.to_thread(begun.wait, 60)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        staying = asyncio.create_task(decoder.decode([b"stays"], SPEC))
        go_on.set()
        await staying
        decoder.close()

    with watched_decoding(wait):
        asyncio.run(run())

    assert [b"begun", b"stays"] == decoded


def test_fault_of_ours_reaches_the_request_and_the_thread_lives(decoder: Decoder) -> None:
    """One request fails with what went wrong, here an array where bytes belong; the next one is answered."""
    for _ in range(3):
        with pytest.raises(ValueError, match="truth value of an array"):
            asyncio.run(decoder.decode([np.zeros(2, np.uint8)], SPEC))  # type: ignore[list-item]

    assert (16, 16, 3) == asyncio.run(decoder.decode([encode("red")], SPEC))[0].shape  # type: ignore[union-attr]


@contextlib.contextmanager
def watched_decoding(note: Callable[[str, bytes], None]) -> Iterator[None]:
    """Tell of every "call" and "return" of `decode_image` and its bytes, on its own thread, before it goes on.

    Only threads that start meanwhile are watched.
    """

    def profile(frame: FrameType, event: str, _: object) -> None:
        if frame.f_code is decode_image.__code__ and event in ("call", "return"):
            note(event, frame.f_locals["data"])

    threading.setprofile(profile)
    try:
        yield
    finally:
        threading.setprofile(None)
