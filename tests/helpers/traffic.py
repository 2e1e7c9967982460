"""Clients that know what their own pictures must be answered with, and keep count of what they got."""

from __future__ import annotations

import base64
import functools
import http.client
import io
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from tests.helpers.tiny_model import VARIANTS, expected_probabilities

TOLERANCE = 1e-4
PATIENCE_S = 120.0  # of a client; what takes longer hangs
NO_IMAGE = b"this is no image"
_SIDE = 32

Colour = tuple[int, int, int]


def random_colour(chance: random.Random) -> Colour:
    """Return a greyish colour: the tiny model's probabilities of it are those of hardly any other."""
    red, green, blue = (chance.randint(100, 156) for _ in range(3))
    return red, green, blue


@functools.cache
def encode_colour(colour: Colour) -> bytes:
    """Return a PNG full of a colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (_SIDE, _SIDE), colour).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def is_answer(entry: Mapping[str, Any], colour: Colour) -> bool:
    """True if an entry of a reply is the right answer of each variant of the tiny model to a colour."""
    labels = VARIANTS["plain"].labels
    values = expected_probabilities(np.array(colour, np.uint8).reshape(1, 1, 1, 3), labels)[0]
    got = {item["id"]: item["probability"] for item in entry.get("top", ())}
    return got.keys() == set(labels) and all(
        abs(got[label] - value) <= TOLERANCE for label, value in zip(labels, values, strict=True)
    )


@dataclass
class Ledger:
    """The observations of clients; written under its lock.

    Attributes:
        replies: by the gateway's URL and HTTP status.
        codes: replies that are errors by the code in them.
        answers: images by version and class.
        wrong: answers that were not the picture's own, and replies that no client should get.
        lost: requests that ended without a reply.
        moved: requests that another gateway was asked, by the error of the first.
        no_retry_after: 429 and 503 that do not say when to try again.
        latencies: (when it was answered, seconds it took) of every 200, by the monotonic clock.
    """

    replies: Counter[tuple[str, int]] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    moved: Counter[str] = field(default_factory=Counter)
    no_retry_after: int = 0
    latencies: list[tuple[float, float]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def statuses(self) -> Counter[int]:
        """Replies by HTTP status."""
        statuses: Counter[int] = Counter()
        for (_, status), count in list(self.replies.items()):
            statuses[status] += count
        return statuses

    def enter(self, url: str, colours: Sequence[Colour], reply: tuple[int, Any, bool], seconds: float) -> None:
        """Count a reply and compare every image's entry with what a model must say of it.

        Args:
            url: of the gateway.
            colours: of the request's images.
            reply: status, JSON, and whether it has Retry-After.
            seconds: that it took.
        """
        status, body, may_retry = reply
        with self.lock:
            self.replies[url, status] += 1
            if status != 200:
                self.codes[body["error"]["code"]] += 1
                self.no_retry_after += status in (429, 503) and not may_retry
                return
            self.latencies.append((time.monotonic(), seconds))
            version = body["model"]["version"]
            for colour, entry in zip(colours, body["predictions"], strict=True):
                if not is_answer(entry, colour):
                    self.wrong.append(f"{colour} by version {version}: {entry}")
                else:
                    self.answers[version, entry["top"][0]["id"]] += 1


def post_images(
    url: str, images: Sequence[bytes], *, query: str = "", headers: Mapping[str, str] | None = None
) -> tuple[int, Any, bool]:
    """Send images on a connection of their own; return status, JSON, and whether there is a Retry-After.

    Raises:
        OSError: if there is no reply; http.client.HTTPException: if it is not whole.
    """
    body = json.dumps({"images": [{"b64": base64.b64encode(image).decode()} for image in images]})
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)
    try:
        connection.request("POST", f"/v1/predict{query}", body, {"content-type": "application/json", **(headers or {})})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read()), reply.headers.get("retry-after") is not None
    finally:
        connection.close()


@contextmanager
def traffic(*urls: str, num_clients: int = 4, pause_s: float = 0.0) -> Iterator[Ledger]:
    """Send requests of one to three pictures from several clients while the block runs.

    Args:
        urls: of gateways; a client whose gateway is gone asks the next one.
        num_clients: that ask at a time, each for itself.
        pause_s: between a client's requests.
    """
    ledger, stop = Ledger(), threading.Event()

    def run(number: int) -> None:
        chance = random.Random(number)
        mine = [*urls[number % len(urls) :], *urls[: number % len(urls)]]
        while not stop.wait(pause_s):
            colours = [random_colour(chance) for _ in range(chance.randint(1, 3))]
            _ask(mine, colours, ledger)

    with ThreadPoolExecutor(num_clients) as pool:
        clients = [pool.submit(run, number) for number in range(num_clients)]
        try:
            yield ledger
        finally:
            stop.set()
            for client in clients:
                client.result(2 * PATIENCE_S)


def _ask(urls: list[str], colours: list[Colour], ledger: Ledger) -> None:
    images = [encode_colour(colour) for colour in colours]
    for url in urls:
        started = time.monotonic()
        try:
            reply = post_images(url, images)
        except (OSError, http.client.HTTPException) as err:
            with ledger.lock:
                ledger.lost.append(f"{url}: {err!r}") if url == urls[-1] else ledger.moved.update([type(err).__name__])
            continue
        return ledger.enter(url, colours, reply, time.monotonic() - started)


def wait_until(condition: Any, *, timeout_s: float = 120.0) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: if it does not come true.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the condition did not come true")
        time.sleep(0.05)
