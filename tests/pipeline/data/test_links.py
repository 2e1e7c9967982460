"""pipeline/data/folder_source.py: links to folders, special files, and folders that cannot be listed."""

import os
from pathlib import Path

import pytest

from pipeline.data.folder_source import find_folders
from pipeline.data.ingest import ingest
from pipeline.errors import DatasetError
from pipeline.scoring.score_folder import walk_images
from tests.helpers.image_sets import png, write_files

IMAGE = png()
CLASSES = {"a/1.png": IMAGE, "b/2.png": IMAGE}


def under(name: str) -> dict[str, bytes]:
    return {f"{name}/{path}": data for path, data in CLASSES.items()}


@pytest.mark.parametrize(
    ("links", "first", "second"),
    [
        pytest.param({"valid": "../shared", "test": "../shared"}, "test", "valid", id="both-links"),
        pytest.param({"test": "../shared", "val": "../shared"}, "test", "val", id="the-other-way"),
        pytest.param({"test": "train"}, "train", "test", id="test-is-train"),
        pytest.param({"test": "../shared", "val": "test"}, "test", "val", id="link-to-a-link"),
    ],
)
def test_two_splits_that_are_one_folder_are_refused(
    tmp_path: Path, links: dict[str, str], first: str, second: str
) -> None:
    """No split vanishes, and the error does not depend on the order of the directory."""
    write_files(tmp_path / "shared", CLASSES)
    folder = write_files(tmp_path / "set", under("train"))
    for name, target in links.items():
        (folder / name).symlink_to(target)

    with pytest.raises(DatasetError, match=f"one folder as {first} and, by a link, as {second}"):
        ingest(folder)


def test_class_that_is_a_link_to_another_is_refused(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "set", CLASSES)
    (folder / "A-link").symlink_to("a")  # sorts before the folder itself

    with pytest.raises(DatasetError, match=r"in one class\. Received: one folder as a and, by a link, as A-link"):
        ingest(folder)


def test_class_inside_another_by_a_link_is_refused(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "set", CLASSES)
    (folder / "a" / "more").symlink_to("../b")

    with pytest.raises(DatasetError, match="one folder as b and, by a link, as a/more"):
        ingest(folder)


def test_second_name_within_a_class_is_read_once_and_said(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "set", CLASSES | {"a/x/3.png": IMAGE})
    (folder / "a" / "w").symlink_to("x")

    dataset = ingest(folder)

    assert ["a/1.png", "a/x/3.png", "b/2.png"] == [example.path for example in dataset.examples]
    assert ("a/w is another name of a/x: its images are read once",) == dataset.notes


def test_second_name_of_the_whole_set_is_read_once(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "set", under("v1/train") | under("v1/test"))
    (folder / "latest").symlink_to("v1")

    dataset = ingest(folder)

    assert 4 == len(dataset.examples)
    assert ("latest is another name of v1: its images are read once",) == dataset.notes


def test_second_name_of_the_only_split_is_refused(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "set", under("training_set"))
    (folder / "test_set").symlink_to("training_set")

    with pytest.raises(DatasetError, match="one folder as training_set and, by a link, as test_set"):
        ingest(folder)


def test_score_walks_what_run_reads(tmp_path: Path) -> None:
    """Linked class folders are scored, in the order of their paths."""
    write_files(tmp_path / "store", CLASSES)
    folder = write_files(tmp_path / "set", {"c/3.png": IMAGE})
    (folder / "a").symlink_to(tmp_path / "store" / "a")
    (folder / "z").symlink_to(tmp_path / "store" / "b")

    assert ["a/1.png", "c/3.png", "z/2.png"] == list(walk_images(folder))
    assert ["a/1.png", "c/3.png", "z/2.png"] == [example.path for example in ingest(folder).examples]


def test_links_that_cross_end(tmp_path: Path) -> None:
    """Twelve folders that all link to each other, to the set and to above it are walked once each."""
    folder = write_files(tmp_path / "set", {f"{i:02}/x.png": IMAGE for i in range(12)})
    for i in range(12):
        for j in range(12):
            (folder / f"{i:02}" / f"to-{j:02}").symlink_to(f"../{j:02}")
        (folder / f"{i:02}" / "up").symlink_to("..")
        (folder / f"{i:02}" / "above").symlink_to("../../..")

    assert 13 == len(find_folders(folder).folders)
    assert 12 == len(list(walk_images(folder)))


def test_pipe_is_no_image(tmp_path: Path) -> None:
    """Reading one would wait for ever."""
    folder = write_files(tmp_path / "set", CLASSES)
    os.mkfifo(folder / "a" / "pipe.png")

    dataset = ingest(folder)

    assert 2 == len(dataset.examples)
    assert {"pipe, socket or device": 1} == dataset.system


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "set", CLASSES)
    (folder / "b").chmod(0)
    try:
        with pytest.raises(
            DatasetError, match=r"/b: expected a folder that can be listed\. Received: Permission denied"
        ):
            ingest(folder)
    finally:
        (folder / "b").chmod(0o700)
