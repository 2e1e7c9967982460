"""The client and `python -m service predict`, against a real gateway process."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from service.client import FoveaClient, FoveaError
from service.predict import main
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.pictures import COLOURS, encode, truncated_jpeg


@pytest.fixture
def url(gateway: tuple[ServiceProcess, str]) -> str:
    """Where a gateway answers."""
    return gateway[1]


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
    """What is served can be asked for."""
    with FoveaClient(url) as client:
        assert ["colours"] == [model["name"] for model in client.models()]


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


def test_command_prints_json(url: str, pictures: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """--json is the reply as it came."""
    assert 0 == main([pictures[0], "--url", url, "--json", "--model", "colours"])
    assert "red" == json.loads(capsys.readouterr().out)["predictions"][0]["top"][0]["id"]


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
        ([], 2, "python -m service predict: error: the following arguments are required: IMAGE"),
    ],
    ids=["model", "top", "file", "no-service", "top-no-number", "no-image"],
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
        with FoveaClient(f"http://127.0.0.1:{address[1]}", timeout_s=10) as client:
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
