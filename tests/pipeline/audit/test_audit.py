"""pipeline/audit/audit.py and the audit command: what is wrong with a set is found, named, shown and set aside."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from contract.model import InputSpec
from pipeline.__main__ import main
from pipeline.audit import gallery
from pipeline.audit.audit import Audit, audit, check_audit
from pipeline.audit.findings import Finding
from pipeline.audit.gallery.checks import CHECKS, answer_checks
from pipeline.data.ingest import ingest
from pipeline.data.pixels import Pixels
from pipeline.errors import DatasetError
from pipeline.recipe.data_settings import Data
from tests.helpers.image_sets import color_files, png, write_files

SPEC = InputSpec(64, 64, 3, "rgb", resize="bilinear", fit="stretch")
GROUPED = Data(group=r"^([^_]*)_")


def photograph(seed: int, *, size: tuple[int, int] = (160, 160)) -> Image.Image:
    """A smooth picture with a bright disc and dark lines on a grainy ground, different for every seed."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(60, 140, (9, 9, 3)).astype(np.uint8)
    image = Image.fromarray(ground).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        draw.line([tuple(point) for point in rng.integers(0, size[0], (2, 2)).tolist()], (60, 20, 20), 3)
    x, y = rng.integers(20, size[0] - 60, 2).tolist()
    draw.ellipse((x, y, x + 40, y + 40), (240, 220, 150))
    grain = rng.normal(0, 4, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, file_format: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def photographs(*, train: int = 12, test: int = 4) -> dict[str, bytes]:
    """A sound set: two classes, no two pictures alike."""
    return {
        f"{split}/{label}/{split}{label}{i}_{i}.png": encoded(photograph(1000 * position + i))
        for position, (split, label, count) in enumerate(
            (split, label, count) for split, count in (("train", train), ("test", test)) for label in "ab"
        )
        for i in range(count)
    }


def audited(folder: Path, files: dict[str, bytes], data: Data = GROUPED) -> Audit:
    dataset = ingest(write_files(folder / "set", files))
    return audit(dataset, Pixels(dataset.source, SPEC), data)


def found_in(folder: Path, files: dict[str, bytes], data: Data = GROUPED) -> dict[str, tuple[tuple[str, ...], ...]]:
    return {finding.code: finding.images for finding in audited(folder, files, data).findings}


def test_a_sound_set_has_no_findings(tmp_path: Path) -> None:
    """Nothing is made up."""
    assert {} == found_in(tmp_path, photographs())


def squeezed(image: Image.Image) -> Image.Image:
    return image.resize((160, 60))


def tinted(image: Image.Image) -> Image.Image:
    return Image.merge("RGBA", (*image.split(), Image.new("L", image.size, 200)))


@pytest.mark.parametrize(
    ("code", "data"),
    [
        pytest.param("wrong_extension", encoded(photograph(1), "JPEG"), id="jpeg-named-png"),
        pytest.param("tiny", encoded(photograph(2).resize((20, 20))), id="tiny"),
        pytest.param("odd_shape", encoded(squeezed(photograph(3))), id="odd-shape"),
        pytest.param("dark", encoded(ImageEnhance.Brightness(photograph(4)).enhance(0.15)), id="dark"),
        pytest.param("bright", encoded(photograph(5).point(lambda v: 232 + v // 12)), id="bright"),
        pytest.param("blurred", encoded(photograph(6).filter(ImageFilter.GaussianBlur(8))), id="blurred"),
        pytest.param("no_detail", encoded(Image.new("RGB", (160, 160), (90, 90, 90))), id="even"),
        pytest.param("mixed_modes", encoded(photograph(7).convert("L")), id="grey-among-colour"),
        pytest.param("mixed_modes", encoded(tinted(photograph(8))), id="transparent"),
        pytest.param(
            "sixteen_bit",
            encoded(Image.fromarray(np.asarray(photograph(9).convert("L")).astype(np.uint16) * 257)),
            id="sixteen-bit",
        ),
    ],
)
def test_doubtful_images_are_named(tmp_path: Path, code: str, data: bytes) -> None:
    """One image that stands out is found among sound ones, by the right name, and is no reason to stop."""
    found = audited(tmp_path, photographs() | {"train/a/odd_1.png": data})

    images = {finding.code: finding.images for finding in found.findings}
    assert (("train/a/odd_1.png",),) == images[code]
    assert {"warning"} == {finding.level for finding in found.findings}
    check_audit(found, ("a", "b"), GROUPED)


@pytest.mark.parametrize(("file_format", "path"), [("TIFF", "train/a/two_1.tif"), ("MPO", "train/a/two_1.JPG")])
def test_further_frames_are_mentioned(tmp_path: Path, file_format: str, path: str) -> None:
    """Only the first page of a TIFF and the first picture of a camera's JPEG are used; nothing else is found in it."""
    buffer = io.BytesIO()
    photograph(1).save(buffer, file_format, save_all=True, append_images=[photograph(2)])

    found = found_in(tmp_path, photographs() | {path: buffer.getvalue()})

    assert ((path,),) == found["several_frames"]
    assert "wrong_extension" not in found


@pytest.mark.parametrize("file_format", ["PNG", "BMP"], ids=["same-bytes", "same-pixels"])
@pytest.mark.parametrize(
    ("path", "code", "level"),
    [
        pytest.param("test/a/copy_1", "leaked_copies", "error", id="train-and-test"),
        pytest.param("train/b/copy_1", "two_labels", "error", id="two-labels"),
        pytest.param("train/a/copy_1", "copies", "warning", id="twice"),
    ],
)
def test_copies_are_found(tmp_path: Path, file_format: str, path: str, code: str, level: str) -> None:
    """A copy is a copy in another file format too; what it means depends on where it is."""
    original = "train/a/traina0_0.png"
    copy = f"{path}.{file_format.lower()}"
    found = audited(tmp_path, photographs() | {copy: encoded(photograph(0), file_format)})

    (finding,) = found.findings
    assert (code, level, {original, copy}) == (finding.code, finding.level, set(finding.images[0]))


def test_leakage_stops_a_run_unless_it_is_allowed(tmp_path: Path) -> None:
    """The refusal names both files and the way round; allowed, it is a warning."""
    files = photographs() | {"test/a/copy_1.png": encoded(photograph(0))}

    with pytest.raises(DatasetError, match=r"test/a/copy_1\.png = train/a/traina0_0\.png\n1 image is in the test set"):
        check_audit(audited(tmp_path, files), ("a", "b"), GROUPED)
    allowed = Data(group=GROUPED.group, allow_leakage=True)
    check_audit(audited(tmp_path, files, allowed), ("a", "b"), allowed)
    assert ["leaked_copies"] == list(found_in(tmp_path, files, allowed))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda image: encoded(image, "JPEG", quality=40), id="compressed"),
        pytest.param(lambda image: encoded(image.resize((100, 100))), id="resized"),
        pytest.param(lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.1)), id="brighter"),
    ],
)
def test_near_copies_across_the_split_are_pairs(tmp_path: Path, change: Callable[[Image.Image], bytes]) -> None:
    """A test image that looks like a training image is a warning that shows the two."""
    found = found_in(tmp_path, photographs() | {"test/a/near_1.png": change(photograph(0))})

    assert (("test/a/near_1.png", "train/a/traina0_0.png"),) == found["near_leaks"]


def test_patients_on_two_sides_are_found(tmp_path: Path) -> None:
    """A group that the set's own folders put into train and test is named with its files."""
    found = found_in(tmp_path, photographs() | {"test/a/traina0_9.png": encoded(photograph(77))})

    assert (("test/a/traina0_9.png", "train/a/traina0_0.png"),) == found["groups_across_splits"]


def test_groups_on_two_sides_stop_a_run_unless_they_are_allowed(tmp_path: Path) -> None:
    """Four of four groups in the test set are in train too: an error, by name a warning."""
    torn = {
        f"test/{label}/train{label}{i}_9.png": encoded(photograph(50 + i + 9 * (label == "b")))
        for label in "ab"
        for i in (0, 1)
    }
    files = {path: data for path, data in photographs().items() if path.startswith("train/")} | torn
    words = (
        r"test/a/traina0_9\.png, train/a/traina0_0\.png\n(.*\n)*"
        r"4 groups are in the test set and outside it: the test figures are flattered, named above: "
        r"move each group to one side, or accept invalid test metrics with --allow-leakage"
    )

    with pytest.raises(DatasetError, match=words):
        check_audit(audited(tmp_path, files), ("a", "b"), GROUPED)
    allowed = Data(group=GROUPED.group, allow_leakage=True)
    check_audit(audited(tmp_path, files, allowed), ("a", "b"), allowed)
    assert ["groups_across_splits"] == list(found_in(tmp_path, files, allowed))


def test_groups_in_train_and_val_are_a_warning(tmp_path: Path) -> None:
    """The test figures stay valid, as with copies in train and val."""
    found = audited(
        tmp_path,
        photographs() | {"val/a/traina0_9.png": encoded(photograph(77)), "val/b/x_1.png": encoded(photograph(78))},
    )

    assert [("warning", "groups_in_validation")] == [(finding.level, finding.code) for finding in found.findings]


def test_a_group_column_counts_as_a_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Groups of a table on both sides of its split column stop `run`."""
    paths = [f"{label}{i}.png" for label in "ab" for i in range(6)]
    files = {path: encoded(photograph(i)) for i, path in enumerate(paths)}
    rows = [f"{path},{path[0]},P{i},{'test' if i % 3 == 0 else 'train'}" for i, path in enumerate(paths)]
    rows[1] = f"{paths[1]},a,P0,train"
    write_files(tmp_path / "set", files | {"list.csv": "\n".join(["path,label,group,split", *rows]).encode()})

    flags = [f"--runs-dir={tmp_path / 'runs'}", f"--models-dir={tmp_path / 'models'}", "--name=eyes"]
    assert 1 == main(["run", str(tmp_path / "set/list.csv"), "--recipe=demo", *flags])

    assert "1 group is in the test set and outside it" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_uneven_and_missing_classes_are_found(tmp_path: Path) -> None:
    """Six times as many of one class, and a class without test images, are said."""
    few = {"train/a/traina0_0.png", "train/a/traina1_1.png"}
    files = {p: d for p, d in photographs().items() if p in few or p.startswith(("train/b/", "test/b/"))}

    assert {"imbalance", "missing_class"} == set(found_in(tmp_path, files))


def test_without_a_group_rule_there_is_one_warning(tmp_path: Path) -> None:
    """A rule, or look-alikes kept together, silences it."""
    assert ["no_group_rule"] == list(found_in(tmp_path, photographs(), Data()))
    assert {} == found_in(tmp_path, photographs(), Data(group="near-duplicates"))


def test_the_rule_that_names_suggest_is_said_and_holds(tmp_path: Path) -> None:
    """P001_L in train and P001_R in test: the warning gives the option, and with it the run is refused."""
    files = {
        f"{split}/{label}/P{100 * (label == 'b') + i:03}_{side}.png": encoded(
            photograph(1000 * (label == "b") + 10 * i + (side == "R"))
        )
        for split, side in (("train", "L"), ("test", "R"))
        for label in "ab"
        for i in range(6)
    }

    (finding,) = audited(tmp_path, files, Data()).findings

    assert ("warning", "no_group_rule") == (finding.level, finding.code)
    option = r"--set 'data.group=^(P\d+)' puts 24 images into 12 groups, 12 of them on more than one side of the split"
    assert option in finding.message
    assert ("test/a/P000_R.png", "train/a/P000_L.png") in finding.images
    assert {"groups_across_splits"} == set(found_in(tmp_path, files, Data(group=r"^(P\d+)")))


BAD = {
    "train/a/text_1.png": b"this is no image",
    "train/b/copy_1.png": encoded(photograph(0)),
    "train/b/dark_1.png": encoded(ImageEnhance.Brightness(photograph(99)).enhance(0.1)),
    "train/b/near_1.png": encoded(photograph(1001), "JPEG", quality=60),
}


@pytest.fixture(name="command", scope="module")
def fixture_command(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """`audit --quarantine` over a set with a text file, a dark image, a near copy and one image under two labels."""
    work = tmp_path_factory.mktemp("audit")
    write_files(work / "set", photographs() | BAD)
    status = main(["audit", str(work / "set"), f"--runs-dir={work / 'runs'}", f"--quarantine={work / 'bad'}"])
    return status, work


def test_command_writes_json_and_a_gallery(command: tuple[int, Path]) -> None:
    """Errors are status 1; audit.json names every file; audit.html holds the pictures in itself."""
    status, work = command

    assert 1 == status
    (folder,) = (work / "runs" / "set").iterdir()
    document = json.loads((folder / "audit.json").read_text())
    codes = {finding["code"]: finding["images"] for finding in document["findings"]}
    assert [["train/a/text_1.png"]] == codes["unreadable"]
    assert [["train/a/traina0_0.png", "train/b/copy_1.png"]] == codes["two_labels"]
    assert [["train/b/dark_1.png"]] == codes["dark"]
    assert [["train/b/near_1.png", "train/b/trainb1_1.png"]] == codes["near_copies"]
    assert {"test": {"a": 4, "b": 4}, "train": {"a": 13, "b": 15}} == document["classes"]
    html = (folder / "audit.html").read_text()
    assert "<span>train/b/</span>near_1.png" in html
    assert "expected JPEG, PNG" in html  # why there is no picture of the text file
    assert html.count('src="data:image/jpeg;base64,') >= 5
    assert "http" not in html
    assert '<a href="#two_labels">Two labels</a>: ' in html
    assert "Files hold one image" in html
    assert "No image has two labels" not in html
    sheets = dict(re.findall(r"<figcaption><b>(\w)</b>: (\d+) of", html))
    assert ["a", "b"] == list(sheets)


def test_every_finding_belongs_to_a_check() -> None:
    """A new code gets a line in the list of checks; one that has none is shown all the same."""
    sources = " ".join(path.read_text() for path in Path(gallery.__file__).parents[1].glob("*.py"))
    written = {code for check in CHECKS for code in check.codes}
    given = set(re.findall(r'Finding\((?:"\w+"|level), "([a-z_]+)"', sources))
    unknown = Finding("warning", "new_code", "Something")
    results = answer_checks([unknown], deep=False)

    assert {"unreadable", "imbalance", "mixed_modes"} <= given <= written
    assert all(f'"{code}"' in sources for code in written)
    assert (unknown,) == results[0].findings
    assert ["Borders and colours give no class away"] == [r.check.title for r in results if not r.is_asked]


def test_quarantine_copies_and_never_deletes(command: tuple[int, Path]) -> None:
    """The bad files stand in the folder with a list of reasons; the set is as it was."""
    _, work = command

    with (work / "bad" / "list.csv").open() as file:
        reasons = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert {"unreadable", "two_labels", "dark", "wrong_extension"} == set(reasons.values())
    for path in reasons:
        assert (work / "set" / path).read_bytes() == (work / "bad" / path).read_bytes()
    assert photographs().keys() | BAD.keys() == {
        path.relative_to(work / "set").as_posix() for path in (work / "set").rglob("*.png")
    }


def test_command_exits_with_0_on_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings are told in a table, and that is all."""
    write_files(tmp_path / "set", photographs() | {"test/a/copy_1.png": encoded(photograph(0))})
    options = [str(tmp_path / "set"), f"--runs-dir={tmp_path / 'runs'}"]

    assert 1 == main(["audit", *options])
    assert "--allow-leakage" in capsys.readouterr().err.splitlines()[-1]
    assert 0 == main(["audit", *options, "--allow-leakage"])
    output = capsys.readouterr().out
    assert "33 images can be read, 0 cannot" in output
    assert "warning  leaked_copies" in output
    assert "gallery: " in output


def test_quarantine_into_a_folder_with_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing that somebody keeps is mixed with bad files or written over."""
    write_files(tmp_path, {f"set/{name}": data for name, data in color_files(train=4, test=2).items()})
    write_files(tmp_path / "bad", {"mine.txt": b"x"})

    status = main(["audit", str(tmp_path / "set"), f"--runs-dir={tmp_path}/r", f"--quarantine={tmp_path}/bad"])

    assert 1 == status
    assert "expected a new or empty folder" in capsys.readouterr().err.splitlines()[-1]
    assert ["mine.txt"] == [path.name for path in (tmp_path / "bad").iterdir()]


def test_run_refuses_what_the_audit_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One image under two labels stops a run before anything is trained; the gallery shows it."""
    files = color_files(train=4, test=2)
    files["train/red/copy_1.png"] = files["train/blue/Bt000_0.png"] = png(seed=5)
    write_files(tmp_path / "set", files)
    folders = [f"--models-dir={tmp_path / 'models'}", f"--runs-dir={tmp_path / 'runs'}"]

    status = main(["run", str(tmp_path / "set"), "--recipe=demo", "--set=data.group=^(.*)_", *folders])

    assert 1 == status
    error = capsys.readouterr().err
    assert "train/blue/Bt000_0.png = train/red/copy_1.png" in error
    assert "filed under two labels, named above: decide which label is right" in error.splitlines()[-1]
    assert 1 == len(list((tmp_path / "runs" / "set").glob("*/audit.html")))
    assert not (tmp_path / "models").exists()


def test_a_class_with_one_patient_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The audit says what would stop a run after it: a class that cannot be on both sides; class and patient named."""
    files = {path: data for path, data in photographs().items() if "/b/" not in path}
    patient = {f"train/b/P7_{eye}.png": encoded(photograph(70 + eye)) for eye in range(2)}
    write_files(tmp_path / "set", files | patient | {"test/b/P8_0.png": encoded(photograph(80))})

    status = main(["audit", str(tmp_path / "set"), "--set=data.group=^([^_]+)_", f"--runs-dir={tmp_path / 'runs'}"])

    assert 1 == status
    assert (
        "class b: expected at least 2 groups, to be in train, val. Received: 1 (P7)"
        in capsys.readouterr().err.splitlines()[-1]
    )


def test_a_table_can_be_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Columns of other names are given with --set; the run's folder has the table's name."""
    files = photographs()
    write_files(tmp_path, files)
    rows = [f"{path},{path.split('/')[1]},{path.split('/')[0]},eye{i}" for i, path in enumerate(files)]
    (tmp_path / "eyes.csv").write_text("\n".join(["file,diagnosis,split,patient", *rows]))
    columns = [
        f"--set=data.columns.{c}={n}" for c, n in (("path", "file"), ("label", "diagnosis"), ("group", "patient"))
    ]

    status = main(["audit", str(tmp_path / "eyes.csv"), f"--runs-dir={tmp_path / 'runs'}", *columns])

    assert 0 == status
    assert "Nothing found." in capsys.readouterr().out
    assert 1 == len(list((tmp_path / "runs" / "eyes").glob("*/audit.json")))
