"""pipeline/data/layout.py: which folders are splits, which are classes, and which sets can be read in two ways."""

import itertools
import re
import shlex
from pathlib import Path

import pytest

from pipeline.data.ingest import Dataset, ingest
from pipeline.errors import DatasetError
from pipeline.recipe.data_settings import Data
from pipeline.recipe.recipe import load_recipe
from tests.helpers.image_sets import png, write_files

IMAGE = png()


def write_set(folder: Path, *folders: str) -> Path:
    """Write an image into each folder."""
    return write_files(folder, {f"{name}/{i}.png": IMAGE for i, name in enumerate(folders)})


def placed(dataset: Dataset) -> set[tuple[str, str | None]]:
    return {(example.label, example.split) for example in dataset.examples}


def crossed(*parts: str, classes: tuple[str, ...] = ("cats", "dogs")) -> list[str]:
    return [f"{part}/{label}" for part, label in itertools.product(parts, classes)]


BOTH = {("cats", "train"), ("dogs", "train"), ("cats", "test"), ("dogs", "test")}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("Train_data", "Test_data"),
        ("TrainingSet", "TestSet"),
        ("trainset", "testset"),
        ("TRAIN", "TEST"),
        ("train-images", "test-images"),
        ("images_train", "images_test"),
        ("1_train", "2_test"),
        ("asl_alphabet_train", "asl_alphabet_test"),
        ("stage1_train", "stage1_test"),
        ("trn", "tst"),
        ("train", "holdout"),
        ("train/images", "test/images"),
        ("训练集", "测试集"),
    ],
)
def test_split_folders_by_other_names(tmp_path: Path, train: str, test: str) -> None:
    """The usual names are splits, and what is not plain is said."""
    dataset = ingest(write_set(tmp_path / "set", *crossed(train, test)))

    assert ("cats", "dogs") == dataset.labels
    assert placed(dataset) == BOTH
    top = train.partition("/")[0]
    assert (top.lower() != "train") == (f"{top} is train" in " ".join(dataset.notes))


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation_set", "dev", "eval", "val_data", "dev-set"])
def test_validation_folders_by_other_names(tmp_path: Path, name: str) -> None:
    dataset = ingest(write_set(tmp_path / "set", *crossed("train", name)))

    assert {("cats", "train"), ("dogs", "train"), ("cats", "val"), ("dogs", "val")} == placed(dataset)


def test_parts_of_one_side_are_read_together(tmp_path: Path) -> None:
    dataset = ingest(write_set(tmp_path / "set", *crossed("train_1", "train_2", "test_1")))

    assert placed(dataset) == BOTH
    assert 6 == len(dataset.examples)


def test_unlabelled_part_is_left_out_and_counted(tmp_path: Path) -> None:
    """Pictures to predict have no class, and the console says how many there are."""
    folders = [*crossed("seg_train", "seg_test"), "seg_pred/seg_pred"]

    dataset = ingest(write_set(tmp_path / "set", *folders))

    assert placed(dataset) == BOTH
    assert "seg_pred: 1 images without a label are left out" in dataset.notes


def test_splits_below_the_classes(tmp_path: Path) -> None:
    """<class>/train/ and <class>/test/ keep the split that somebody has made."""
    dataset = ingest(write_set(tmp_path / "set", "cats/train", "cats/test", "dogs/train", "dogs/test"))

    assert placed(dataset) == BOTH
    assert "the splits are below the class folders" in dataset.notes[0]


@pytest.mark.parametrize(
    ("parts", "wrapper"),
    [
        (("fold1", "fold2"), ""),
        (("hospitalA", "hospitalB"), ""),
        (("2019", "2020", "2021"), ""),
        (("site one", "site two"), ""),
        (("yes", "no"), ""),
        (("a", "b"), "/images"),
    ],
)
def test_folders_that_hold_the_same_folders_are_refused(tmp_path: Path, parts: tuple[str, ...], wrapper: str) -> None:
    """The error shows both readings, and each option that it names reads the set in that way."""
    folder = write_set(tmp_path / "set", *crossed(*(part + wrapper for part in parts)))

    with pytest.raises(DatasetError, match="read in one way") as refused:
        ingest(folder)

    options = [word for word in shlex.split(str(refused.value).replace(";", " ")) if word.startswith("data.splits=")]
    assert 3 == len(options)
    sided, pooled, classes = (ingest(folder, load_recipe("default", [option.rstrip(".")]).data) for option in options)
    assert placed(sided) == BOTH
    assert {("cats", None), ("dogs", None)} == placed(pooled)
    assert tuple(sorted(parts)) == classes.labels


def test_sites_within_splits_are_refused(tmp_path: Path) -> None:
    """Sites are no classes without a word; the option that the error names makes them classes."""
    folder = write_set(tmp_path / "set", *crossed(*crossed("train", "test", classes=("siteA", "siteB"))))

    with pytest.raises(DatasetError, match=r"siteA, siteB in test, which hold the same folders, cats, dogs") as refused:
        ingest(folder)

    option = next(word for word in shlex.split(str(refused.value)) if word.startswith("data.splits="))
    assert ("siteA", "siteB") == ingest(folder, load_recipe("default", [option]).data).labels


def test_sites_with_splits_of_their_own_are_refused(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", *crossed(*crossed("siteA", "siteB", classes=("train", "test"))))

    with pytest.raises(DatasetError, match="siteA, siteB, which each hold splits, test, train"):
        ingest(folder)


def test_patients_within_splits_are_no_classes(tmp_path: Path) -> None:
    folder = write_set(
        tmp_path / "set", "train/a/P1", "train/a/P2", "train/b/P3", "train/b/P4", "test/a/P5", "test/b/P6"
    )

    assert ("a", "b") == ingest(folder).labels


def test_a_part_that_lacks_a_class_is_still_a_part(tmp_path: Path) -> None:
    folders = [*crossed("fold1", "fold2", classes=("a", "b", "c")), "fold3/a", "fold3/b"]

    with pytest.raises(DatasetError, match="hold the same folders, a, b"):
        ingest(write_set(tmp_path / "set", *folders))


@pytest.mark.parametrize(
    "folders",
    [
        pytest.param(["a/P1", "a/P2", "b/P3", "b/P4"], id="patients"),
        pytest.param(["a/images", "b/images"], id="one-folder"),
        pytest.param(["a", "b", "a/left", "b/left"], id="beside-images"),
        pytest.param(["train_station/x", "train_station/y", "test_track/z"], id="words-of-their-own"),
        pytest.param(["development_delay", "healthy"], id="no-train"),
    ],
)
def test_classes_with_folders_of_their_own_are_classes(tmp_path: Path, folders: list[str]) -> None:
    dataset = ingest(write_set(tmp_path / "set", *folders))

    assert tuple(sorted({name.partition("/")[0] for name in folders})) == dataset.labels


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    """Without the option the error names it."""
    folder = write_set(tmp_path / "set", "train", "car", "plane")

    with pytest.raises(DatasetError, match=re.escape("--set 'data.splits={}'")):
        ingest(folder)
    assert ("car", "plane", "train") == ingest(folder, Data(splits={})).labels


def test_split_without_images_does_not_vanish(tmp_path: Path) -> None:
    """An empty folder is said; one of other files is refused."""
    folder = write_set(tmp_path / "set", *crossed("train"))
    (folder / "test_set").mkdir()

    assert ("test_set is empty: Fovea makes that split",) == ingest(folder).notes
    write_files(folder, {"test_set/cats/1.ppm": b"P6", "test_set/dogs/2.ppm": b"P6"})
    with pytest.raises(DatasetError, match=r"images in every split. Received: none in test_set \(2 \.ppm left out\)"):
        ingest(folder)


def test_annotations_beside_a_wrapper_are_no_class(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", *crossed("train/images", "test/images"))
    write_files(folder, {"train/labels/1.txt": b"x", "test/labels/2.txt": b"x"})

    assert ("cats", "dogs") == ingest(folder).labels


def test_other_files_below_classes_with_splits(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", "cats/train", "cats/test", "dogs/train", "dogs/test")
    write_files(folder, {"cats/notes/1.txt": b"x", "dogs/readme.txt": b"x"})

    assert placed(ingest(folder)) == BOTH


def test_set_inside_itself_is_refused(tmp_path: Path) -> None:
    """An archive that was packed with a copy of itself is not one set."""
    folders = [*crossed("chest/train", "chest/test"), *crossed("chest/chest/train")]

    with pytest.raises(DatasetError, match=r"chest/chest with train of its own. It may be a copy"):
        ingest(write_set(tmp_path / "set", *folders))


def test_splits_of_the_recipe_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"data.splits: expected folders of the set \(fold1, fold2\). Received: foldX"
    ):
        ingest(write_set(tmp_path / "set", *crossed("fold1", "fold2")), Data(splits={"foldX": "train"}))
