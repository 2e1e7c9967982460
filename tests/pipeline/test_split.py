"""pipeline/split.py: seeded, by class, and never one group on two sides."""

import csv
from pathlib import Path

import pytest

from pipeline.audit import AuditedImage
from pipeline.errors import DatasetError
from pipeline.ingest import Example, Split
from pipeline.recipe import Data
from pipeline.split import Manifest, earlier_sides, groups_on_two_sides, split_images, split_table

BY_PATIENT = Data(group=r"^(P\d+)_", val_fraction=0.2, test_fraction=0.2)


def images(split: Split | None, *, patients: int = 10, labels: str = "abc", first: int = 0) -> list[AuditedImage]:
    return [
        AuditedImage(Example(f"{split}/{label}/{name}", label, split, name), name)
        for position, label in enumerate(labels)
        for number in range(first + position * patients, first + (position + 1) * patients)
        for name in (f"P{number}_OD.png", f"P{number}_OS.png")
    ]


def test_validation_comes_out_of_train_by_patient_and_class() -> None:
    """Both eyes of a patient stay together, every class gives its share, and test images stay where they were."""
    manifest = split_images([*images("train"), *images("test", patients=2, first=100)], BY_PATIENT, seed=0)

    assert [] == groups_on_two_sides(manifest)
    assert {
        "train": {"a": 16, "b": 16, "c": 16},
        "val": {"a": 4, "b": 4, "c": 4},
        "test": {"a": 4, "b": 4, "c": 4},
    } == split_table(manifest)


def test_class_folders_alone_are_split_three_ways() -> None:
    """Without split folders, test and validation images are both taken out, by patient."""
    manifest = split_images(images(None), BY_PATIENT, seed=0)

    assert [] == groups_on_two_sides(manifest)
    assert {"a": 4, "b": 4, "c": 4} == split_table(manifest)["test"]
    assert all(count >= 2 for count in split_table(manifest)["val"].values())


def test_val_folder_is_kept() -> None:
    """A set that brings its own validation images keeps them."""
    brought = images("val", patients=1, first=50)
    manifest = split_images([*images("train"), *images("test", patients=1, first=90), *brought], BY_PATIENT, seed=0)

    assert {image.example.path for image in brought} == {row.path for row in manifest.of("val")}


def test_same_seed_same_split_other_seed_other_split() -> None:
    """The split depends on the seed and on nothing else."""
    one, again, other = (split_images(images("train"), BY_PATIENT, seed=seed) for seed in (1, 1, 2))

    assert one == again
    assert one != other
    assert one.sha256 == again.sha256 != other.sha256


def test_without_a_rule_every_image_is_its_own_group() -> None:
    """Files of one name in two classes are still two groups."""
    same_names = [
        AuditedImage(Example(f"train/{label}/{i}.png", label, "train", f"{i}.png"), f"{label}{i}")
        for label in "ab"
        for i in range(10)
    ]

    manifest = split_images(same_names, Data(), seed=0)

    assert 20 == len({row.group for row in manifest.rows})


def test_groups_on_two_sides_are_found() -> None:
    """A patient whom the set's own folders put into train and test is named."""
    manifest = split_images([*images("train"), *images("test", patients=1, labels="a")], BY_PATIENT, seed=0)

    assert "P0" in groups_on_two_sides(manifest)


@pytest.mark.parametrize(
    ("found", "data", "words"),
    [
        pytest.param(
            images("train", patients=1), BY_PATIENT, "class a: expected at least two groups", id="one-patient"
        ),
        pytest.param(images("train"), Data(group="^Q"), "expected '\\^Q' to match", id="rule-does-not-match"),
    ],
)
def test_impossible_splits_are_refused(found: list[AuditedImage], data: Data, words: str) -> None:
    """A class with one patient, or a rule that does not match, is an error that names it."""
    with pytest.raises(DatasetError, match=words):
        split_images(found, data, seed=0)


def test_manifest_is_written_as_csv(tmp_path: Path) -> None:
    """Every image's path, hash, label, group and split can be read back."""
    manifest: Manifest = split_images(images("train"), BY_PATIENT, seed=0)
    manifest.write(tmp_path / "manifest.csv")

    with (tmp_path / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))

    assert len(manifest.rows) == len(rows)
    assert {"path", "sha256", "label", "group", "split"} == set(rows[0])


def test_a_group_keeps_its_side_when_the_set_grows(tmp_path: Path) -> None:
    """New patients are split; known ones stay where they were, whatever the seed."""
    (tmp_path / "run1").mkdir()
    first = split_images(images(None), BY_PATIENT, seed=0)
    first.write(tmp_path / "run1" / "manifest.csv")
    known = earlier_sides(tmp_path)

    grown = split_images([*images(None), *images(None, patients=20, first=500)], BY_PATIENT, seed=9, earlier=known)

    assert {row.group: row.split for row in first.rows} == known
    assert known == {row.group: row.split for row in grown.rows if row.group in known}
    assert {"a": 12, "b": 12, "c": 12} == split_table(grown)["test"]
    assert [] == groups_on_two_sides(grown)


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    """A damaged record of an earlier run is not passed over: its test patients would become training patients."""
    (tmp_path / "run1").mkdir()
    (tmp_path / "run1" / "manifest.csv").write_text("a,b\n1,2\n")

    with pytest.raises(DatasetError, match="cannot be read as a manifest"):
        earlier_sides(tmp_path)
