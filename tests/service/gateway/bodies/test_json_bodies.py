"""Large JSON bodies: parsed elsewhere to the same values, bounded, and survived."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
from starlette.testclient import TestClient

from service.gateway.bodies.json_bodies import JsonBodies
from service.gateway.bodies.json_document import decode_base64, echo, load_object
from service.gateway.bodies.json_reader import JsonReader
from service.gateway.context.errors import InvalidArgumentError, TooMuchJsonError, UnavailableError
from service.gateway.http.json_text import dump_arrays, to_json
from tests.service.gateway.conftest import StartGateway

LONG = 160_000  # numbers; more than the gateway parses itself
NUMBERS = list(range(LONG))


@pytest.fixture(scope="module")
def reader() -> Iterator[JsonReader]:
    """One for all tests of the module, and its helper process."""
    parses = JsonReader(max_values=3_000_000)
    yield parses
    parses.close()


def helpers() -> set[psutil.Process]:
    """Return the helper processes of this one."""
    return {child for child in psutil.Process().children() if "service.gateway.bodies.json_helper" in child.cmdline()}


def plain(value: Any) -> Any:
    """Return what JSON would have given, without arrays."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


DOCUMENTS: dict[str, Any] = {
    "integers": {"a": NUMBERS},
    "negative": {"a": [-n for n in NUMBERS]},
    "wide": {"a": [n * 2**40 for n in NUMBERS]},
    "unsigned": {"a": [2**63 + n for n in NUMBERS]},
    "too wide": {"a": [2**64, *NUMBERS]},
    "floats": {"a": [n / 7 for n in NUMBERS]},
    "mixed numbers": {"a": [n if n % 2 else n / 2 for n in NUMBERS]},
    "booleans": {"a": [n % 3 == 0 for n in NUMBERS]},
    "nested": {"a": np.arange(LONG).reshape(16, 100, 100).tolist()},
    "ragged": {"a": [[1] * 50_000, [2] * 60_000, [3] * 60_000]},
    "a text among numbers": {"a": [[1] * 100_000, [*range(50_000), "x"], [2] * 50_001]},
    "null among numbers": {"a": [[1] * 150_000, [None]]},
    "objects": {"a": [{"x": [1] * 100_000, "y": [2] * 60_000}, {"x": "text", "y": {"b64": "AA=="}}]},
    "texts": {"a": [str(n) for n in range(160_000)]},
    "a long text": {"a": "é\n" * 600_000},
    "empty lists": {"a": [[]] * 100_000, "b": NUMBERS},
    "short lists": {"a": [1, 2, 3], "b": NUMBERS, "c": [[1.5]]},
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_helper_parses_to_the_same_values(reader: JsonReader, name: str) -> None:
    """Arrays stand for lists of numbers; nothing else differs from the standard library's parser."""
    body = json.dumps(DOCUMENTS[name]).encode()

    assert load_object(body) == plain(reader.load(body))


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": [' + b"1," * LONG + b"]}",
        b'{"a": [' + b"1," * LONG + b"1]",
        b'{"a": [' + b"1," * LONG + b"01]}",
        b'{"a": [' + b"1," * LONG + b"1]} 2",
        b"[" + b"1," * LONG + b"1]",
        b'"' + b"a" * 600_000 + b'"',
        b" " * 600_000,
        b'{"a": "\xff' + b"a" * 600_000 + b'"}',
        b'{"a": [' + b"1," * LONG + b"7" * 5000 + b"]}",
        b'{"a": ' + b"[" * LONG + b"]" * LONG + b"}",
    ],
    ids=["comma", "open", "zero", "more", "list", "text", "spaces", "utf8", "digits", "deep"],
)
def test_helper_refuses_with_the_same_words(reader: JsonReader, body: bytes) -> None:
    """An error of syntax has its place."""
    with pytest.raises(InvalidArgumentError) as own:
        load_object(body)
    with pytest.raises(InvalidArgumentError) as theirs:
        reader.load(body)

    assert str(own.value) == str(theirs.value)


def test_small_bodies_start_no_process() -> None:
    """They are parsed at once."""
    small = JsonReader(max_values=1000)
    before = helpers()
    try:
        assert {"a": [1, 2]} == small.load(b'{"a": [1, 2]}')
        assert before == helpers()
    finally:
        small.close()


@pytest.mark.parametrize(
    "body",
    [b'{"a": [' + b"1," * 1000 + b"1]}", b'{"a": [' + b"[]," * 500 + b"[]]}", b'{"a": ' + b'{"b":' * 1001],
    ids=["numbers", "lists", "objects"],
)
def test_more_values_than_the_limit_are_413_in_words(body: bytes) -> None:
    """Before anything is parsed; the words name the setting and what costs less."""
    small = JsonReader(max_values=1000)
    with pytest.raises(TooMuchJsonError, match=r"1,0\d\d values; the limit is 1,000 \(FOVEA_MAX_JSON_VALUES\).*base64"):
        small.load(body)


def test_very_many_texts_and_objects_are_413(reader: JsonReader) -> None:
    """They would have to be handed back one by one."""
    with pytest.raises(TooMuchJsonError, match="values that are not numbers"):
        reader.load(b'{"a": [' + b"{}," * 400_000 + b"{}]}")


def test_helper_that_is_killed_is_started_again(reader: JsonReader) -> None:
    """The next body does not notice; neither does one that is being parsed."""
    body = json.dumps(DOCUMENTS["integers"]).encode()
    reader.load(body)
    (helper,) = helpers()
    helper.kill()
    helper.wait(30)
    assert NUMBERS == reader.load(body)["a"].tolist()
    (helper,) = helpers()
    helper.suspend()
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(reader.load(body)))
    thread.start()
    helper.kill()
    thread.join(60)

    assert NUMBERS == found[0]["a"].tolist()


def test_helper_that_cannot_start_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine has no process to give, or the interpreter is gone; later bodies are parsed."""
    parses = JsonReader(max_values=3_000_000)
    body = json.dumps(DOCUMENTS["integers"]).encode()
    with monkeypatch.context() as context:
        context.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(UnavailableError):
            parses.load(body)
    try:
        assert NUMBERS == parses.load(body)["a"].tolist()
    finally:
        parses.close()


@pytest.mark.parametrize("body", [b'{"a": "%s"}', b'{"%s": 1}', b'{"a": [1, {"b": "%s"}]}'])
def test_half_of_a_surrogate_pair_is_no_text(reader: JsonReader, body: bytes) -> None:
    """It is not valid Unicode, and reading a pickle of millions of them takes seconds."""
    with pytest.raises(InvalidArgumentError):
        reader.load(body % (b"\\ud800" * 100_000))


def test_closing_ends_the_helper_while_it_parses() -> None:
    """The body that is being parsed is refused; no process is left."""
    parses = JsonReader(max_values=3_000_000)
    body = json.dumps(DOCUMENTS["integers"]).encode()
    before = helpers()
    parses.load(body)
    (helper,) = helpers() - before
    helper.suspend()
    errors: list[Exception] = []

    def load() -> None:
        try:
            parses.load(body)
        except UnavailableError as err:
            errors.append(err)

    thread = threading.Thread(target=load)
    thread.start()
    parses.close()
    thread.join(60)

    assert not thread.is_alive()
    assert 1 == len(errors)
    assert not helper.is_running()


def test_bodies_of_middle_size_do_not_wait_for_large_ones() -> None:
    """While the helper is busy, what needs none is parsed."""

    async def run() -> None:
        bodies = JsonBodies(max_values=3_000_000)
        body = json.dumps(DOCUMENTS["integers"]).encode()
        before = helpers()
        await bodies.read(body, lambda data, load: load(data))
        (helper,) = helpers() - before
        helper.suspend()
        large = asyncio.ensure_future(bodies.read(body, lambda data, load: load(data)))
        middle = json.dumps({"a": "x" * 100_000}).encode()
        async with asyncio.timeout(60):
            for _ in range(3):
                assert {"a"} == (await bodies.read(middle, lambda data, load: load(data))).keys()
        assert not large.done()
        helper.resume()
        assert NUMBERS == (await large)["a"].tolist()
        bodies.close()

    asyncio.run(run())


@pytest.mark.parametrize("size", [0, 1, 2, 3, 1 << 19, (1 << 19) + 1, 3 << 19])
def test_base64_is_decoded_in_pieces(size: int) -> None:
    """To the same bytes, and padding may stand at the end alone."""
    data = np.random.default_rng(size).bytes(size)
    text = base64.b64encode(data).decode()

    assert data == decode_base64(text)
    for wrong in ("=" + text, text + "A", text + "é", text[: 1 << 19] + "====AAAA" + text[1 << 19 :]):
        with pytest.raises(ValueError):
            decode_base64(wrong)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.uint8, np.bool_, object])
@pytest.mark.parametrize(
    "shape", [(), (0,), (3,), (20_000,), (3, 0), (2, 9_000), (9_000, 2), (40, 30, 20), (1, 1, 8_193)]
)
def test_replies_are_written_in_pieces(dtype: Any, shape: tuple[int, ...]) -> None:
    """To the same text as in one."""
    rng = np.random.default_rng(0)
    array = (rng.random(shape) * 100).astype(np.float64 if dtype is object else dtype)
    if dtype is object:
        array = np.array([str(number).encode() for number in array.reshape(-1)], dtype=object).reshape(shape)
    output = to_json("x", array)

    expected = {"outputs": output.tolist(), "more": [{"y": output.tolist()}], "none": {}, "text": "é"}
    written = {"outputs": output, "more": [{"y": output}], "none": {}, "text": "é"}
    assert json.dumps(expected, separators=(",", ":")) == dump_arrays(written)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.arange(1000), "[0, 1, 2, 3"),
        (np.ones((300, 300)), "[[1.0, 1.0"),
        (np.uint8(7), "7"),
        ([np.arange(3), "a"], '[[0, 1, 2], "a"]'),
        ({"a": list(range(10**6))}, '{"a": [0, 1'),
    ],
)
def test_errors_show_the_beginning_of_a_value(value: Any, text: str) -> None:
    """An array as the list that it stands for."""
    assert echo(value).startswith(text)
    assert len(echo(value)) <= 67


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/v1/models/colours:predict", b'{"instances": [' + b"1," * 2000 + b"1]}"),
        ("/v2/models/colours/infer", b'{"inputs": [' + b"1," * 2000 + b"1]}"),
        ("/v1/predict", b'{"images": [' + b"1," * 20_000 + b"1]}"),
        ("/v1/explain", b'{"images": [' + b"1," * 20_000 + b"1]}"),
    ],
)
def test_every_route_bounds_its_values(start_gateway: StartGateway, path: str, content: bytes) -> None:
    """413 with the setting's name, however the body is small."""
    client: TestClient = start_gateway(models=("colours",), max_json_values=1000)
    reply = client.post(path, content=content, headers={"content-type": "application/json"})

    assert 413 == reply.status_code
    assert "FOVEA_MAX_JSON_VALUES" in reply.text
