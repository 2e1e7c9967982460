"""pipeline/audit/shortcuts.py: facts of files and borders that tell the classes are found, named and counted."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from contract.image import ImageHeader
from contract.model import InputSpec
from pipeline.__main__ import main
from pipeline.audit.audit import Audit, audit, check_audit
from pipeline.audit.findings import Finding, describe_allowed
from pipeline.audit.shortcuts import find_shortcuts
from pipeline.data.image_facts import read_facts
from pipeline.data.image_quality import AuditedImage, ImageQuality
from pipeline.data.ingest import Example, ingest
from pipeline.data.pixels import Pixels
from pipeline.errors import DatasetError
from pipeline.recipe.data_settings import Data, Shortcut
from tests.helpers.image_sets import write_files

SPEC = InputSpec(64, 64, 3, "rgb", resize="bilinear", fit="stretch")
CODES = {"shortcuts", "allowed_shortcuts", "picture_shortcuts"}
Encode = Callable[[int], bytes]
EXIF = Image.Exif()
EXIF[0x010F], EXIF[0x0110] = "Canon", "EOS 5D"


def noise(seed: int, width: int = 64, height: int = 64) -> Image.Image:
    """A picture that shows nothing, different for every seed."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def saved(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def with_border(seed: int) -> bytes:
    pixels = np.array(noise(seed))
    pixels[:6] = 0
    return saved(Image.fromarray(pixels))


def with_frame(seed: int) -> bytes:
    image = noise(seed)
    ImageDraw.Draw(image).rectangle((0, 0, 63, 63), outline=(255, 255, 255))
    return saved(image)


def with_marker(seed: int) -> bytes:
    image = noise(seed)
    ImageDraw.Draw(image).text((40, 2), "R 07", fill=(255, 255, 255))
    return saved(image)


def with_text(seed: int) -> bytes:
    note = PngInfo()
    note.add_text("Author", "ward 3")
    return saved(noise(seed), pnginfo=note)


def plain(seed: int) -> bytes:
    return saved(noise(seed))


def jpeg(seed: int) -> bytes:
    return saved(noise(seed), "JPEG", quality=90)


def two_classes(
    one: Encode, other: Encode, *, count: int = 40, counts: tuple[int, int] | None = None
) -> dict[str, bytes]:
    """A set whose classes differ in nothing but how their files are made."""
    numbers = counts or (count, count)
    return {
        f"{label}/{i}.img": encode(10_000 * place + i)
        for place, (label, encode, number) in enumerate(zip(("disease", "healthy"), (one, other), numbers, strict=True))
        for i in range(number)
    }


def audited(folder: Path, files: dict[str, bytes], data: Data | None = None) -> Audit:
    dataset = ingest(write_files(folder / "set", files))
    return audit(dataset, Pixels(dataset.source, SPEC), data or Data())


def shortcuts_of(found: Audit) -> list[Finding]:
    return [finding for finding in found.findings if finding.code in CODES]


@pytest.mark.parametrize(
    ("one", "other", "fact", "counts"),
    [
        pytest.param(jpeg, plain, "format", "disease: JPEG (40); healthy: PNG (40)", id="jpeg-and-png"),
        pytest.param(
            lambda seed: saved(noise(seed, 32, 32)),
            plain,
            "size",
            "disease: 32 x 32 (40); healthy: 64 x 64 (40)",
            id="half-resolution",
        ),
        pytest.param(
            lambda seed: saved(noise(seed, 30 + seed % 19, 30 + seed % 19)),
            lambda seed: saved(noise(seed, 60 + 2 * (seed % 19), 60 + 2 * (seed % 19))),
            "size",
            "width: disease: 30 to 47",
            id="half-of-many-resolutions",
        ),
        pytest.param(
            lambda seed: saved(noise(seed, 96, 64)),
            lambda seed: saved(noise(seed, 64, 96)),
            "shape",
            "disease: 1.5 (40); healthy: 0.7 (40)",
            id="landscape-and-portrait",
        ),
        pytest.param(
            lambda seed: saved(noise(seed).convert("L")), plain, "mode", "disease: L (40); healthy: RGB (40)", id="grey"
        ),
        pytest.param(
            lambda seed: saved(noise(seed).convert("L")),
            lambda seed: saved(Image.fromarray(np.asarray(noise(seed).convert("L")).astype(np.uint16) * 257)),
            "mode",
            "disease: L (40); healthy: I;16 (40)",
            id="bits",
        ),
        pytest.param(
            lambda seed: saved(noise(seed), "JPEG", quality=40),
            lambda seed: saved(noise(seed), "JPEG", quality=95),
            "compression",
            "JPEG quality: disease: 40 (40); healthy: 95 (40)",
            id="quality",
        ),
        pytest.param(
            lambda seed: saved(noise(seed), "JPEG", subsampling=0),
            lambda seed: saved(noise(seed), "JPEG", subsampling=2),
            "compression",
            "disease: 4:4:4 JFIF (40); healthy: 4:2:0 JFIF (40)",
            id="subsampling",
        ),
        pytest.param(
            lambda seed: saved(noise(seed), "JPEG", exif=EXIF),
            lambda seed: saved(noise(seed), "JPEG"),
            "metadata",
            "EXIF Make: disease: with (40); healthy: without (40)",
            id="exif",
        ),
        pytest.param(
            lambda seed: saved(noise(seed), "JPEG", icc_profile=b"profile" * 20),
            lambda seed: saved(noise(seed), "JPEG"),
            "metadata",
            "ICC profile: disease: with (40); healthy: without (40)",
            id="icc",
        ),
        pytest.param(with_text, plain, "metadata", "text Author: disease: with (40); healthy: without (40)", id="text"),
    ],
)
def test_containers_that_give_a_class_away_are_an_error(
    tmp_path: Path, one: Encode, other: Encode, fact: Shortcut, counts: str
) -> None:
    """The fact is named with its counts by class; allowed by name, and with what comes with it, it is a warning."""
    files = two_classes(one, other)

    found = audited(tmp_path, files)

    (finding,) = (finding for finding in found.findings if finding.code == "shortcuts")
    assert "error" == finding.level
    assert f"by {fact} (balanced accuracy 1.00 [" in finding.message
    assert counts in finding.message
    option = finding.message.rpartition("--allow-shortcuts ")[2]
    assert fact in option.split(",")
    with pytest.raises(DatasetError, match=r"Classes can be told apart by .*--allow-shortcuts"):
        check_audit(found, ("disease", "healthy"), Data())
    allowed = Data(allow_shortcuts=option.split(","))
    again = audited(tmp_path, files, allowed)
    check_audit(again, ("disease", "healthy"), allowed)
    levels = {finding.code: finding.level for finding in again.findings}
    assert "warning" == levels["allowed_shortcuts"]
    assert any("allowed by data.allow_shortcuts" in words for words in describe_allowed(again.findings))
    assert "shortcuts" not in levels


def test_what_is_allowed_allows_nothing_else(tmp_path: Path) -> None:
    """JPEG at half resolution against PNG: with the format allowed, the size still stops a run."""
    files = two_classes(lambda seed: saved(noise(seed, 32, 32), "JPEG"), plain)

    (finding,) = (
        f for f in shortcuts_of(audited(tmp_path, files, Data(allow_shortcuts=["format"]))) if f.level == "error"
    )

    assert finding.message.endswith("--allow-shortcuts size")


@pytest.mark.parametrize(
    ("one", "fact"),
    [
        pytest.param(with_border, "borders", id="border"),
        pytest.param(with_frame, "borders", id="frame"),
        pytest.param(with_marker, "corners", id="marker"),
        pytest.param(
            lambda seed: saved(Image.eval(noise(seed), lambda level: level * 3 // 4)), "mean colour", id="darker"
        ),
        pytest.param(lambda seed: saved(noise(seed, 32, 32).resize((64, 64))), "file size", id="enlarged"),
    ],
)
def test_pictures_that_give_a_class_away_are_a_warning(tmp_path: Path, one: Encode, fact: str) -> None:
    """Borders, a burned-in marker, the mean colour and a smaller file are named, and never stop a run."""
    found = audited(tmp_path, two_classes(one, plain))

    (finding,) = shortcuts_of(found)
    assert ("warning", "picture_shortcuts") == (finding.level, finding.code)
    assert f"by {fact} (balanced accuracy " in finding.message
    check_audit(found, ("disease", "healthy"), Data())


def varied(seed: int) -> bytes:
    """A file of a kind that has nothing to do with its class."""
    rng = np.random.default_rng(seed)
    image = noise(seed, *rng.integers(40, 90, 2).tolist())
    if rng.random() < 0.5:
        return saved(image)
    return saved(image, "JPEG", quality=int(rng.integers(60, 96)), **({"exif": EXIF} if rng.random() < 0.5 else {}))


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(two_classes(plain, plain), id="one-kind"),
        pytest.param(two_classes(varied, varied), id="many-kinds"),
        pytest.param(two_classes(varied, varied, counts=(90, 8)), id="uneven"),
        pytest.param(two_classes(jpeg, plain, count=3), id="few"),
        pytest.param(two_classes(jpeg, varied, counts=(3, 60)), id="few-of-one"),
    ],
)
def test_sound_sets_give_nothing(tmp_path: Path, files: dict[str, bytes]) -> None:
    """Neither do sets of which a class has fewer than five images."""
    assert [] == shortcuts_of(audited(tmp_path, files))


def test_one_class_of_several_is_found(tmp_path: Path) -> None:
    """Three classes of JPEG and one of PNG: that one is told from the rest."""
    files = {
        f"{label}/{i}.img": (plain if label == "c" else jpeg)(1000 * place + i)
        for place, label in enumerate("abcd")
        for i in range(12)
    }

    (finding,) = (found for found in shortcuts_of(audited(tmp_path, files)) if found.level == "error")

    assert "by format (c against the rest: balanced accuracy 1.00 [" in finding.message
    assert "c: PNG (12); a: JPEG (12); b: JPEG (12); d: JPEG (12)" in finding.message


def test_of_very_many_classes_the_largest_are_measured() -> None:
    """300 classes, one of the largest PNG: found, and in seconds."""
    header = ImageHeader("JPEG", 64, 64, "RGB", 1, 1)
    facts = read_facts(jpeg(0), header, np.asarray(noise(0)))
    images = [
        AuditedImage(
            Example(f"{label}/{i}", f"{label:03}", None, str(i)),
            "",
            ImageQuality(replace(header, format="PNG") if label == 7 else header, "", b"", 0, 255, 1.0),
            facts,
        )
        for label in range(300)
        for i in range(9 if label == 7 else 6)
    ]

    (finding,) = find_shortcuts(images, [image.example.path for image in images], Data())

    assert "by format (007 against the rest: balanced accuracy 1.00 [" in finding.message
    assert finding.message.count("JPEG (6)") == 5
    assert "; 194 more classes)" in finding.message


def test_a_small_class_beside_a_large_one_is_found(tmp_path: Path) -> None:
    (finding,) = shortcuts_of(audited(tmp_path, two_classes(jpeg, plain, counts=(8, 200))))

    assert "disease: JPEG (8); healthy: PNG (200)" in finding.message


def test_a_weaker_difference_is_a_warning(tmp_path: Path) -> None:
    """Three quarters of one class and a quarter of the other are PNG."""
    mixed = [(lambda seed, share=share: (plain if seed % 4 < share else jpeg)(seed)) for share in (3, 1)]

    (finding,) = (f for f in shortcuts_of(audited(tmp_path, two_classes(*mixed, count=60))) if f.code == "shortcuts")

    assert "warning" == finding.level
    assert "by format (balanced accuracy 0.75 [" in finding.message
    assert "disease: PNG (45), JPEG (15); healthy: JPEG (45), PNG (15)" in finding.message


def test_weak_facts_together_are_an_error(tmp_path: Path) -> None:
    """No fact tells the classes by itself; format, mode and metadata together do."""

    def store(sick: bool) -> Encode:
        def encode(seed: int) -> bytes:
            rng = np.random.default_rng(seed)
            as_usual = rng.random(5) < (0.82 if sick else 0.18)
            image = noise(seed, *((64, 64) if as_usual[0] else (80, 80)))
            image = image if as_usual[1] else image.convert("L")
            options = ({"icc_profile": b"profile"} if as_usual[2] else {}) | ({"exif": EXIF} if as_usual[3] else {})
            return saved(image, "WEBP" if as_usual[4] else "PNG", **options)

        return encode

    (finding,) = (
        f
        for f in shortcuts_of(audited(tmp_path, two_classes(store(True), store(False), count=100)))
        if "pic" not in f.code
    )

    assert "error" == finding.level
    assert " and " in finding.message.partition(" (")[0]


def test_cameras_of_patients_are_no_shortcut(tmp_path: Path) -> None:
    """Each patient has a size of their own: facts are learned from other patients, by a rule or by their names."""
    files = {
        f"{label}/P{100 * place + i // 6:03}_{i}.png": saved(noise(1000 * place + i, 50 + 7 * (i // 6) + place, 64))
        for place, label in enumerate(("disease", "healthy"))
        for i in range(48)
    }

    assert [] == shortcuts_of(audited(tmp_path, files, Data(group=r"^(P\d+)")))
    assert [] == shortcuts_of(audited(tmp_path, files))
    alone = {path.replace("_", "-x").replace("P", "q"): data for path, data in files.items()}
    assert ["error"] == [f.level for f in shortcuts_of(audited(tmp_path / "2", alone)) if f.code == "shortcuts"]


def test_only_images_that_training_may_use_count(tmp_path: Path) -> None:
    """A test set from elsewhere is no shortcut; a training set whose classes differ is one, whatever the test set."""
    training = {f"train/{path}": data for path, data in two_classes(jpeg, plain, count=12).items()}
    fair = {
        f"test/{path}": data for path, data in two_classes(lambda s: jpeg(s + 500), lambda s: jpeg(s + 500)).items()
    }

    (finding,) = (f for f in shortcuts_of(audited(tmp_path, training | fair)) if f.level == "error")
    assert "disease: JPEG (12); healthy: PNG (12)" in finding.message
    swapped = {path.replace("train/", "TEST/").replace("test/", "train/").replace("TEST/", "test/"): data
               for path, data in (training | fair).items()}  # fmt: skip
    assert [] == shortcuts_of(audited(tmp_path / "2", swapped))


@pytest.mark.parametrize("source", ["folder", "zip", "table"])
def test_command_refuses_and_allows_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str) -> None:
    """Of a folder, a zip and a table alike; a name that is none is refused with those that are."""
    import zipfile

    files = two_classes(jpeg, plain, count=8)
    location = write_files(tmp_path / "set", files)
    if source == "zip":
        location = tmp_path / "set.zip"
        with zipfile.ZipFile(location, "w") as archive:
            for path, data in files.items():
                archive.writestr(path, data)
    elif source == "table":
        rows = [f"{path},{path.partition('/')[0]}" for path in files]
        location = location / "list.csv"
        location.write_text("\n".join(["path,label", *rows]))
    options = ["audit", str(location), "--name=eyes", f"--runs-dir={tmp_path / 'runs'}"]

    assert 1 == main(options)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "Classes can be told apart by format" in error
    assert error.endswith("--allow-shortcuts format")
    assert 0 == main([*options, "--allow-shortcuts", "format"])
    assert "warning  allowed_shortcuts" in capsys.readouterr().out
    assert 0 == main([*options, "--set", "data.allow_shortcuts=[size, format]"])
    assert 1 == main([*options, "--allow-shortcuts", "format,siz"])
    error = capsys.readouterr().err.splitlines()[-1]
    assert "'mode' or 'metadata'. Received: 'siz'" in error
    documents = [json.loads(path.read_text()) for path in (tmp_path / "runs" / "eyes").glob("*/audit.json")]
    levels = [{finding["code"]: finding["level"] for finding in document["findings"]} for document in documents]
    assert 1 == sum(level.get("shortcuts") == "error" for level in levels)
    assert 2 == sum(level.get("allowed_shortcuts") == "warning" for level in levels)


def test_large_sets_leave_pictures_out_unless_deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit borders are measured on demand; containers always."""
    monkeypatch.setattr("pipeline.recipe.data_settings.DEEP_FILES", 10)
    files = two_classes(lambda seed: with_border(seed), jpeg, count=12)

    assert ["shortcuts"] == [finding.code for finding in shortcuts_of(audited(tmp_path, files))]
    assert ["shortcuts", "picture_shortcuts"] == [
        f.code for f in shortcuts_of(audited(tmp_path, files, Data(deep=True)))
    ]
