"""compare.py and assess.py: versions on labelled images, with what they were trained on left out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from contract.store import ModelStore
from pipeline.__main__ import main
from pipeline.errors import DatasetError
from pipeline.publishing.compare import compare_versions
from tests.helpers.image_sets import COLORS, png, write_files
from tests.helpers.tiny_model import MODEL_NAME, publish_variant
from tests.helpers.versions import ColorSet, publish_trained

RUNS = ("20260101T000000Z-aaaaaa", "20260102T000000Z-bbbbbb")


@pytest.fixture(name="images")
def fixture_images(tmp_path: Path) -> ColorSet:
    """Twelve test images, six to train on and three to validate on."""
    images = ColorSet(tmp_path / "set")
    images.add("train", 2)
    images.add("val", 1)
    images.add("test", 4)
    return images


@pytest.fixture(name="pair")
def fixture_pair(tmp_path: Path, tiny_models: dict[str, Path], images: ColorSet) -> ModelStore:
    """Versions 1 and 2, of different label orders, that runs on the same set made."""
    store = ModelStore(tmp_path / "models")
    for variant, run in zip(("plain", "permuted"), RUNS, strict=True):
        publish_trained(store, tmp_path / "runs", tiny_models[variant], images, run=run)
    return store


def spoil_predictions(tmp_path: Path, images: ColorSet, run: str, count: int) -> None:
    """Let a run have called `count` red images blue."""
    path = tmp_path / "runs" / MODEL_NAME / run / "predictions.csv"
    header, *lines = path.read_text().splitlines()
    columns = header.split(",")
    for i in [i for i, line in enumerate(lines) if line.startswith("test/red/")][:count]:
        cells = dict(zip(columns, lines[i].split(","), strict=True))
        cells |= {"probability_red": "0.1", "probability_green": "0.1", "probability_blue": "0.8"}
        lines[i] = ",".join(cells[column] for column in columns)
    path.write_text("\n".join([header, *lines]) + "\n")


def flags(tmp_path: Path) -> list[str]:
    return [f"--models-dir={tmp_path / 'models'}", f"--runs-dir={tmp_path / 'runs'}"]


def test_compare_counts_disagreements(
    tmp_path: Path, pair: ModelStore, images: ColorSet, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three images that only version 2 got wrong: the tables, the exact McNemar test, the difference with interval."""
    spoil_predictions(tmp_path, images, RUNS[1], 3)

    assert 0 == main(["compare", "colours/previous", "colours/2", "--json", *flags(tmp_path)])

    found = json.loads(capsys.readouterr().out)
    assert (12, 0, []) == (found["images"], found["left_out"], found["unknown"])
    assert (1.0, 0.75) == (found["a"]["accuracy"], found["b"]["accuracy"])
    assert (3, 0) == (found["only_a_right"], found["only_b_right"])
    assert 0.25 == found["mcnemar_p"]  # two-sided sign test of 3 against 0: 2 / 2**3
    assert -0.25 == found["accuracy_difference"]
    low, high = found["accuracy_difference_interval"]
    assert -0.6 < low < -0.25 < high <= 0
    assert [[4, 0, 0], [0, 4, 0], [3, 0, 1]] == found["agreement"]
    assert ["blue", "green", "red"] == found["labels"]


def test_compare_prints_tables(tmp_path: Path, pair: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    """For people: both versions side by side; equal versions have nothing between them."""
    assert 0 == main(["compare", "colours/1", "colours/2", *flags(tmp_path)])

    output = capsys.readouterr().out
    assert "colours/1 and colours/2 on 12 test images in 12 groups that neither was trained on" in output
    assert "only colours/1 right: 0; only colours/2 right: 0; McNemar p = 1" in output
    assert "accuracy of colours/2 minus colours/1: +0.0000 [-0.2646, 0.2646]" in output  # Clopper-Pearson, 0 of 12


def test_images_that_one_was_trained_on_are_left_out(
    tmp_path: Path, tiny_models: dict[str, Path], images: ColorSet
) -> None:
    """A test image of one version that the other trained on, it or its group, says nothing about which is better."""
    store, runs = ModelStore(tmp_path / "models"), tmp_path / "runs"
    publish_trained(store, runs, tiny_models["plain"], images, run=RUNS[0])
    tested = images.manifest.of("test")
    other = ColorSet(images.folder, [row for row in images.rows if row not in tested[:2]])
    other.rows += [replace(tested[0], split="train"), replace(tested[1], group=tested[2].group)]
    other.rows.append(replace(tested[3], path="copy.png", sha256="0" * 64, split="train"))
    publish_trained(store, runs, tiny_models["plain"], other, run=RUNS[1])

    found = compare_versions(store, runs, (MODEL_NAME, 1), (MODEL_NAME, 2))

    # tested[0] is no test image of the second, so it is not common; tested[3]'s group was trained on by the second.
    assert (10, 1) == (found["images"], found["left_out"])


@pytest.mark.parametrize("order", [(1, 2), (2, 1)], ids=["older-first", "newer-first"])
def test_both_are_judged_by_the_labels_of_the_newer_run(
    tmp_path: Path,
    tiny_models: dict[str, Path],
    images: ColorSet,
    order: tuple[int, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two red images lay in the folder of blue ones until they were moved: no version was right to call them blue."""
    store, runs = ModelStore(tmp_path / "models"), tmp_path / "runs"
    moved = [row for row in images.manifest.of("test") if row.label == "red"][:2]
    before = ColorSet(images.folder, [row for row in images.rows if row not in moved])
    for row in moved:
        wrong = replace(row, path=f"test/blue/moved-{Path(row.path).name}", label="blue")
        (images.folder / wrong.path).write_bytes((images.folder / row.path).read_bytes())
        before.rows.append(replace(wrong, group=wrong.path))
    for labelled, run in zip((before, images), RUNS, strict=True):
        publish_trained(store, runs, tiny_models["plain"], labelled, run=run)
    references = [f"colours/{version}" for version in order]

    assert 0 == main(["compare", *references, "--json", *flags(tmp_path)])
    found = json.loads(capsys.readouterr().out)
    assert (12, 2, "colours/2") == (found["images"], found["relabelled"], found["judged_by"])
    assert (1.0, 1.0) == (found["a"]["accuracy"], found["b"]["accuracy"])
    assert [4, 4, 4] == [found["a"]["classes"][label]["support"] for label in found["labels"]]
    assert (0, 0, 0.0) == (found["only_a_right"], found["only_b_right"], found["accuracy_difference"])

    assert 0 == main(["compare", *references, *flags(tmp_path)])
    assert "labelled anew: 2 images have other labels in the two runs; both versions" in capsys.readouterr().out


def test_images_that_validated_are_left_out(
    tmp_path: Path, pair: ModelStore, images: ColorSet, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that validated on its test images has chosen its epoch, temperature and thresholds by them."""
    manifest = tmp_path / "runs" / MODEL_NAME / RUNS[1] / "manifest.csv"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(line for line in lines if not line.startswith("val/")))
    out = tmp_path / "found.json"

    assert 1 == main(["compare", "colours/1", "colours/2", *flags(tmp_path)])
    assert "12 in common, all of them trained or validated on by one of the two" in capsys.readouterr().err
    assert 0 == main(["evaluate", "colours/2", str(images.folder), f"--out={out}", *flags(tmp_path)])
    assert 12 == json.loads(out.read_text())["trained_on"]


def test_compare_on_a_set(
    tmp_path: Path, tiny_models: dict[str, Path], images: ColorSet, capsys: pytest.CaptureFixture[str]
) -> None:
    """Versions without runs are asked on a set that is named, each by its own contract; what is unknown is said."""
    store = ModelStore(tmp_path / "models")
    for variant in ("plain", "small"):
        publish_variant(store, tiny_models[variant])

    assert 1 == main(["compare", "colours/1", "colours/2", *flags(tmp_path)])
    assert "--data" in capsys.readouterr().err.splitlines()[-1]
    assert 0 == main(["compare", "colours/1", "colours/2", f"--data={images.folder}", *flags(tmp_path)])

    output = capsys.readouterr().out
    assert "on 12 test images" in output
    assert "not known: what colours/1 was trained on" in output


def test_other_classes_cannot_be_compared(tmp_path: Path, pair: ModelStore, images: ColorSet) -> None:
    """Two tasks have no common measure."""
    path = pair.version_path(MODEL_NAME, 2) / "assets.extra/contract.json"
    path.write_text(path.read_text().replace('"blue"', '"violet"'))
    for table in (tmp_path / "runs").glob(f"*/{RUNS[1]}/predictions.csv"):
        table.write_text(table.read_text().replace("probability_blue", "probability_violet"))

    with pytest.raises(DatasetError, match="same classes"):
        compare_versions(pair, tmp_path / "runs", (MODEL_NAME, 1), (MODEL_NAME, 2))


def test_evaluate_measures_a_version_on_a_set(
    tmp_path: Path,
    pair: ModelStore,
    images: ColorSet,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The set's test images, unreadable ones left out and named; all numbers go to --out."""
    (images.folder / "test/red/broken.png").write_bytes(png()[:200])
    out = tmp_path / "found.json"

    assert 0 == main(["evaluate", "colours", str(images.folder), f"--out={out}", *flags(tmp_path)])

    output = capsys.readouterr().out
    assert "colours/2 on 12 images in 12 groups of set" in output
    assert "accuracy: 1.0000 [0.7354, 1.0000]" in output
    assert "1 of 13 images cannot be read" in caplog.text
    found = json.loads(out.read_text())
    assert (12, 1, 0, 1.0) == (found["images"], found["unreadable"], found["trained_on"], found["accuracy"])


def test_evaluate_says_when_images_were_trained_on(
    tmp_path: Path, pair: ModelStore, images: ColorSet, caplog: pytest.LogCaptureFixture
) -> None:
    """A set without a test folder is used whole, and what the version knows already is counted."""
    for split in ("train", "test"):
        for path in (images.folder / split).rglob("*.png"):
            target = tmp_path / "flat" / path.parent.name / f"{split}-{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())

    assert 0 == main(["evaluate", "colours/1", str(tmp_path / "flat"), *flags(tmp_path)])

    assert "6 of 18 images were trained on" in caplog.text


def test_equal_paths_of_another_set_are_other_images(
    tmp_path: Path, tiny_models: dict[str, Path], images: ColorSet, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path tells the images of one set apart: where that set is, one that was replaced is known still."""
    store, runs = ModelStore(tmp_path / "models"), tmp_path / "runs"
    own = ColorSet(images.folder, [replace(row, split="train") for row in images.rows])
    for run in RUNS:
        publish_trained(store, runs, tiny_models["plain"], own, run=run)
    paths = [row.path for row in images.rows]
    foreign = {path: png(COLORS[path.split("/")[1]], seed=i, size=16) for i, path in enumerate(paths)}
    write_files(tmp_path / "foreign", foreign)
    out = tmp_path / "found.json"

    assert 0 == main(["evaluate", "colours", str(tmp_path / "foreign"), f"--out={out}", *flags(tmp_path)])
    assert (12, 0, 12) == tuple(json.loads(out.read_text())[key] for key in ("images", "trained_on", "groups"))
    found = compare_versions(store, runs, (MODEL_NAME, 1), (MODEL_NAME, 2), data=tmp_path / "foreign")
    assert (12, 0) == (found["images"], found["left_out"])

    write_files(images.folder, foreign)
    assert 0 == main(["evaluate", "colours", str(images.folder), f"--out={out}", *flags(tmp_path)])
    assert 12 == json.loads(out.read_text())["trained_on"]


def test_evaluate_refuses_classes_that_the_model_does_not_know(
    tmp_path: Path, pair: ModelStore, images: ColorSet, capsys: pytest.CaptureFixture[str]
) -> None:
    """The unknown class is named, beside those that are known."""
    for split in ("train", "val", "test"):
        (images.folder / split / "red").rename(images.folder / split / "pink")

    assert 1 == main(["evaluate", "colours", str(images.folder), *flags(tmp_path)])

    assert "expected classes that the model knows (red, blue, green). Received: pink" in capsys.readouterr().err
