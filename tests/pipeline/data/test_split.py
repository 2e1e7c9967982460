"""pipeline/data/split.py: seeded, by class, and never one group on two sides."""

import csv
import hashlib
from collections import Counter
from pathlib import Path

import pytest

from contract.image import ImageHeader
from pipeline.data.groups import NearPair
from pipeline.data.image_facts import ImageFacts
from pipeline.data.image_quality import AuditedImage, ImageQuality
from pipeline.data.ingest import Example, Split
from pipeline.data.split import Manifest, earlier_sides, split_images, split_table, taken_from_test
from pipeline.errors import DatasetError
from pipeline.recipe.data_settings import Data

FACTS = ImageFacts(2000, 8, "", 0, "", (), "", "", "", "", (), (), ())
BY_PATIENT = Data(group=r"^(P\d+)_", val_fraction=0.2, test_fraction=0.2)


# Three patients with two classes each: whoever moves takes a class along or leaves one behind.
TORN = {"a": ("P1", "P2", "P4"), "b": ("P2", "P3", "P4"), "c": ("P1", "P3", "P4")}


def image(path: str, label: str, split: Split | None = None, *, content: str = "") -> AuditedImage:
    """An image whose content is its path, or what is said."""
    digest = hashlib.sha256((content or path).encode()).hexdigest()
    quality = ImageQuality(ImageHeader("PNG", 40, 40, "RGB", 1, 1), digest, bytes.fromhex(digest), 0, 255, 1.0)
    return AuditedImage(Example(path, label, split, path.rpartition("/")[2]), digest, quality, FACTS)


def groups_on_two_sides(manifest: Manifest) -> list[str]:
    """The groups that are on more than one side."""
    count = Counter(group for group, _ in {(row.group, row.split) for row in manifest.rows})
    return sorted(group for group, found in count.items() if found > 1)


def images(split: Split | None, *, patients: int = 10, labels: str = "abc", first: int = 0) -> list[AuditedImage]:
    return [
        image(f"{split}/{label}/{name}", label, split)
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
    same_names = [image(f"train/{label}/{i}.png", label, "train") for label in "ab" for i in range(10)]

    manifest = split_images(same_names, Data(), seed=0)

    assert 20 == len({row.group for row in manifest.rows})


def test_patients_moved_from_test_to_train_are_named(tmp_path: Path) -> None:
    """A patient whom an earlier run tested on, and whose folder is train/ now, is named; the others are not."""
    (tmp_path / "run1").mkdir()
    first = split_images([*images("train"), *images("test", patients=2, first=100)], BY_PATIENT, seed=0)
    first.write(tmp_path / "run1" / "manifest.csv")
    moved = [
        image(found.example.path.replace("test", "train"), found.example.label, "train", content=found.example.path)
        for found in images("test", patients=1, labels="a", first=100)
    ]
    kept = images("test", patients=2, first=200)
    second = split_images([*images("train"), *moved, *kept], BY_PATIENT, seed=0, earlier=earlier_sides(tmp_path))

    assert ["P100"] == taken_from_test(second, earlier_sides(tmp_path))
    assert [] == taken_from_test(first, earlier_sides(tmp_path))


@pytest.mark.parametrize(
    ("found", "data", "words"),
    [
        pytest.param(
            images("train", patients=1),
            BY_PATIENT,
            r"class a: expected at least 3 groups.*train, test, val. Received: 1 \(P0\)",
            id="one-patient",
        ),
        pytest.param(
            [*images("train", patients=1), *images("test", patients=1, first=9)],
            BY_PATIENT,
            r"class a: expected at least 2 groups.*train, val. Received: 1 \(P0\)",
            id="one-training-patient",
        ),
        pytest.param(
            [image(f"{a}/{p}_{i}.png", a) for a, ps in TORN.items() for p in ps for i in range(9)],
            BY_PATIENT,
            "every class both in train and in val.*none in 100 tries; the last left [abc]",
            id="no-group-can-move",
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

    assert {row.group: row.split for row in first.rows}.items() <= known.items()
    assert {row.group: row.split for row in first.rows} == {
        row.group: row.split for row in grown.rows if row.group in known
    }
    assert {"a": 12, "b": 12, "c": 12} == split_table(grown)["test"]
    assert [] == groups_on_two_sides(grown)


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    """A damaged record of an earlier run is not passed over: its test patients would become training patients."""
    (tmp_path / "run1").mkdir()
    (tmp_path / "run1" / "manifest.csv").write_text("a,b\n1,2\n")

    with pytest.raises(DatasetError, match="cannot be read as a manifest"):
        earlier_sides(tmp_path)


def test_a_renamed_test_image_does_not_become_a_training_image(tmp_path: Path) -> None:
    """Without a group rule an image is known again by its content, whatever it is called now."""
    (tmp_path / "run1").mkdir()
    first = split_images([image(f"a{i}.png", "ab"[i % 2], content=f"{i}") for i in range(40)], Data(), seed=0)
    first.write(tmp_path / "run1" / "manifest.csv")

    renamed = [image(f"b{i}.png", "ab"[i % 2], content=f"{i}") for i in range(40)]
    again = split_images(renamed, Data(), seed=5, earlier=earlier_sides(tmp_path))

    assert {row.sha256: row.split for row in first.rows} == {row.sha256: row.split for row in again.rows}


def test_copies_of_one_image_stay_together_whatever_the_rule() -> None:
    """Two files with the same pixels are on one side, also when they are filed under two patients."""
    found = [image(f"P{i}_{eye}.png", "ab"[i // 2 % 2], content=f"{i // 4} {eye}") for i in range(80) for eye in "LR"]

    for rule in (BY_PATIENT, Data()):
        manifest = split_images(found, rule, seed=3)
        sides = {(row.sha256, row.split) for row in manifest.rows}
        assert 40 == len(sides), rule.group
        assert [] == groups_on_two_sides(manifest)


def test_near_duplicates_can_be_the_groups() -> None:
    """Images that look the same stay together, over any number of steps; under another rule they need not."""
    found = [image(f"{i:02}.png", "ab"[i % 2]) for i in range(40)]
    near = [NearPair(i, i + 2, 4) for i in range(38) if i % 8 < 6]  # chains of four, of one class each

    manifest = split_images(found, Data(group="near-duplicates"), seed=1, near=near)

    assert 10 == len({row.group for row in manifest.rows})
    assert [] == groups_on_two_sides(manifest)
    assert 40 == len({row.group for row in split_images(found, Data(), seed=1, near=near).rows})


def test_groups_of_several_classes_are_balanced_class_by_class() -> None:
    """Every class gets its share although patients have one, two or three classes and one to nine images."""
    found = [
        image(f"{label}/P{patient}_{i}.png", label)
        for patient in range(120)
        for label in "abc"[patient % 3 :: 1 + patient % 2]
        for i in range(1 + patient * 7 % 9)
    ]

    manifest = split_images(found, BY_PATIENT, seed=0)

    table = split_table(manifest)
    totals = {label: sum(counts[label] for counts in table.values()) for label in "abc"}
    assert [] == groups_on_two_sides(manifest)
    assert {label: 0.2 for label in "abc"} == pytest.approx(
        {label: table["test"][label] / totals[label] for label in "abc"}, abs=0.03
    )


def test_a_table_s_group_column_is_the_rule() -> None:
    """A group column needs no setting; it keeps its patients together."""
    found = [image(f"{i:02}.png", "ab"[i // 2 % 2]) for i in range(40)]
    found = [
        AuditedImage(
            Example(i.example.path, i.example.label, None, i.example.name, f"patient {n // 4}"),
            i.sha256,
            i.quality,
            i.facts,
        )
        for n, i in enumerate(found)
    ]

    manifest = split_images(found, Data(), seed=0)

    assert {f"patient {n}" for n in range(10)} == {row.group for row in manifest.rows}
    assert [] == groups_on_two_sides(manifest)
