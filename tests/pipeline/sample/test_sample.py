"""The synthetic fundus set: reproducible, laid out as promised, and labelled by the cup and nothing else."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier

from pipeline.errors import PipelineError
from pipeline.sample.fundus import SIZES, draw_eye
from pipeline.sample.sample import RATIOS, plan_glaucoma_set, write_glaucoma_set

CLASSES = ["glaucoma", "normal", "suspect"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a set of 120 + 72 pictures."""
    out = tmp_path_factory.mktemp("sample") / "glaucoma"
    write_glaucoma_set(out, seed=0, train_patients_per_class=20, test_patients_per_class=12)
    return out


def pictures(folder: Path) -> list[Path]:
    return sorted(folder.rglob("P*_O?.*"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_gives_identical_bytes(tmp_path: Path) -> None:
    """Two sets of one seed hold the same files with the same bytes."""
    for name in ("a", "b"):
        write_glaucoma_set(tmp_path / name, seed=7, train_patients_per_class=1, test_patients_per_class=1)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_other_seed_or_patient_or_side_gives_another_eye() -> None:
    """No two eyes are alike, whichever of seed, patient and side differs."""
    eyes = [
        draw_eye(seed=seed, patient=patient, side=side, ratio=0.4).tobytes()
        for seed in (0, 1)
        for patient in (1, 2)
        for side in ("OD", "OS")
    ]
    assert len(set(eyes)) == len(eyes)


def test_layout_is_split_class_file(sample: Path) -> None:
    """The set holds train/<class> and test/<class> with two pictures a patient, and a README that says what it is."""
    counts = Counter(path.relative_to(sample).parent.as_posix() for path in pictures(sample))
    assert counts == {f"train/{name}": 40 for name in CLASSES} | {f"test/{name}": 24 for name in CLASSES}
    readme = (sample / "README.txt").read_text(encoding="utf-8")
    assert "NOT FOR MEDICAL USE" in readme
    assert "seed 0" in readme
    assert sorted(path.name for path in sample.iterdir()) == ["README.txt", "test", "train"]


def test_default_set_has_480_train_and_120_test_pictures() -> None:
    """The default plan is 80 patients a class in train and 20 in test, two eyes each."""
    plans = plan_glaucoma_set(seed=0)
    counts = Counter((plan.split, plan.label) for plan in plans)
    assert counts == {(split, name): n for split, n in (("train", 160), ("test", 40)) for name in CLASSES}


def test_patient_lies_in_one_split_and_one_class_with_both_eyes(sample: Path) -> None:
    """A patient's right and left eye share a folder, and no other folder has that patient."""
    eyes = defaultdict(list)
    for path in pictures(sample):
        eyes[path.stem.split("_")[0]].append((path.parent, path.stem.split("_")[1]))
    for of_patient in eyes.values():
        assert sorted(side for _, side in of_patient) == ["OD", "OS"]
        assert len({folder for folder, _ in of_patient}) == 1


def test_formats_and_sizes_are_mixed_in_every_class(sample: Path) -> None:
    """Each class has PNG and JPEG, all sizes, and no metadata in any file."""
    for name in CLASSES:
        files = pictures(sample / "train" / name)
        assert {path.suffix for path in files} == {".jpg", ".png"}
        sizes = set()
        for path in files:
            with Image.open(path) as picture:
                sizes.add(picture.size)
                assert picture.mode == "RGB"
                assert not picture.getexif()
        assert sizes == set(SIZES)


@pytest.mark.parametrize("seed", [0, 1])
def test_ratio_lies_in_the_bounds_of_its_class(seed: int) -> None:
    """Every planned ratio is inside its class's range, and two eyes of a patient are similar but not equal."""
    by_patient = defaultdict(list)
    for plan in plan_glaucoma_set(seed=seed):
        low, high = RATIOS[plan.label]
        assert low <= plan.ratio <= high
        by_patient[plan.patient].append(plan.ratio)
    differences = [abs(right - left) for right, left in by_patient.values()]
    assert max(differences) <= 0.06
    assert np.mean(np.array(differences) > 0.001) > 0.9


def test_class_ranges_leave_gaps() -> None:
    """Normal ends below 0.5, suspect fits between 0.5 and 0.7, glaucoma starts above 0.7."""
    assert RATIOS["normal"][1] < 0.5 < RATIOS["suspect"][0] < RATIOS["suspect"][1] < 0.7 < RATIOS["glaucoma"][0]


def test_folder_with_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A non-empty folder gives an error that names it, and stays as it was."""
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(PipelineError, match="not an empty folder"):
        write_glaucoma_set(tmp_path, seed=0)
    assert contents(tmp_path) == {"mine.txt": b"keep"}


def test_file_in_the_way_is_refused(tmp_path: Path) -> None:
    """A file of that name gives an error, not a crash."""
    (tmp_path / "out").write_text("keep", encoding="utf-8")
    with pytest.raises(PipelineError, match="not an empty folder"):
        write_glaucoma_set(tmp_path / "out", seed=0)


def test_empty_folder_is_used_and_nothing_else_is_left_behind(tmp_path: Path) -> None:
    """An existing empty folder is filled, and no temporary folder stays beside it."""
    out = tmp_path / "out"
    out.mkdir()
    write_glaucoma_set(out, seed=0, train_patients_per_class=1, test_patients_per_class=1)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(pictures(out)) == 12


@pytest.mark.parametrize(
    "arguments",
    [{"seed": -1}, {"seed": 0, "train_patients_per_class": 0}, {"seed": 0, "test_patients_per_class": 0}],
    ids=["seed", "train", "test"],
)
def test_argument_out_of_range_is_refused(tmp_path: Path, arguments: dict[str, int]) -> None:
    """A negative seed or an empty split gives an error and writes nothing."""
    with pytest.raises(PipelineError, match="must be"):
        write_glaucoma_set(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [{"ratio": 1.0}, {"patient": 0}, {"side": "left"}], ids=str)
def test_eye_out_of_range_is_refused(arguments: dict) -> None:
    """An impossible ratio, patient or side gives an error that says what was expected."""
    with pytest.raises(ValueError, match=r"must be in|expected"):
        draw_eye(**({"seed": 0, "patient": 1, "side": "OD", "ratio": 0.4} | arguments))


@pytest.mark.parametrize("patient", range(1, 7))
def test_other_ratio_changes_only_the_disc(patient: int) -> None:
    """Redrawing an eye with another ratio changes pixels, and all of them lie within one disc near the middle."""
    small, large = (draw_eye(seed=3, patient=patient, side="OD", ratio=ratio) for ratio in (0.3, 0.85))
    changed = np.argwhere((small != large).any(axis=2))
    height, width = small.shape[:2]
    assert 0.02 * width * height < len(changed) < 0.25 * width * height
    reach = np.ptp(changed, axis=0)
    assert reach.max() < 0.48 * width
    middle = changed.min(axis=0) + reach / 2
    assert np.abs(middle / [height, width] - 0.5).max() < 0.12


def test_larger_ratio_makes_more_of_the_disc_pale() -> None:
    """The pale area grows with the ratio, whichever eye is drawn."""
    for patient in range(1, 6):
        pale = [
            draw_eye(seed=4, patient=patient, side="OS", ratio=ratio)[..., 1].astype(float).mean()
            for ratio in (0.3, 0.6, 0.85)
        ]
        assert pale == sorted(pale)


def test_class_cannot_be_told_from_colour_size_or_format(sample: Path) -> None:
    """A random forest on global statistics of the picture and its file is near chance (1/3)."""
    train, test = features(sample / "train"), features(sample / "test")
    forest = RandomForestClassifier(300, min_samples_leaf=2, random_state=0).fit(*train)
    assert forest.score(*test) <= 0.45


def features(folder: Path) -> tuple[np.ndarray, list[str]]:
    """Return mean colours, brightness, spread, width, height, bytes and format of each picture, and its class."""
    rows, labels = [], []
    for path in pictures(folder):
        with Image.open(path) as picture:
            pixels = np.asarray(picture, dtype=np.float32)
        height, width = pixels.shape[:2]
        file = [width, height, path.stat().st_size, path.suffix == ".png"]
        rows.append([*pixels.mean(axis=(0, 1)), pixels.mean(), pixels.std(), *file])
        labels.append(path.parent.name)
    return np.array(rows), labels
