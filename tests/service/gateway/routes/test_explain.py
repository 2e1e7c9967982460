"""POST /v1/explain: maps as numbers and as a picture, of the predicted or a chosen class."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import grpc
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from contract.model import InputSpec, Label, ModelContract, build_document
from service.gateway.http.content_negotiation import prefers
from service.gateway.inference.explanation import find_class
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend, quarters, scripted
from tests.helpers.tiny_model import VARIANTS, build_contract, build_image


def half_lit(size: int = 16) -> bytes:
    """Return a PNG whose upper half is dark and whose lower half is bright red."""
    image = build_image("red", size)
    image[: size // 2] = 0
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_reply_has_class_map_and_the_same_top_as_predict(client: TestClient) -> None:
    """The map is rows x columns, top row first; classes are those of /v1/predict."""
    explained = client.post("/v1/explain", content=half_lit())
    predicted = client.post("/v1/predict", content=half_lit())

    (entry,) = explained.json()["explanations"]
    expected = quarters(np.asarray(Image.open(io.BytesIO(half_lit())))[None])[0]
    assert 200 == explained.status_code
    assert predicted.json()["model"] == explained.json()["model"]
    assert predicted.json()["predictions"][0]["top"] == entry["top"]
    assert entry["top"][0] == entry["class"]
    assert (2, 2) == (entry["saliency"]["rows"], entry["saliency"]["columns"])
    assert np.abs(expected - entry["saliency"]["values"]).max() < 1e-4


@pytest.mark.parametrize(("wanted", "place"), [("green", 1), ("Green", 1), ("0", 0), ("2", 2)])
def test_a_class_is_chosen_by_id_name_or_index(
    client: TestClient, backend: ScriptedBackend, wanted: str, place: int
) -> None:
    """The model is asked for that class, and the reply names it with its probability."""
    reply = client.post("/v1/explain", params={"class": wanted, "top": 1}, content=encode("red"))

    (entry,) = reply.json()["explanations"]
    assert [[place]] == backend.explained
    assert (place, 1) == (entry["class"]["index"], len(entry["top"]))


def test_an_id_wins_over_a_name_and_a_name_over_an_index() -> None:
    """Classes that are called like the index of another are found by what they are called."""
    labels = [Label("a", "1"), Label("b", "b"), Label("0", "zero"), Label("d", "same"), Label("e", "same")]
    contract = ModelContract.from_document(build_document(labels, InputSpec(8, 8)))

    assert [0, 2, 1, 3] == [find_class(wanted, contract) for wanted in ("1", "0", "b", "3")]
    with pytest.raises(Exception, match="ids: d, e"):
        find_class("same", contract)


@pytest.mark.parametrize("wanted", ["purple", "3", "-1", "1.0", "\u0662", "9" * 200])
def test_an_unknown_class_is_422(client: TestClient, wanted: str) -> None:
    """A class that the model does not have is refused."""
    reply = client.post("/v1/explain", params={"class": wanted}, content=encode("red"))

    assert (422, "invalid_value") == (reply.status_code, reply.json()["error"]["code"])


def test_picture_is_the_input_in_grey_with_the_map_in_colour(client: TestClient) -> None:
    """With Accept: image/png the reply is a picture of at least 224 pixels a side, coloured where the map is high."""
    reply = client.post("/v1/explain", headers={"accept": "image/png"}, content=half_lit())

    picture = np.asarray(Image.open(io.BytesIO(reply.content)).convert("RGB"), np.int64)
    colourfulness = np.ptp(picture, axis=2)
    assert (200, "image/png") == (reply.status_code, reply.headers["content-type"])
    assert ("colours", "1", "2") == tuple(
        reply.headers[name] for name in ("x-model-name", "x-model-version", "x-class-index")
    )
    assert (224, 224, 3) == picture.shape
    assert 0 == colourfulness[:40].max()
    assert colourfulness[-40:].min() > 30


def test_several_images_make_no_picture(client: TestClient) -> None:
    """A picture shows one image."""
    files = [("file", (name, encode("red"))) for name in "ab"]
    reply = client.post("/v1/explain", headers={"accept": "image/png"}, files=files)

    assert (422, "invalid_value") == (reply.status_code, reply.json()["error"]["code"])


def test_bad_images_among_good_ones_have_errors_of_their_own(client: TestClient) -> None:
    """As with predict."""
    files = [("file", ("a", encode("red"))), ("file", ("b", b"text")), ("file", ("c", encode("blue")))]
    reply = client.post("/v1/explain", files=files)

    entries = reply.json()["explanations"]
    assert ["red", None, "blue"] == [entry["class"]["id"] if "class" in entry else None for entry in entries]
    assert "unsupported_image" == entries[1]["error"]["code"]


def test_only_bad_images_are_an_error(client: TestClient) -> None:
    """The first one's, also when a picture was asked for."""
    for accept in ("*/*", "image/png"):
        reply = client.post("/v1/explain", headers={"accept": accept}, content=b"text")
        assert (415, "unsupported_image") == (reply.status_code, reply.json()["error"]["code"])


def test_a_model_without_explanations_says_so(client: TestClient, backend: ScriptedBackend) -> None:
    """A contract with `"saliency": null` is 422 with a code of its own; predictions go on."""
    document = {**build_contract(VARIANTS["plain"]).document, "saliency": None}
    backend.versions["colours", 1] = replace(scripted(), contract=ModelContract.from_document(document))
    backend.stop()
    backend.start()  # a connection that was lost makes the gateway ask for the contract again

    deadline = time.monotonic() + 120
    while (reply := client.post("/v1/explain", content=encode("red"))).status_code != 422:
        assert time.monotonic() < deadline, reply.text
        time.sleep(0.02)

    assert 200 == client.post("/v1/predict", content=encode("red")).status_code
    assert (422, "no_explanation") == (reply.status_code, reply.json()["error"]["code"])


@pytest.mark.parametrize(
    "saliency",
    [
        pytest.param(lambda images: quarters(images)[:, 0], id="one-axis-short"),
        pytest.param(lambda images: quarters(images)[:0], id="no-map"),
        pytest.param(lambda images: quarters(images) + 2, id="above-1"),
        pytest.param(lambda images: quarters(images) * np.nan, id="nan"),
        pytest.param(lambda images: quarters(images).astype(np.int32), id="whole-numbers"),
    ],
)
def test_maps_that_break_the_contract_are_502(client: TestClient, backend: ScriptedBackend, saliency: object) -> None:
    """Outputs of the model server are checked."""
    backend.versions["colours", 1] = scripted(saliency=saliency)
    reply = client.post("/v1/explain", content=encode("red"))

    assert (502, "model_server_broke_contract") == (reply.status_code, reply.json()["error"]["code"])


def test_the_previous_version_explains_when_the_live_one_is_not_loaded(
    client: TestClient, backend: ScriptedBackend
) -> None:
    """Nothing to answer with is 503, like for predict."""
    backend.versions["colours", 1] = scripted(state="UNLOADING")
    reply = client.post("/v1/explain", content=encode("red"))
    assert (503, "model_not_ready") == (reply.status_code, reply.json()["error"]["code"])

    backend.versions["colours", 1] = scripted(fault=grpc.StatusCode.DEADLINE_EXCEEDED)
    reply = client.post("/v1/explain", content=encode("red"))
    assert (504, "deadline_exceeded") == (reply.status_code, reply.json()["error"]["code"])


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", False),
        ("image/png", True),
        ("image/*", True),
        ("image/png, */*;q=0.5", True),
        ("application/json, image/png;q=0.9", False),
        ("image/png;q=0", False),
        ("image/png;q=x", False),
        ("", False),
        ("image/avif,image/webp,image/png,*/*;q=0.8", True),
        (";;,,q=,", False),
    ],
)
def test_accept_headers_are_weighed(accept: str, expected: bool) -> None:
    """A picture is sent only to those who ask for one."""
    assert prefers(accept, "image/png", "application/json") is expected
