"""`audit --out DIR` and `--merge`: parts by units find what a plain audit of the same set finds."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.__main__ import main
from pipeline.audit import measuring
from pipeline.audit.units import audit_units
from pipeline.audit.units.audit_units import UnitAuditor
from pipeline.errors import DatasetError
from pipeline.units.make_parts import Made, PartTask
from tests.helpers.image_sets import png, write_files
from tests.helpers.killed_command import kill_after_parts
from tests.pipeline.audit.test_audit import encoded, photograph, photographs


def faulty() -> dict[str, bytes]:
    """40 images with faults of every kind, one of them in two formats and one that cannot be decoded."""
    files = photographs()
    names = sorted(files)
    mirrored = Image.open(io.BytesIO(files[names[0]])).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    cats = names[0].rpartition("/")[0]
    return {
        **files,
        f"{cats}/copy.png": files[names[1]],
        f"{cats}/mirrored.png": encoded(mirrored),
        f"{cats}/as.jpg": encoded(photograph(900), "JPEG", quality=60),
        f"{cats}/wrong.bmp": encoded(photograph(901)),
        f"{cats}/grey.png": encoded(photograph(902).convert("L")),
        f"{cats}/even.png": encoded(Image.new("RGB", (160, 160), (90, 90, 90))),
        f"{cats}/cut.png": png(size=64)[:-300],
        f"{cats}/empty.png": b"",
        "slides.pptx": b"text",
    }


@pytest.fixture(name="images")
def fixture_images(tmp_path: Path) -> Path:
    return write_files(tmp_path / "set", faulty())


def audit(images: object, runs: Path, *options: str) -> int:
    return main(["audit", str(images), f"--runs-dir={runs}", "--name=set", "--set=data.on_unreadable=skip", *options])


def in_units(images: object, out: Path, *options: str) -> int:
    """Make parts of 7 images."""
    return audit(images, out.parent / "unused", f"--out={out}", "--unit-rows=7", *options)


def found(runs: Path) -> tuple[dict[str, Any], str]:
    """audit.json and the gallery of the one audit in a folder of runs."""
    (folder,) = (path.parent for path in runs.rglob("audit.json"))
    return json.loads((folder / "audit.json").read_text()), (folder / "audit.html").read_text()


def parts(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("part-*")}


def test_shards_find_what_a_plain_audit_finds(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Findings, gallery, table and exit status are equal; typed columns hold what was measured."""
    status = audit(images, tmp_path / "plain")
    plain = capsys.readouterr().out.replace(str(tmp_path / "plain"), "RUNS")
    out = tmp_path / "parts"
    for shard in ("2/3", "0/3", "1/3"):
        assert 0 == in_units(images, out, f"--shard={shard}")
    assert "all parts are there; find faults with: " in capsys.readouterr().out
    assert status == audit(images, tmp_path / "merged", f"--out={out}", "--merge")

    merged = capsys.readouterr().out.replace(str(tmp_path / "merged"), "RUNS")
    document, gallery = found(tmp_path / "plain")
    assert (document, gallery) == found(tmp_path / "merged")
    assert {"copies", "near_copies", "wrong_extension", "mixed_modes", "no_detail", "unreadable", "left_out"} <= {
        finding["code"] for finding in document["findings"]
    }
    assert [line for line in plain.splitlines() if "gallery" not in line] == [
        line for line in merged.splitlines() if "gallery" not in line
    ]
    rows = pq.read_table(out).to_pylist()
    assert 40 == len(rows) == document["images"] + 2
    assert {160} == {row["quality"]["header"]["width"] for row in rows if row["code"] is None}
    assert ["empty_image", "undecodable_image"] == sorted(row["code"] for row in rows if row["code"])
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("kind", ["zip", "table"])
def test_other_sets_are_audited_in_units(images: Path, tmp_path: Path, kind: str) -> None:
    """A zip and a table give what they give whole."""
    if kind == "zip":
        location = tmp_path / "set.zip"
        with zipfile.ZipFile(location, "w") as archive:
            for path in sorted(images.rglob("*.*")):
                archive.write(path, path.relative_to(images))
    else:
        location = images / "list.csv"
        paths = [path.relative_to(images) for path in sorted(images.rglob("*/*.*"))]
        location.write_text("\n".join(["path,label", *(f"{path},{path.parent.name}" for path in paths)]))
    status = audit(location, tmp_path / "plain")
    assert 0 == in_units(location, tmp_path / "parts")
    assert status == audit(location, tmp_path / "merged", f"--out={tmp_path / 'parts'}", "--merge")
    assert found(tmp_path / "plain") == found(tmp_path / "merged")


def test_merge_needs_all_parts(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The units are named; nothing is measured in their place."""
    out = tmp_path / "parts"
    assert 1 == audit(images, tmp_path / "runs", f"--out={out}", "--merge")
    assert "Received: no plan; make them without --merge" in capsys.readouterr().err
    assert 0 == in_units(images, out, "--shard=0/2")
    assert 1 == audit(images, tmp_path / "runs", f"--out={out}", "--merge")
    assert f"expected all 6 parts in {out}. Received: none of 3 units: 1, 3, 5." in capsys.readouterr().err
    assert 3 == len(parts(out))


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("image", "these differ: images (40 there, 41 now), the images"),
        ("size", "these differ: the images"),
        ("input", "these differ: the measures"),
    ],
)
def test_changed_set_is_refused(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, words: str, merge: bool
) -> None:
    """Nothing is changed; the message names what differs."""
    out, options = tmp_path / "parts", []
    assert 0 == in_units(images, out)
    before = parts(out)
    folder = next(path.parent for path in images.rglob("copy.png"))
    if change == "image":
        write_files(folder, {"new.png": encoded(photograph(77))})
    elif change == "size":
        write_files(folder, {"copy.png": encoded(photograph(78))})
    else:
        options = ["--set=model.input_size=64"]
    capsys.readouterr()

    status = (
        audit(images, tmp_path / "runs", f"--out={out}", "--merge", *options)
        if merge
        else in_units(images, out, *options)
    )
    assert 1 == status
    assert words in capsys.readouterr().err
    assert before == parts(out)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shard=0/2"], "--shard: expected --out DIR with it"),
        (["--merge"], "--merge: expected --out DIR with it"),
        (["--out={}", "--merge", "--unit-rows=7"], "--unit-rows: expected no --merge with it"),
        (["--out={}", "--merge", "--executor=ray"], "--executor: expected no --merge with it"),
        (["--out={}", "--quarantine=bad"], "--quarantine: expected --merge with it"),
        (["--out={}", "--workers=2"], "--workers: expected --executor ray with it"),
    ],
)
def test_options_that_make_no_sense(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    filled = [option.replace("{}", str(tmp_path / "out")) for option in options]
    assert 1 == audit(images, tmp_path / "runs", *filled)
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_kill_loses_at_most_the_unit_under_way(images: Path, tmp_path: Path) -> None:
    """Kill -9 in the middle: the rerun makes the rest, and no part that was there."""
    out = tmp_path / "killed"
    kill_after_parts(["audit", str(images), f"--out={out}", "--unit-rows=1"], out)
    times = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert len(times) < 40

    assert 0 == in_units(images, out, "--unit-rows=1")
    assert 0 == in_units(images, tmp_path / "undisturbed", "--unit-rows=1")
    assert parts(tmp_path / "undisturbed") == parts(out)
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_run_decodes_nothing_for_its_audit_after_a_merge(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The facts are kept where runs look for them."""
    assert 0 == in_units(images, tmp_path / "parts")
    audit(images, tmp_path / "runs", f"--out={tmp_path / 'parts'}", "--merge")
    measured: list[bytes] = []
    measure = measuring.FileMeasure._measure
    monkeypatch.setattr(
        measuring.FileMeasure, "_measure", lambda self, file: measured.append(file) or measure(self, file)
    )
    audit(images, tmp_path / "runs")
    assert 2 == len(measured)  # those that cannot be decoded


@pytest.mark.parametrize(
    "left", [None, {}, {"other.txt": b"text"}], ids=["no-folder", "empty-mount-point", "mount-point-below"]
)
def test_lost_folder_makes_no_part_of_problems(
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    left: dict[str, bytes] | None,
) -> None:
    """A share that goes away fails the units, whatever its mount point shows; a rerun makes them."""
    away, out = tmp_path / "away", tmp_path / "parts"
    call = UnitAuditor.__call__

    def lose(self: UnitAuditor, paths: Any) -> Any:
        if not away.exists():
            images.rename(away)
            if left is not None:
                images.mkdir()
                write_files(images, left)
        return call(self, paths)

    monkeypatch.setattr(UnitAuditor, "__call__", lose)
    assert 1 == in_units(images, out)
    assert "6 of 6 units failed three times (LostImageError)" in capsys.readouterr().err
    assert {} == parts(out)

    monkeypatch.setattr(UnitAuditor, "__call__", call)
    shutil.rmtree(images, ignore_errors=True)
    away.rename(images)
    assert 0 == in_units(images, out)
    assert 6 == len(parts(out))


def test_unit_of_images_damaged_in_a_zip_has_its_part(tmp_path: Path) -> None:
    """The archive is there, so the damage is a fact of the images."""
    location, names = tmp_path / "set.zip", [f"{label}/{i}.png" for label in ("cat", "dog") for i in range(2)]
    with zipfile.ZipFile(location, "w") as archive:
        for name in names:
            archive.writestr(name, b"0123456789")
    location.write_bytes(location.read_bytes().replace(b"0123456789", b"9876543210"))

    assert 0 == in_units(location, tmp_path / "parts")

    assert ["unreadable_file"] * len(names) == [row["code"] for row in pq.read_table(tmp_path / "parts").to_pylist()]


def test_worker_with_other_libraries_is_refused(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their measures would differ in the last digits."""
    tasks: list[PartTask] = []

    def keep(task: PartTask, *_: Any, **__: Any) -> Made:
        tasks.append(task.for_worker(1))
        return Made(task.plan, 0, 0, 0)

    monkeypatch.setattr(audit_units, "make_parts", keep)
    assert 0 == in_units(images, tmp_path / "parts")
    tasks[0].load()
    monkeypatch.setattr(audit_units, "define_facts", lambda *_, **__: "other")
    with pytest.raises(DatasetError, match="install the same on all machines"):
        tasks[0].load()


def test_numbers_survive_the_parts(images: Path, tmp_path: Path) -> None:
    """Every float is read as it was measured, bit by bit."""
    from contract.model import InputSpec
    from pipeline.audit.checking import Checked, Checker
    from pipeline.audit.units.records import from_table, to_table
    from pipeline.data.ingest import ingest

    dataset = ingest(images)
    paths = [example.path for example in dataset.examples]
    spec = InputSpec(64, 64, 3, "rgb")
    checked = Checker(dataset.source, measuring.FileMeasure(spec, deep=True, returns_pixels=False))(paths)
    assert checked == list(from_table(to_table(paths, checked)))
    assert np.isfinite([found.quality.sharpness for found in checked if isinstance(found, Checked)]).all()
