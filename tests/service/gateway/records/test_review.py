"""The review over HTTP: most doubtful first, accepted, corrected and deleted; closed without the right; bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from contract.heatmap import encode_png
from contract.store import ModelStore
from pipeline.data.ingest import ingest
from service.gateway.records.clean_images import CleanImage
from service.gateway.records.feedback_store import Feedback, FeedbackStore
from service.gateway.records.review_store import list_entries
from service.key import main as key_command
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend
from tests.service.gateway.conftest import StartGateway, wait_until_ready

ROUTES = [
    ("GET", "/v1/review"),
    ("POST", "/v1/review"),
    ("GET", "/v1/review/{id}/image"),
    ("PUT", "/v1/review/{id}"),
    ("DELETE", "/v1/review/{id}"),
]
NO_ID = "0" * 32
NEARLY_GREY = encode_png(np.full((16, 16, 3), (100, 100, 110), np.uint8))


def give(client: TestClient, label: str, image: bytes) -> str:
    """Send an image with a label; return its id."""
    reply = client.post("/v1/feedback", files={"file": image}, data={"label": label, "consent": "true"})
    assert 201 == reply.status_code, reply.text
    return str(reply.json()["id"])


def queue(client: TestClient, image: bytes) -> Any:
    """Send an image without a label."""
    return client.post("/v1/review", files={"file": image}, data={"consent": "true"})


def files(folder: Path) -> list[str]:
    """Return the kept images' paths, with the ids left out."""
    found = (path for path in folder.rglob("*") if path.suffix in (".png", ".jpg"))
    return sorted(f"{path.parent.relative_to(folder)}/*{path.suffix}" for path in found)


def test_most_doubtful_come_first_with_what_the_model_says(desk: TestClient, folder: Path) -> None:
    """A label that the model denies, then an image that it is unsure of, then one that it agrees with."""
    agreed = give(desk, "red", encode("red"))
    denied = give(desk, "blue", encode("green"))
    unsure = queue(desk, NEARLY_GREY).json()["id"]
    page = desk.get("/v1/review").json()

    by_id = {entry["id"]: entry for entry in page["entries"]}
    assert [denied, unsure, agreed] == list(by_id)
    assert ("green", "blue", False) == tuple(by_id[denied][key] for key in ("predicted", "label", "reviewed"))
    assert by_id[denied]["disagreement"] > 0.99 > 0.01 > by_id[agreed]["disagreement"]
    assert (None, "blue") == (by_id[unsure]["label"], by_id[unsure]["predicted"])
    for order, first in (("disagreement", denied), ("uncertainty", unsure), ("newest", unsure)):
        assert first == desk.get("/v1/review", params={"order": order, "limit": 1}).json()["entries"][0]["id"]
    assert {"waiting": 3, "unlabelled": 1, "reviewed": 0, "all": 3} == page["counts"]
    assert ["blue", "green", "red"] == [label["id"] for label in page["classes"]["colours"]]
    assert [".unlabelled/colours/*.png", "colours/blue/*.png", "colours/red/*.png"] == files(folder)


def test_counts_are_of_the_model_that_is_asked_for(desk: TestClient) -> None:
    """Without a model they are of all."""
    queue(desk, encode("red"))

    counts = [desk.get("/v1/review", params=params).json()["counts"]["all"] for params in ({"model": "other"}, {})]
    assert [0, 1] == counts


def test_refusals_name_the_limit_that_counts(desk: TestClient) -> None:
    """Limits of the review are no settings; a path names the methods of all its routes."""
    two = desk.post("/v1/review", files=[("file", encode("red"))] * 2, data={"consent": "true"})
    long = desk.put(f"/v1/review/{NO_ID}", content=b" " * 5000)
    patched = [desk.patch(path) for path in ("/v1/review", f"/v1/review/{NO_ID}", f"/v1/review/{NO_ID}/image")]

    assert (413, 413) == (two.status_code, long.status_code)
    assert "at most 1 part(s) named 'file'" in two.json()["error"]["message"]
    assert "limit of 4,096 bytes" in long.json()["error"]["message"]
    assert "FOVEA_" not in two.text + long.text
    assert ["GET, HEAD, POST", "DELETE, PUT", "GET, HEAD"] == [reply.headers["allow"] for reply in patched]


def test_accepted_and_corrected_images_are_where_training_looks(desk: TestClient, folder: Path) -> None:
    """A queued image is not in the set before it has a label; a corrected one leaves its old class."""
    wrong, new = give(desk, "blue", encode("green")), queue(desk, encode("red")).json()["id"]
    give(desk, "blue", encode("blue"))
    before = files(folder)
    statuses = [desk.put(f"/v1/review/{i}", json={"label": c}).status_code for i, c in ((wrong, "green"), (new, "Red"))]
    again = desk.put(f"/v1/review/{wrong}", json={"label": "green"})
    dataset = ingest(folder / "colours")

    assert [".unlabelled/colours/*.png", "colours/blue/*.png", "colours/blue/*.png"] == before
    assert [204, 204, 204] == [*statuses, again.status_code]
    assert ["colours/blue/*.png", "colours/green/*.png", "colours/red/*.png"] == files(folder)
    assert ("blue", "green", "red") == dataset.labels
    assert {"waiting": 1, "unlabelled": 0, "reviewed": 2, "all": 3} == desk.get("/v1/review").json()["counts"]
    assert 200 == desk.get(f"/v1/review/{new}/image").status_code


def test_image_is_shown_as_a_picture_and_deleted_for_good(desk: TestClient, folder: Path) -> None:
    """No cache keeps it, no browser takes it for a page; what is deleted is gone."""
    kept = queue(desk, encode("red")).json()["id"]
    shown = desk.get(f"/v1/review/{kept}/image")

    assert b"\x89PNG" == shown.content[:4]
    assert ("image/png", "no-store", "nosniff") == tuple(
        shown.headers[name] for name in ("content-type", "cache-control", "x-content-type-options")
    )
    assert 204 == desk.delete(f"/v1/review/{kept}").status_code
    assert [404, 404] == [
        desk.delete(f"/v1/review/{kept}").status_code,
        desk.get(f"/v1/review/{kept}/image").status_code,
    ]
    assert [] == files(folder)


def test_image_whose_file_was_removed_by_hand_is_not_found(desk: TestClient, folder: Path) -> None:
    """The reply says so, of the picture and of a correction; the entry can be deleted."""
    kept = give(desk, "blue", encode("green"))
    (file,) = folder.rglob("blue/*.png")
    file.unlink()
    replies = [desk.get(f"/v1/review/{kept}/image"), desk.put(f"/v1/review/{kept}", json={"label": "green"})]

    assert [404, 404] == [reply.status_code for reply in replies]
    assert all("gone from the folder" in reply.text for reply in replies)
    assert 204 == desk.delete(f"/v1/review/{kept}").status_code
    assert 0 == desk.get("/v1/review").json()["total"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "name", ["..", "../../index.sqlite3", "%2e%2e%2findex.sqlite3", "..%5cindex", "%00", "a" * 65, "' OR 1=1 --", NO_ID]
)
def test_no_id_leads_out_of_the_folder(desk: TestClient, folder: Path, method: str, name: str) -> None:
    """An id is looked up among the rows and never becomes a path."""
    give(desk, "red", encode("red"))
    path = f"/v1/review/{name}" + ("/image" if method == "GET" else "")
    reply = desk.request(method, path, json={"label": "blue"} if method == "PUT" else None)

    assert reply.status_code in (404, 405, 422), reply.text
    assert ["colours/red/*.png"] == files(folder)
    assert (folder / "index.sqlite3").is_file()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"label": "mauve"}', 422), (b'{"label": "../red"}', 422), (b'{"label": ""}', 422), (b"{}", 422),
        (b'{"label": "red", "x": 1}', 422), (b"no json", 400), (b"[]", 400), (b"{" + b" " * 5000, 413),
    ],
)  # fmt: skip
def test_labels_that_are_none_are_refused(desk: TestClient, folder: Path, body: bytes, status: int) -> None:
    """Only the model's classes are folders."""
    kept = queue(desk, encode("red")).json()["id"]

    assert status == desk.put(f"/v1/review/{kept}", content=body).status_code
    assert [".unlabelled/colours/*.png"] == files(folder)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_review_needs_its_own_right(
    start_gateway: StartGateway,
    backend: ScriptedBackend,
    index: ModelStore,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    method: str,
    path: str,
) -> None:
    """A key for predictions and feedback opens none of it; the page itself has no data and is open."""
    keys, secrets = tmp_path / "keys.json", {}
    for name, rights in (("clinic", "predict,feedback,metrics"), ("reviewer", "review")):
        assert 0 == key_command(["add", name, "--keys", str(keys), "--rights", rights])
        secrets[name] = capsys.readouterr().out.strip()
    client = start_gateway(backend=backend.address, models_dir=index.root, feedback_dir=folder, keys_file=keys)
    path = path.format(id=NO_ID)
    statuses = {
        name: client.request(method, path, headers={"x-api-key": secret}).status_code
        for name, secret in {**secrets, "none": ""}.items()
    }

    assert (403, 401) == (statuses["clinic"], statuses["none"])
    assert statuses["reviewer"] not in (401, 403)
    assert 200 == client.get("/review").status_code


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_other_sites_reach_nothing(desk: TestClient, method: str, path: str) -> None:
    """A browser that shows another site's page is refused, also where no keys are needed."""
    kept = queue(desk, encode("red")).json()["id"]
    reply = desk.request(method, path.format(id=kept), headers={"sec-fetch-site": "cross-site"})

    assert 403 == reply.status_code
    assert 200 == desk.get(f"/v1/review/{kept}/image").status_code


def test_where_no_feedback_is_taken_there_is_no_review(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore
) -> None:
    """The page learns so, and hides what needs it."""
    client = start_gateway(backend=backend.address, models_dir=index.root)

    assert [404] * 5 == [client.request(method, path.format(id=NO_ID)).status_code for method, path in ROUTES]
    assert {"feedback": False} == client.get("/web/features.json").json()


def test_full_folder_takes_no_more(
    start_gateway: StartGateway, backend: ScriptedBackend, index: ModelStore, folder: Path
) -> None:
    """The limit is named; what is there already is no new image."""
    client = start_gateway(backend=backend.address, models_dir=index.root, feedback_dir=folder, feedback_max_images=1)
    wait_until_ready(client)
    first = queue(client, encode("red"))
    refused = queue(client, encode("blue"))

    assert (201, 409) == (first.status_code, refused.status_code)
    assert "the limit is 1 (FOVEA_FEEDBACK_MAX_IMAGES)" in refused.json()["error"]["message"]
    assert first.json()["id"] == queue(client, encode("red")).json()["id"]
    assert first.json()["id"] == give(client, "red", encode("red"))
    assert ["colours/red/*.png"] == files(folder)


def test_a_restart_keeps_the_queue_and_an_older_folder_is_reviewed(folder: Path) -> None:
    """Rows that were written before there was a review have no judgement and come first."""
    store = FeedbackStore(folder, days=365)
    store.open()
    store.add(CleanImage(b"\x89PNG 1", ".png"), Feedback("colours", 1, "sha256:0", "red", None, None, None))
    store.add(CleanImage(b"\x89PNG 2", ".png"), Feedback("colours", 1, "sha256:0", "", None, None, None))
    reopened = FeedbackStore(folder, days=365)
    reopened.open()
    page = list_entries(reopened, state="waiting", model=None, order="doubt", limit=10, offset=0)

    assert [".unlabelled/colours/*.png", "colours/red/*.png"] == files(folder)
    assert [None, None] == [entry.predicted for entry in page.entries]
