"""The client and `python -m service predict`, against a real gateway process."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.store import ModelStore
from service.client import AsyncFoveaClient, FoveaClient, FoveaError
from service.key import main as key_command
from service.predict import format_table, main
from service.results import ClassProbability, ImagePrediction, PredictResult
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.pictures import COLOURS, encode, truncated_jpeg
from tests.helpers.scripted_backend import ScriptedBackend, scripted
from tests.service.conftest import StartProcess, publish_empty


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a gateway answers; one for all tests here, since none of them changes anything."""
    root = tmp_path_factory.mktemp("client")
    store = ModelStore(root / "models")
    publish_empty(store)
    with ScriptedBackend(root / "backend.sock") as backend:
        backend.versions["colours", 1] = scripted()
        process = ServiceProcess(
            ["gateway", f"--models-dir={store.root}", f"--backend={backend.address}", "--port=0"], root
        )
        try:
            address = process.wait_for_url()
            process.wait_until_ready(address)
            yield address
        finally:
            process.stop()


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Paths of a red, a green and a blue picture."""
    paths = [tmp_path / f"{colour}.png" for colour in COLOURS]
    for path, colour in zip(paths, COLOURS, strict=True):
        path.write_bytes(encode(colour))
    return [str(path) for path in paths]


def test_client_classifies_files_and_bytes(url: str, pictures: list[str]) -> None:
    """Paths and bytes are taken alike, answers come in the same order."""
    with FoveaClient(url) as client:
        result = client.predict([*pictures, encode("red")], label="live", top=1)

    assert ("colours", 1) == (result.model, result.version)
    assert ["red", "green", "blue", "red"] == [prediction.top[0].id for prediction in result.predictions]
    assert ["red.png", "green.png", "blue.png", "image[3]"] == [prediction.name for prediction in result.predictions]
    assert result.contract.startswith("sha256:") and result.request_id


def test_client_tells_refused_images_from_answered_ones(url: str) -> None:
    """A refused image has an error and no classes."""
    with FoveaClient(url) as client:
        good, bad = client.predict([encode("red"), truncated_jpeg()]).predictions

    assert (3, None) == (len(good.top), good.error)
    assert (0, True) == (len(bad.top), "truncated" in str(bad.error))


def test_client_raises_what_the_service_says(url: str) -> None:
    """Code, status and message are the service's."""
    with FoveaClient(url) as client, pytest.raises(FoveaError, match="no model 'other' is served") as caught:
        client.predict([encode("red")], model="other")

    assert ("model_not_found", 404) == (caught.value.code, caught.value.status_code)


def test_client_lists_models(url: str) -> None:
    """Served models can be listed."""
    with FoveaClient(url) as client:
        (listed,) = client.models()
        described = client.model("colours")

    assert ("colours", {"live": 1}, None) == (listed.name, dict(listed.labels), listed.contract)
    (version,) = described.versions
    assert (1, "AVAILABLE", ("live",)) == (version.version, version.state, version.labels)
    assert described.contract is not None
    assert ["blue", "green", "red"] == [label["id"] for label in described.contract["labels"]]


def test_client_explains(url: str) -> None:
    """The class asked for, a grid of numbers, and the same as a picture."""
    with FoveaClient(url) as client:
        result = client.explain([encode("red"), truncated_jpeg()], class_="blue")
        heat_map = client.heat_map(encode("red"), class_="blue", version=1)

    good, bad = result.explanations
    assert good.explained is not None
    assert ("blue", "red") == (good.explained.id, good.top[0].id)
    assert len(good.saliency) > 1
    assert all(0 <= value <= 1 for row in good.saliency for value in row)
    assert (None, (), True) == (bad.explained, bad.saliency, bad.error_code is not None)
    assert heat_map.png.startswith(b"\x89PNG")
    assert ("colours", 1, good.explained.index) == (heat_map.model, heat_map.version, heat_map.class_index)


def test_client_knows_when_the_service_is_ready(url: str) -> None:
    """The model that answers, and its version."""
    with FoveaClient(url) as client:
        assert {"colours": 1} == client.wait_until_ready().models
        assert client.ready()


def test_async_client_does_the_same(url: str, pictures: list[str]) -> None:
    """Many requests at once on one connection pool, each with its own answer."""

    async def run() -> None:
        async with AsyncFoveaClient(url) as client:
            results = await asyncio.gather(*(client.predict([path], top=1) for path in pictures * 4))
            assert ["red", "green", "blue"] * 4 == [result.predictions[0].top[0].id for result in results]
            assert ["colours"] == [model.name for model in await client.models()]
            assert 1 == (await client.model("colours")).labels["live"]
            assert await client.ready()
            (explanation,) = (await client.explain([pictures[0]])).explanations
            assert explanation.explained is not None
            assert "red" == explanation.explained.id
            assert (await client.heat_map(pictures[0])).png
            with pytest.raises(FoveaError, match="no version 7"):
                await client.predict([pictures[0]], version=7)

    asyncio.run(run())


def test_client_says_that_nothing_answers() -> None:
    """No service is an error of the same kind."""
    with FoveaClient(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(FoveaError) as caught:
        client.predict([b"x"])

    assert "unreachable" == caught.value.code


def test_client_wants_images() -> None:
    """An empty list is a mistake of the caller."""
    with FoveaClient() as client, pytest.raises(ValueError, match="at least one"):
        client.predict([])


def test_command_prints_a_table(url: str, pictures: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each image and class, most probable first."""
    status = main([*pictures, "--url", url, "--top", "2"])
    lines = capsys.readouterr().out.splitlines()

    assert (0, "colours version 1", 7) == (status, lines[0], len(lines))
    assert ["red.png", "99.89", "%", "Red"] == lines[1].split()
    assert lines[2].startswith(" " * 9)


def test_the_table_never_rounds_doubt_away() -> None:
    """Neither to certainty nor to nothing; only what is certain is shown so."""
    top = tuple(ClassProbability(0, "a", "A", value) for value in (1.0, 0.99996, 0.5, 0.00004, 0.0))
    table = format_table(PredictResult("m", 1, "", "", {}, (ImagePrediction("eye.png", top, None),)))

    shown = [line.removeprefix("eye.png").rpartition("A")[0].strip() for line in table.splitlines()[1:]]
    assert ["100.00 %", ">99.99 %", "50.00 %", "<0.01 %", "0.00 %"] == shown


def test_command_prints_json(url: str, pictures: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """--json is the reply as it came."""
    assert 0 == main([pictures[0], "--url", url, "--json", "--model", "colours"])
    assert "red" == json.loads(capsys.readouterr().out)["predictions"][0]["top"][0]["id"]


def test_command_writes_where_the_class_was_seen(
    url: str, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--explain is a picture beside the table; --class chooses whose."""
    out = tmp_path / "heat.png"

    assert 0 == main([pictures[0], "--url", url, "--explain", str(out), "--class", "green", "--label", "live"])

    assert "Red" in capsys.readouterr().out
    assert out.read_bytes().startswith(b"\x89PNG")


def test_command_takes_the_key_from_a_file(
    start_process: StartProcess,
    backend: ScriptedBackend,
    index: ModelStore,
    pictures: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where a service wants a key, one without is refused with a reason and one with it is answered."""
    keys, secret = tmp_path / "keys.json", tmp_path / "secret"
    assert 0 == key_command(["add", "me", "--keys", str(keys)])
    secret.write_text(capsys.readouterr().out)
    flags = [f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0", f"--keys-file={keys}"]
    process = start_process("gateway", *flags)
    guarded = process.wait_for_url()
    process.wait_until_ready(guarded)

    assert 1 == main([pictures[0], "--url", guarded])
    assert "key" in capsys.readouterr().err
    assert 0 == main([pictures[0], "--url", guarded, "--key-file", str(secret)])
    assert 0 == main([pictures[0], "--url", guarded, "--key", secret.read_text().strip(), "--version", "1"])
    assert "Red" in capsys.readouterr().out


def test_command_with_a_refused_image_is_status_1(
    url: str, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are printed all the same."""
    broken = tmp_path / "notes.png"
    broken.write_text("text")
    status = main([pictures[0], str(broken), "--url", url])
    printed = capsys.readouterr()

    assert 1 == status
    assert "notes.png  refused: expected JPEG" in printed.out
    assert "predict: 1 of 2 images were refused" == printed.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["{red}", "--url", "{url}", "--model", "x"], 1, "predict: no model 'x' is served; GET /v1/models lists those"),
        (["{red}", "--url", "{url}", "--top", "9"], 1, "predict: top: expected 1 to 3"),
        (["missing.png", "--url", "{url}"], 1, "predict: missing.png: No such file or directory"),
        (["{red}", "--url", "http://127.0.0.1:{closed}"], 1, "predict: no answer from http://127.0.0.1"),
        (["{red}", "--top", "many"], 2, "python -m service predict: error: argument --top"),
        (["{red}", "--url", "{url}", "--version", "7"], 1, "predict: colours has no version 7"),
        (["{red}", "--url", "{url}", "--explain", "x.png", "--class", "grey"], 1, "predict: class: expected a class"),
        (["{red}", "--key-file", "missing.key"], 1, "predict: missing.key: No such file or directory"),
        (["{red}", "--ca-file", "missing.pem"], 1, "predict: missing.pem: No such file or directory"),
        (["{red}", "{red}", "--explain", "x.png"], 2, "python -m service predict: error: --explain: expected one"),
        (["{red}", "--class", "red"], 2, "python -m service predict: error: --class: expected --explain"),
        ([], 2, "python -m service predict: error: the following arguments are required: IMAGE"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_command_says_what_is_wrong_on_its_last_line(
    url: str,
    pictures: list[str],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    reason: str,
) -> None:
    """Failures are status 1, wrong use is 2."""
    words = [word.format(red=pictures[0], url=url, closed=free_port()) for word in arguments]

    assert status == main(words)
    assert capsys.readouterr().err.splitlines()[-1].startswith(reason)


def test_something_else_that_answers_is_not_taken_for_the_service() -> None:
    """A reply that is not Fovea's is called that."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with FoveaClient(f"http://127.0.0.1:{address[1]}", timeout_s=60) as client:
            answer_once(listener)
            with pytest.raises(FoveaError) as caught:
                client.models()

    assert ("not_fovea", 200) == (caught.value.code, caught.value.status_code)


def answer_once(listener: socket.socket) -> None:
    """Answer the next connection with a page, in a thread."""

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage")

    threading.Thread(target=answer, daemon=True).start()


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_feedback_is_given_and_taken_back(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore, tmp_path: Path
) -> None:
    """Both clients; without consent nothing is sent, and where no feedback is taken the service says so."""
    kept = tmp_path / "kept"
    flags = [f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0", f"--feedback-dir={kept}"]
    process = start_process("gateway", *flags)
    url = process.wait_for_url()
    process.wait_until_ready(url)
    with FoveaClient(url) as client:
        prediction = client.predict([encode("red")])
        given = client.feedback(encode("red"), "blue", consent=True, request_id=prediction.request_id, note="unclear")
        assert 1 == len(list((kept / "colours/blue").iterdir()))
        client.delete_feedback(given)
        assert [] == list((kept / "colours/blue").glob("*"))
        with pytest.raises(FoveaError) as caught:
            client.delete_feedback(given)
        with pytest.raises(ValueError, match="consent"):
            client.feedback(encode("red"), "blue", consent=False)

    async def run() -> None:
        async with AsyncFoveaClient(url) as client:
            await client.delete_feedback(await client.feedback(encode("green"), "green", consent=True))

    asyncio.run(run())
    assert 404 == caught.value.status_code


def test_service_without_feedback_says_so(url: str) -> None:
    """It is off by default."""
    with FoveaClient(url) as client, pytest.raises(FoveaError, match="no feedback is taken here"):
        client.feedback(encode("red"), "blue", consent=True)
