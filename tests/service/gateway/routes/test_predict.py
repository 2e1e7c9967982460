"""POST /v1/predict: bodies, parameters, replies, refusals."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from starlette.testclient import TestClient

from contract.store import ModelStore
from tests.helpers.pictures import COLOURS, encode, png_bomb, truncated_jpeg
from tests.helpers.scripted_backend import ScriptedBackend
from tests.helpers.tiny_model import VARIANTS, build_contract, build_image, expected_probabilities
from tests.service.conftest import publish_empty
from tests.service.gateway.conftest import StartGateway, wait_until_ready


def tops(reply: Any) -> list[str | None]:
    """Return the most probable class of each image, None for those refused."""
    return [entry["top"][0]["id"] if "top" in entry else None for entry in reply.json()["predictions"]]


def test_reply_names_model_version_contract_and_classes(client: TestClient) -> None:
    """The whole reply is what the API documents, with float32's digits."""
    reply = client.post("/v1/predict", content=encode("red"), headers={"x-request-id": "abc-1"})

    values = expected_probabilities(build_image("red", 16)[None], VARIANTS["plain"].labels)[0]
    expected = {
        "model": {
            "name": "colours",
            "version": 1,
            "contract": build_contract(VARIANTS["plain"]).sha256,
            "precision": "float32",
        },
        "predictions": [
            {
                "name": "image",
                "top": [
                    {"index": 2, "id": "red", "label": "Red", "probability": float(str(values[2]))},
                    {"index": 0, "id": "blue", "label": "Blue", "probability": float(str(values[0]))},
                    {"index": 1, "id": "green", "label": "Green", "probability": float(str(values[1]))},
                ],
                "warnings": [],
            }
        ],
        "request_id": "abc-1",
    }
    assert (200, expected) == (reply.status_code, reply.json())


@pytest.mark.parametrize(
    "content_type", ["image/png", "application/octet-stream", "application/x-www-form-urlencoded", None]
)
def test_raw_body_is_one_image_whatever_its_type_says(client: TestClient, content_type: str | None) -> None:
    """A body that is neither a form with files nor JSON is an image; curl calls it a form."""
    headers = {} if content_type is None else {"content-type": content_type}
    reply = client.post("/v1/predict", content=encode("green"), headers=headers)

    assert ["green"] == tops(reply)


def test_multipart_files_are_answered_in_order_under_their_names(client: TestClient) -> None:
    """Every part named `file` is an image."""
    files = [("file", (f"{colour}.png", encode(colour))) for colour in COLOURS]
    reply = client.post("/v1/predict", files=files)

    assert list(COLOURS) == tops(reply)
    assert ["red.png", "green.png", "blue.png"] == [entry["name"] for entry in reply.json()["predictions"]]


def test_json_images_are_answered_in_order(client: TestClient) -> None:
    """JSON has base64, and names if wanted."""
    images = [{"b64": base64.b64encode(encode(colour)).decode()} for colour in COLOURS]
    reply = client.post("/v1/predict", json={"images": [{**images[0], "name": "eye"}, *images[1:]]})

    assert list(COLOURS) == tops(reply)
    assert ["eye", "images[1]", "images[2]"] == [entry["name"] for entry in reply.json()["predictions"]]


def test_large_json_is_read_too(client: TestClient) -> None:
    """JSON above the size that is parsed in place is parsed in a thread, with the same result."""
    picture = encode("blue", "BMP", size=256)
    reply = client.post("/v1/predict", json={"images": [{"b64": base64.b64encode(picture).decode()}]})

    assert ["blue"] == tops(reply)


@pytest.mark.parametrize(("top", "count"), [(1, 1), (2, 2), (3, 3), (None, 3)])
def test_top_says_how_many_classes(client: TestClient, top: int | None, count: int) -> None:
    """`top` is the number of classes of each image; 3 if it is left out."""
    reply = client.post("/v1/predict", params={} if top is None else {"top": top}, content=encode("red"))

    assert count == len(reply.json()["predictions"][0]["top"])


@pytest.mark.parametrize("top", ["0", "4", "-1", "x", "1.5", "99999999999999999999"])
def test_top_out_of_range_is_422(client: TestClient, top: str) -> None:
    """`top` beyond 1 to the number of classes is refused, not clipped."""
    reply = client.post("/v1/predict", params={"top": top}, content=encode("red"))

    assert (422, "invalid_value") == (reply.status_code, reply.json()["error"]["code"])
    assert reply.json()["error"]["message"].startswith("top: ")


def test_bad_images_among_good_ones_have_errors_of_their_own(client: TestClient) -> None:
    """One bad image does not spoil the others."""
    files = [
        ("file", ("a.png", encode("red"))),
        ("file", ("b.png", b"plain text")),
        ("file", ("c.png", encode("blue"))),
    ]
    reply = client.post("/v1/predict", files=files)

    assert (200, ["red", None, "blue"]) == (reply.status_code, tops(reply))
    assert "unsupported_image" == reply.json()["predictions"][1]["error"]["code"]


def test_only_bad_images_give_the_first_ones_error(client: TestClient) -> None:
    """If no image can be read, the reply is an error."""
    reply = client.post("/v1/predict", files=[("file", ("a.jpg", truncated_jpeg())), ("file", ("b.png", b"text"))])

    assert (400, "undecodable_image") == (reply.status_code, reply.json()["error"]["code"])


BAD_IMAGES = [
    pytest.param(b"", 400, "empty_image", id="empty"),
    pytest.param(b"<!doctype html><p>not found</p>", 415, "unsupported_image", id="html"),
    pytest.param(b"just some text", 415, "unsupported_image", id="text"),
    pytest.param(truncated_jpeg(), 400, "undecodable_image", id="truncated-jpeg"),
    pytest.param(encode("red")[:60], 400, "undecodable_image", id="truncated-png"),
    pytest.param(png_bomb(), 413, "image_too_large", id="900-megapixel-png"),
    pytest.param(b"\0" * 128 + b"DICM" + b"\0" * 100, 400, "undecodable_image", id="dicom"),
    pytest.param(b"\0\0\0\x18ftypheic" + b"\0" * 100, 400, "undecodable_image", id="heic"),
]


@pytest.mark.parametrize(("body", "status", "code"), BAD_IMAGES)
@pytest.mark.parametrize("how", ["raw", "multipart", "json"])
def test_bad_image_is_refused_and_the_next_request_is_answered(
    client: TestClient, body: bytes, status: int, code: str, how: str
) -> None:
    """Each kind of bad image has its status and code, however it is sent, and harms nothing."""
    if how == "raw":
        reply = client.post("/v1/predict", content=body)
    elif how == "multipart":
        reply = client.post("/v1/predict", files={"file": ("eye.png", body)})
    else:
        reply = client.post("/v1/predict", json={"images": [{"b64": base64.b64encode(body).decode()}]})

    assert (status, code) == (reply.status_code, reply.json()["error"]["code"])
    assert reply.headers["x-request-id"] == reply.json()["error"]["request_id"]
    assert ["red"] == tops(client.post("/v1/predict", content=encode("red")))


def test_pixel_bomb_is_small() -> None:
    """The bomb above is what it claims to be: few bytes, many pixels."""
    assert len(png_bomb()) < 200_000


BAD_BODIES = [
    pytest.param(b"{", "application/json", id="json-cut-off"),
    pytest.param(b"[]", "application/json", id="json-list"),
    pytest.param(b"", "application/json", id="json-empty"),
    pytest.param(b"\xff\xfe", "application/json", id="json-not-utf8"),
    pytest.param(b'{"images": []}', "application/json", id="no-images"),
    pytest.param(b'{"images": [{"b64": "%%%"}]}', "application/json", id="not-base64"),
    pytest.param(b'{"images": [{"b64": "\xc3\xa9"}]}', "application/json", id="not-ascii"),
    pytest.param(b'{"images": [{"b64": 3}]}', "application/json", id="b64-a-number"),
    pytest.param(b'{"images": [{"url": "http://x"}]}', "application/json", id="unknown-key"),
    pytest.param(b'{"instances": []}', "application/json", id="other-api"),
    pytest.param(b'{"images": ' + b"[" * 100_000, "application/json", id="deep-json"),
    pytest.param(b"x", "multipart/form-data", id="no-boundary"),
    pytest.param(b"x", "multipart/form-data; boundary=abc", id="not-multipart"),
    pytest.param(b"x", "multipart/form-data; boundary=" + "b" * 400, id="endless-boundary"),
    pytest.param(b"--abc--\r\n", "multipart/form-data; boundary=abc", id="no-parts"),
    pytest.param(
        b'--abc\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nxyz',
        "multipart/form-data; boundary=abc",
        id="cut-off-part",
    ),
    pytest.param(
        b'--abc\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\nxyz\r\n--abc--\r\n',
        "multipart/form-data; boundary=abc",
        id="wrong-field",
    ),
    pytest.param(
        b"--abc\r\n" + b"X-Pad: 1\r\n" * 50 + b"\r\nxyz\r\n--abc--\r\n",
        "multipart/form-data; boundary=abc",
        id="many-part-headers",
    ),
]


@pytest.mark.parametrize(("body", "content_type"), BAD_BODIES)
def test_malformed_body_is_400(client: TestClient, body: bytes, content_type: str) -> None:
    """A body that is not what its type says is refused, with a reason."""
    reply = client.post("/v1/predict", content=body, headers={"content-type": content_type})

    assert (400, "malformed_request") == (reply.status_code, reply.json()["error"]["code"])


def test_part_without_a_file_name_is_an_image_too(client: TestClient) -> None:
    """Some clients send fields, not files."""
    body = b'--abc\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + encode("red") + b"\r\n--abc--\r\n"
    reply = client.post("/v1/predict", content=body, headers={"content-type": "multipart/form-data; boundary=abc"})

    assert (["red"], "file[0]") == (tops(reply), reply.json()["predictions"][0]["name"])


def test_compressed_body_is_415(client: TestClient) -> None:
    """A compressed body is named as such, not taken for a bad image."""
    reply = client.post("/v1/predict", content=encode("red"), headers={"content-encoding": "br"})

    assert (415, "unsupported_encoding") == (reply.status_code, reply.json()["error"]["code"])


@pytest.mark.parametrize("value", ["12x", "-5", ""])
def test_content_length_that_is_no_number_is_400(client: TestClient, value: str) -> None:
    """A length that cannot be read is not trusted."""
    reply = client.post("/v1/predict", content=encode("red"), headers={"content-length": value})

    assert 400 == reply.status_code


def test_too_many_images_are_413(start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore) -> None:
    """One request holds at most `max_images`, in both forms that can hold several."""
    client = start_gateway(backend=backend.address, models_dir=index.root, max_images=2)
    wait_until_ready(client)
    picture = encode("red")
    form = client.post("/v1/predict", files=[("file", ("a.png", picture))] * 3)
    text = client.post("/v1/predict", json={"images": [{"b64": base64.b64encode(picture).decode()}] * 3})

    assert [(413, "too_many_images")] * 2 == [(r.status_code, r.json()["error"]["code"]) for r in (form, text)]
    assert ["red", "red"] == tops(client.post("/v1/predict", files=[("file", ("a.png", picture))] * 2))


def test_large_request_is_split_at_the_batch_limit(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """All images of a request go to the model server in calls of at most `max_batch`, and come back in order."""
    client = start_gateway(backend=backend.address, models_dir=index.root, max_batch=4)
    wait_until_ready(client)
    backend.predictions.clear()
    colours = [COLOURS[i % 3] for i in range(10)]
    reply = client.post("/v1/predict", files=[("file", (f"{i}.png", encode(c))) for i, c in enumerate(colours)])

    assert colours == tops(reply)
    assert [("colours", 1, 2), ("colours", 1, 4), ("colours", 1, 4)] == sorted(backend.predictions, key=str)


def test_model_may_be_left_out_only_when_one_is_served(
    client: TestClient, index: ModelStore, backend: ScriptedBackend
) -> None:
    """With several models, a request must name one."""
    backend.versions["shapes", 1] = backend.versions["colours", 1]
    publish_empty(index, "shapes")
    wait_for_model(client, "shapes")

    reply = client.post("/v1/predict", content=encode("red"))
    assert (422, "invalid_value") == (reply.status_code, reply.json()["error"]["code"])
    assert "colours, shapes" in reply.json()["error"]["message"]
    named = client.post("/v1/predict", params={"model": "shapes"}, content=encode("red"))
    assert (200, "shapes") == (named.status_code, named.json()["model"]["name"])


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        pytest.param({"model": "other"}, 404, "model_not_found", id="model"),
        pytest.param({"model": "../etc"}, 404, "model_not_found", id="model-a-path"),
        pytest.param({"version": 7}, 404, "version_not_found", id="version"),
        pytest.param({"label": "candidate"}, 404, "label_not_found", id="label"),
        pytest.param({"label": "stable"}, 404, "label_not_found", id="label-unknown"),
        pytest.param({"version": 0}, 422, "invalid_value", id="version-zero"),
        pytest.param({"version": "x"}, 422, "invalid_value", id="version-no-number"),
        pytest.param({"version": 1, "label": "live"}, 422, "invalid_value", id="version-and-label"),
        pytest.param({"model": "x" * 65}, 422, "invalid_value", id="model-too-long"),
        pytest.param({"model": ""}, 422, "invalid_value", id="model-empty"),
        pytest.param({"topk": 3}, 422, "invalid_value", id="unknown-parameter"),
    ],
)
def test_wrong_parameter_is_refused(client: TestClient, params: dict[str, Any], status: int, code: str) -> None:
    """Unknown names are 404, values out of range 422."""
    reply = client.post("/v1/predict", params=params, content=encode("red"))

    assert (status, code) == (reply.status_code, reply.json()["error"]["code"])


@pytest.mark.parametrize("params", [{"version": 1}, {"label": "live"}, {"model": "colours"}])
def test_version_and_label_choose_what_answers(client: TestClient, params: dict[str, Any]) -> None:
    """The version that a request names by number, label or model answers."""
    reply = client.post("/v1/predict", params=params, content=encode("blue"))

    assert (["blue"], 1) == (tops(reply), reply.json()["model"]["version"])


def wait_for_model(client: TestClient, name: str) -> None:
    """Wait until the gateway has read a model from the index; its reading is at most 20 ms old here."""
    for _ in range(500):
        if name in {model["name"] for model in client.get("/v1/models").json()["models"]}:
            return
    raise TimeoutError(name)
