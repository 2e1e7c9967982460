"""Bodies as they come: compressed, endless, cut short, in pieces."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

import httpx2
import psutil
import pytest
from starlette.testclient import TestClient

from tests.helpers.gateway_process import ServiceProcess, predict
from tests.helpers.pictures import encode
from tests.service.gateway.conftest import StartGateway

GZIP = {"content-encoding": "gzip"}
DEFLATE = {"content-encoding": "deflate"}


def code_of(reply: httpx2.Response) -> tuple[int, str]:
    return reply.status_code, reply.json().get("error", {}).get("code", "none")


@pytest.mark.parametrize("form", ["BMP", "PNG"])
def test_gzip_body_is_inflated(client: TestClient, form: str) -> None:
    """A compressed image is the image."""
    plain = client.post("/v1/predict", content=encode("red", form))
    packed = client.post("/v1/predict", content=gzip.compress(encode("red", form)), headers=GZIP)

    assert 200 == packed.status_code
    assert plain.json()["predictions"] == packed.json()["predictions"]


def test_gzip_form_and_json_are_inflated(client: TestClient) -> None:
    """The encoding is of the whole body, whatever is in it."""
    request = client.build_request("POST", "/v1/predict", files={"file": ("a.png", encode("green"))})
    content = gzip.compress(request.read())
    form = client.post(
        "/v1/predict", content=content, headers={**GZIP, "content-type": request.headers["content-type"]}
    )
    broken = client.post(
        "/v1/predict", content=gzip.compress(b"{"), headers={**GZIP, "content-type": "application/json"}
    )

    assert "green" == form.json()["predictions"][0]["top"][0]["id"]
    assert (400, "malformed_request") == code_of(broken)


def test_several_gzip_members_are_one_body(client: TestClient) -> None:
    """As `cat a.gz b.gz` makes them."""
    image = encode("blue")
    reply = client.post("/v1/predict", content=gzip.compress(image[:50]) + gzip.compress(image[50:]), headers=GZIP)

    assert "blue" == reply.json()["predictions"][0]["top"][0]["id"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"not gzip at all", id="not-gzip"),
        pytest.param(b"", id="nothing"),
        pytest.param(gzip.compress(b"x" * 1000)[:-9], id="cut-short"),
        pytest.param(gzip.compress(b"x" * 1000)[:-8] + bytes(8), id="wrong-checksum"),
        pytest.param(zlib.compress(b"x" * 1000), id="zlib"),
        pytest.param(gzip.compress(b"x") + b"rest", id="something-after-it"),
        pytest.param(gzip.compress(b"") * 1000, id="a-thousand-members"),
    ],
)
def test_broken_gzip_is_400(client: TestClient, body: bytes) -> None:
    """Bodies that do not inflate to their end are refused, and so are bodies made to cost time."""
    assert (400, "malformed_request") == code_of(client.post("/v1/predict", content=body, headers=GZIP))


def deflate(data: bytes, wbits: int = 15) -> bytes:
    """Return data in zlib's format, or bare with `wbits` -15."""
    packer = zlib.compressobj(9, wbits=wbits)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("wbits", [15, 12, 9, -15, -9])
@pytest.mark.parametrize("size", [1, 2, 1 << 20])
def test_deflate_is_zlibs_format_or_the_bare_one(client: TestClient, wbits: int, size: int) -> None:
    """Whatever the window, in pieces of one byte too."""
    body = deflate(encode("blue"), wbits)
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    reply = client.post("/v1/predict", content=pieces, headers=DEFLATE)

    assert "blue" == reply.json()["predictions"][0]["top"][0]["id"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"not deflate", id="something-else"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"x", id="a-byte"),
        pytest.param(gzip.compress(b"x" * 1000), id="gzip"),
        pytest.param(deflate(b"x" * 1000)[:-1], id="cut-short"),
        pytest.param(deflate(b"x" * 1000)[:-4] + bytes(4), id="wrong-checksum"),
        pytest.param(deflate(b"x" * 1000, -15)[:-2], id="bare-cut-short"),
        pytest.param(deflate(b"x") + b"rest", id="something-after-it"),
        pytest.param(deflate(b"x", -15) + b"rest", id="bare-something-after-it"),
        pytest.param(deflate(b"x") * 2, id="twice"),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_broken_deflate_is_400(client: TestClient, body: bytes, size: int) -> None:
    """Bodies that do not inflate to their end are refused, and so are bytes behind the end."""
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    assert (400, "malformed_request") == code_of(client.post("/v1/predict", content=pieces, headers=DEFLATE))


@pytest.mark.parametrize("size", [99_999, 100_000, 100_001])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_limit_holds_after_inflation(start_gateway: StartGateway, size: int, encoding: str) -> None:
    """The limit is in bytes of the inflated body, to the byte."""
    client = start_gateway(models=("none",), max_body_bytes=100_000)
    body = gzip.compress(bytes(size)) if encoding == "gzip" else deflate(bytes(size))
    reply = client.post("/v1/predict", content=body, headers={"content-encoding": encoding})

    assert ((413, "body_too_large") == code_of(reply)) == (size > 100_000)


def test_gzip_bomb_costs_no_memory(gateway: tuple[ServiceProcess, str]) -> None:
    """One megabyte that inflates to a gigabyte is cut off at the limit of 32 MiB."""
    process, url = gateway
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(1024)), packer.flush()])
    before = psutil.Process(process.process.pid).memory_info().rss
    reply = httpx2.post(f"{url}/v1/predict", content=bomb, headers=GZIP, timeout=60, trust_env=False)
    grown = psutil.Process(process.process.pid).memory_info().rss - before

    assert (413, "body_too_large") == code_of(reply)
    assert grown < 80e6
    assert 200 == predict(url, encode("red")).status_code


def test_other_encodings_are_415(client: TestClient) -> None:
    """Bytes that were not inflated are not read as an image."""
    for name in ("br", "compress", "gzip, gzip", "gzip, deflate", "zstd"):
        reply = client.post("/v1/predict", content=encode("red"), headers={"content-encoding": name})
        assert (415, "unsupported_encoding") == code_of(reply)


def test_body_in_many_pieces_is_read_whole(gateway: tuple[ServiceProcess, str]) -> None:
    """A chunked body of single bytes is slow, not wrong."""
    _, url = gateway

    def pieces() -> Iterator[bytes]:
        for value in encode("green"):
            yield bytes([value])

    reply = httpx2.post(f"{url}/v1/predict", content=pieces(), timeout=60, trust_env=False)

    assert "green" == reply.json()["predictions"][0]["top"][0]["id"]


def test_json_that_is_nested_deeply_is_400(client: TestClient) -> None:
    """A parser that recurses would end the process."""
    for body in (b"[" * 200_000, b'{"images":' * 100_000, b'{"images": [' + b'{"a":' * 50_000):
        reply = client.post("/v1/predict", content=body, headers={"content-type": "application/json"})
        assert (400, "malformed_request") == code_of(reply)
