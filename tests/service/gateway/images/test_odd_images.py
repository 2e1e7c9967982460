"""Image files of every kind are read, or refused with a reason."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.helpers.extras import hide_package
from tests.helpers.odd_images import broken, picture, readable, unreadable, write

REFUSED = {400: {"empty_image", "undecodable_image"}, 413: {"image_too_large"}, 415: {"unsupported_image"}}


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in readable()])
def test_readable_files_are_answered(shared_client: TestClient, data: bytes) -> None:
    """Every mode of the allowed formats; of several frames or pages the first."""
    reply = shared_client.post("/v1/predict", content=data)

    assert 200 == reply.status_code, reply.text


@pytest.mark.parametrize(
    ("data", "status"), [pytest.param(data, status, id=name) for name, data, status in unreadable()]
)
def test_unreadable_files_are_refused(shared_client: TestClient, data: bytes, status: int) -> None:
    """Other formats 415, broken files 400, too large ones 413, on both routes."""
    for route in ("predict", "explain"):
        reply = shared_client.post(f"/v1/{route}", content=data)
        assert status == reply.status_code, reply.text
        assert reply.json()["error"]["code"] in REFUSED[status]
        assert "/" not in reply.json()["error"]["message"].replace("and/or", "")


def test_formats_without_their_extra_name_it_and_a_way_round(
    shared_client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a DICOM or HEIC file gives the next step."""
    files = {name: data for name, data, _ in unreadable()}
    for name, words, package in (("dicom", "DICOM", "pydicom"), ("heic", "HEIC", "pi_heif")):
        hide_package(monkeypatch, package)
        reply = shared_client.post("/v1/predict", content=files[name])
        assert (415, "unsupported_image") == (reply.status_code, reply.json()["error"]["code"])
        message = reply.json()["error"]["message"]
        assert words in message
        assert f"extra '{name}'" in message
        assert "convert it to PNG or JPEG" in message


def test_broken_files_never_fail_the_gateway(shared_client: TestClient) -> None:
    """Cut off or changed anywhere: read or refused, in one request with a good one that is answered all the same."""
    statuses = set()
    for name, data in broken():
        files = [("file", (name, data)), ("file", ("good", write(picture(), "PNG")))]
        reply = shared_client.post("/v1/predict", files=files)
        assert 200 == reply.status_code, name
        bad, good = reply.json()["predictions"]
        assert "top" in good
        statuses.add("top" if "top" in bad else bad["error"]["code"])

    assert {"top", "undecodable_image"} <= statuses <= {"top", *REFUSED[400], *REFUSED[413], *REFUSED[415]}


def test_orientation_is_applied_and_the_first_frame_taken(shared_client: TestClient) -> None:
    """Of an animation or several pages, the model sees the same as of the first alone."""

    def probabilities(data: bytes) -> list[float]:
        reply = shared_client.post("/v1/predict", content=data).json()
        return [item["probability"] for item in reply["predictions"][0]["top"]]

    red = Image.fromarray(np.full((20, 20, 3), [200, 20, 20], np.uint8))
    blue = Image.fromarray(np.full((20, 20, 3), [20, 20, 200], np.uint8))
    for kind in ("GIF", "TIFF", "PNG", "WEBP"):
        buffer = io.BytesIO()
        red.save(buffer, kind, save_all=True, append_images=[blue])
        assert probabilities(write(red, "PNG")) == pytest.approx(probabilities(buffer.getvalue()), abs=0.05), kind
