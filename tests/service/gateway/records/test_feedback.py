"""Feedback over HTTP: kept without metadata where training finds it, deleted by id, and never by surprise."""

from __future__ import annotations

import io
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from contract.image import decode_image
from pipeline.data.ingest import ingest
from service.gateway.context.errors import StorageError
from service.gateway.records.clean_images import CleanImage
from service.gateway.records.feedback_store import Feedback, FeedbackStore, is_folder_name
from tests.helpers.pictures import COLOURS, encode, truncated_jpeg
from tests.helpers.scripted_backend import scripted
from tests.service.gateway.conftest import StartGateway

MADE = Feedback("colours", 1, "sha256:0", "red", None, None, None)
PNG = CleanImage(b"\x89PNG", ".png")


def give(client: TestClient, image: bytes | None = None, **texts: str) -> Any:
    """Send feedback: an image and texts beside `label=red` and `consent=true`."""
    files = {"file": ("Jane Doe.png", image or encode("red"))}
    return client.post("/v1/feedback", files=files, data={"label": "red", "consent": "true", **texts})


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return what the index has."""
    with sqlite3.connect(folder / "index.sqlite3") as connection:
        connection.row_factory = sqlite3.Row
        found = [dict(row) for row in connection.execute("SELECT * FROM feedback ORDER BY created")]
    connection.close()
    return found


def images(folder: Path) -> list[str]:
    """Return the images' paths, with the ids left out."""
    return sorted(f"{path.parent.relative_to(folder)}/*{path.suffix}" for path in folder.glob("*/*/*"))


def test_feedback_is_a_folder_to_train_on(desk: TestClient, folder: Path) -> None:
    """Each class has a folder by its id; the pipeline takes the model's folder as it is."""
    for colour in COLOURS:
        for size in (16, 20):
            assert 201 == give(desk, encode(colour, size=size), label=colour).status_code
    dataset = ingest(folder / "colours")

    assert tuple(sorted(COLOURS)) == dataset.labels
    assert 6 == len(dataset.examples)
    assert {} == dict(dataset.ignored)
    assert 0o700 == folder.stat().st_mode & 0o777
    assert {0o600} == {path.stat().st_mode & 0o777 for path in folder.glob("*/*/*")}


def test_everything_known_of_it_is_in_the_index(desk: TestClient, folder: Path) -> None:
    """Model, version, contract, label, request, note; never the file's name."""
    predicted = desk.post("/v1/predict", content=encode("red")).json()
    reply = give(desk, request_id=predicted["request_id"], note="seen by Dr. Who", model="colours", version="")
    (row,) = rows(folder)

    assert (201, "colours", "red") == (reply.status_code, reply.json()["model"], reply.json()["label"])
    assert reply.json()["request_id"] == reply.headers["x-request-id"]
    assert {
        "id": reply.json()["id"], "model": "colours", "version": 1, "contract": predicted["model"]["contract"],
        "label": "red", "request_id": predicted["request_id"], "note": "seen by Dr. Who", "consent": 1, "key": None,
    } == {name: row[name] for name in row if name not in ("created", "file", "sha256")}  # fmt: skip
    assert abs(time.time() - row["created"]) < 300
    assert (folder / row["file"]).is_file()
    assert not any(b"Jane" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_metadata_is_gone_and_the_picture_is_not(desk: TestClient, folder: Path) -> None:
    """A photograph turned by EXIF keeps its turn and loses the rest."""
    tags = Image.Exif()
    tags[0x0112], tags[0x010E] = 6, "Jane Doe"
    buffer = io.BytesIO()
    gradient = np.arange(64 * 48 * 3, dtype=np.uint32).reshape(48, 64, 3) % 251
    Image.fromarray(gradient.astype(np.uint8)).save(buffer, "JPEG", exif=tags)
    reply = give(desk, buffer.getvalue())
    stored = (folder / rows(folder)[0]["file"]).read_bytes()
    spec = scripted().contract.input

    assert 201 == reply.status_code
    assert b"Jane" in buffer.getvalue()
    assert b"Jane" not in stored
    assert np.array_equal(decode_image(buffer.getvalue(), spec), decode_image(stored, spec))


def test_deleted_by_id_without_a_trace(desk: TestClient, folder: Path) -> None:
    """Image, row, note and the empty folder of the class are gone; a second time there is nothing to delete."""
    kept = give(desk, encode("green"), label="green").json()["id"]
    doomed = give(desk, note="a note that nobody may read again").json()["id"]
    first, second = desk.delete(f"/v1/feedback/{doomed}"), desk.delete(f"/v1/feedback/{doomed}")

    assert (204, b"") == (first.status_code, first.content)
    assert (404, "feedback_not_found") == (second.status_code, second.json()["error"]["code"])
    assert [kept] == [row["id"] for row in rows(folder)]
    assert ["colours/green/*.png"] == images(folder)
    assert not (folder / "colours" / "red").exists()
    assert b"nobody may read" not in (folder / "index.sqlite3").read_bytes()


def test_same_image_is_kept_once_and_under_one_label(desk: TestClient, folder: Path) -> None:
    """Other metadata does not make it another image; another label is a contradiction that the user has to resolve."""
    first = give(desk)
    again = give(desk, encode("red", "PNG", dpi=(72, 72)))
    other = give(desk, label="blue")

    assert first.json()["id"] == again.json()["id"]
    assert (409, "conflict") == (other.status_code, other.json()["error"]["code"])
    assert first.json()["id"] in other.json()["error"]["message"]
    assert ["colours/red/*.png"] == images(folder)


@pytest.mark.parametrize(
    ("texts", "status", "code", "message"),
    [
        ({"label": "mauve"}, 422, "invalid_value", "label: expected one of the model's 3"),
        ({"label": "rad"}, 422, "invalid_value", "such as red"),
        ({"consent": "no"}, 422, "invalid_value", "consent: "),
        ({"consent": ""}, 422, "invalid_value", "consent: "),
        ({"request_id": "two words"}, 422, "invalid_value", "request_id: "),
        ({"note": "x" * 2001}, 422, "invalid_value", "note: "),
        ({"version": "one"}, 422, "invalid_value", "version: "),
        ({"version": "7"}, 404, "version_not_found", "7"),
        ({"model": "none"}, 404, "model_not_found", "none"),
        ({"patient": "Jane"}, 400, "malformed_request", "expected parts named 'file', 'consent'"),
    ],
)
def test_wrong_form_is_refused_and_nothing_is_kept(
    desk: TestClient, folder: Path, texts: dict[str, str], status: int, code: str, message: str
) -> None:
    """The text says what was expected."""
    reply = give(desk, **texts)

    assert (status, code) == (reply.status_code, reply.json()["error"]["code"])
    assert message in reply.json()["error"]["message"]
    assert [] == rows(folder) == images(folder)


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"files": {"file": truncated_jpeg()}, "data": {"label": "red", "consent": "true"}}, 400, "undecodable_image"),
        ({"files": {"file": b"%PDF"}, "data": {"label": "red", "consent": "true"}}, 415, "unsupported_image"),
        ({"files": {"file": b""}, "data": {"label": "red", "consent": "true"}}, 400, "empty_image"),
        ({"files": {"file": encode("red")}, "data": {"label": "red"}}, 422, "invalid_value"),
        ({"files": {"file": encode("red")}, "data": {"label": ["red", "red"]}}, 400, "malformed_request"),
        ({"files": [("file", encode("red"))] * 2, "data": {"label": "red"}}, 413, "too_many_images"),
        ({"files": {"label": (None, "red"), "consent": (None, "true")}}, 400, "malformed_request"),
        ({"content": encode("red")}, 400, "malformed_request"),
        ({"json": {"label": "red", "consent": "true"}}, 400, "malformed_request"),
    ],
    ids=["truncated", "pdf", "empty", "no-consent", "twice", "two-images", "no-image", "raw", "json"],
)
def test_wrong_body_is_refused(desk: TestClient, folder: Path, request_: Any, status: int, code: str) -> None:
    """One image that can be decoded, and each text once."""
    reply = desk.post("/v1/feedback", **request_)

    assert (status, code) == (reply.status_code, reply.json()["error"]["code"])
    assert [] == images(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.fixed_dictionaries(
        {},
        optional={
            name: st.text(max_size=40) | st.sampled_from(["red", "true", "1", "-1", "colours", "../red", "\0"])
            for name in ("label", "consent", "model", "version", "request_id", "note")
        },
    ),
    feedback_id=st.text(min_size=1, max_size=80),
)
def test_no_text_is_a_fault_of_ours(desk: TestClient, folder: Path, texts: dict[str, str], feedback_id: str) -> None:
    """Whatever is written into the form or the address: an answer below 500, and files only where they belong."""
    texts = {name: text.encode("utf-8", "replace").decode() for name, text in texts.items()}
    given_ = desk.post("/v1/feedback", files={"file": encode("red")}, data=texts)
    address = quote(feedback_id.encode("utf-8", "replace"), safe="")
    deleted = desk.delete(f"/v1/feedback/{address}")

    assert given_.status_code in (201, 400, 404, 409, 422), given_.text
    assert deleted.status_code in (404, 405, 422), deleted.text
    assert {"index.sqlite3", ".incoming", "colours"} >= {path.name for path in folder.iterdir()}
    assert set(images(folder)) <= {"colours/red/*.png"}


def test_off_by_default(client: TestClient) -> None:
    """No pictures are kept unless a folder for them is set."""
    assert (404, "not_found") == (give(client).status_code, give(client).json()["error"]["code"])
    assert 404 == client.delete("/v1/feedback/1").status_code


def test_pages_of_other_sites_cannot_fill_the_training_set(desk: TestClient, folder: Path) -> None:
    """A browser says where a form comes from."""
    files, data = {"file": encode("red")}, {"label": "red", "consent": "true"}
    sites = ("cross-site", "same-site", "same-origin", "none")
    statuses = [
        desk.post("/v1/feedback", files=files, data=data, headers={"sec-fetch-site": site}).status_code
        for site in sites
    ]

    assert [403, 403, 201, 201] == statuses


def test_over_plain_http_the_origin_says_where_a_form_comes_from(desk: TestClient, folder: Path) -> None:
    """Browsers send no Sec-Fetch-Site there."""
    files, data = {"file": encode("red")}, {"label": "red", "consent": "true"}
    origins = ("http://elsewhere.example", "null", "http://testserver")
    statuses = [
        desk.post("/v1/feedback", files=files, data=data, headers={"origin": origin}).status_code for origin in origins
    ]

    assert [403, 403, 201] == statuses


def test_what_is_too_old_goes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start and every hour; what is younger stays."""
    store = FeedbackStore(folder, days=30)
    store.open()
    old, young = store.add(PNG, MADE), store.add(CleanImage(b"\xff\xd8", ".jpg"), MADE)
    with sqlite3.connect(folder / "index.sqlite3") as connection:
        connection.execute("UPDATE feedback SET created = created - 31 * 86400 WHERE id = ?", (old,))
    connection.close()

    assert 1 == store.purge()
    assert 0 == store.purge()
    assert [young] == [row["id"] for row in rows(folder)]
    assert ["colours/red/*.jpg"] == images(folder)


def test_what_a_killed_process_left_is_put_right(folder: Path) -> None:
    """A file without a row, a row without a file, half a file; what a person has put there stays."""
    store = FeedbackStore(folder, days=30)
    store.open()
    lost, kept = store.add(PNG, MADE), store.add(CleanImage(b"\xff\xd8", ".jpg"), MADE)
    (folder / "colours" / "red" / f"{lost}.png").unlink()
    (folder / "colours" / "red" / f"{'0' * 32}.png").write_bytes(b"")
    (folder / ".incoming" / "half.png").write_bytes(b"")
    (folder / "colours" / "red" / "mine.png").write_bytes(b"")
    FeedbackStore(folder, days=30).open()

    assert [kept] == [row["id"] for row in rows(folder)]
    assert {f"{kept}.jpg", "mine.png"} == {path.name for path in (folder / "colours" / "red").iterdir()}
    assert [] == list((folder / ".incoming").iterdir())


def test_failed_write_leaves_nothing(folder: Path) -> None:
    """Neither a row nor a file, when the class's folder cannot be made."""
    store = FeedbackStore(folder, days=30)
    store.open()
    (folder / "colours").write_text("in the way")
    with pytest.raises(StorageError):
        store.add(PNG, MADE)

    assert [] == rows(folder)
    assert [] == list((folder / ".incoming").iterdir())


def test_folder_that_cannot_be_made_ends_the_start(start_gateway: StartGateway, tmp_path: Path) -> None:
    """Better than to find out with the first image."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        start_gateway(models=("colours",), feedback_dir=tmp_path / "file")


@pytest.mark.parametrize(
    ("label", "fits"),
    [
        ("red", True), ("n02099712", True), ("grün", True), ("stage 2", True), ("", False), ("a/b", False),
        ("..", False), (".x", False), ("Test", False), ("__MACOSX", False), ("a\nb", False), (" a", False),
        ("x" * 201, False),
    ],
)  # fmt: skip
def test_labels_that_are_no_folders(label: str, fits: bool) -> None:
    """Names that would leave the folder, hide from the pipeline or be taken for a split."""
    assert fits == is_folder_name(label)
