"""`score --out DIR`: parts by units, resumed, shared among shards, and merged into the CSV that one file would be."""

from __future__ import annotations

import csv
import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from contract.store import ModelStore
from pipeline.__main__ import main
from pipeline.errors import PipelineError
from pipeline.scoring.score_units import score_units
from pipeline.units.make_parts import PartTask
from pipeline.units.parts import is_done
from pipeline.units.plan import read_plan
from pipeline.units.work import TRIES, run_here
from tests.helpers.image_sets import COLORS, png, write_files
from tests.helpers.killed_command import kill_after_parts

BAD = "bad/cut.png"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """45 pictures and one that cannot be decoded, in three folders."""
    files = {f"{i % 3}/{label}-{i:02}.png": png(color, seed=i) for i in range(15) for label, color in COLORS.items()}
    write_files(tmp_path / "images", {**files, BAD: png(size=64)[:-300], "notes.txt": b"text"})
    return tmp_path / "images"


def score(store: ModelStore, images: Path, out: Path, *options: str) -> int:
    """Run the command with parts of 10 images."""
    rows = [] if out.suffix else ["--unit-rows=10"]
    return main(["score", "colours", str(images), f"--out={out}", f"--models-dir={store.root}", *rows, *options])


def hashes(out: Path) -> dict[str, str]:
    """The content of every part and of the CSV."""
    names = [*out.glob("part-*.parquet"), out / "_scores.csv"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in names}


def test_parts_together_are_the_csv(store: ModelStore, images: Path, tmp_path: Path) -> None:
    """Five parts; their CSV has the rows of a single file, and the parts have types."""
    assert 0 == score(store, images, tmp_path / "out")
    assert 0 == score(store, images, tmp_path / "out.csv")

    parts = sorted(path.name for path in (tmp_path / "out").glob("part-*"))
    assert [f"part-{unit:06}.parquet" for unit in range(5)] == parts
    with (tmp_path / "out.csv").open() as one, (tmp_path / "out" / "_scores.csv").open() as merged:
        header, *rows = csv.reader(one)
        assert header == next(reader := csv.reader(merged))
        assert sorted(rows) == list(reader)
    table = pq.read_table(tmp_path / "out")
    assert 46 == table.num_rows
    assert {"float"} == {str(table.schema.field(name).type) for name in table.column_names if "probability" in name}
    (error,) = [row["error"] for row in table.to_pylist() if row["path"] == BAD]
    assert error.startswith("undecodable_image: ")
    assert [] == [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_rerun_scores_what_is_missing(
    store: ModelStore, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A part that is gone, cut, or of another unit is made again, with the same bytes; the others are not touched."""
    out = tmp_path / "out"
    assert 0 == score(store, images, out)
    before, times = hashes(out), {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    capsys.readouterr()
    (out / "part-000001.parquet").unlink()
    (out / "part-000002.parquet").write_bytes((out / "part-000002.parquet").read_bytes()[:-100])
    (out / "part-000003.parquet").write_bytes((out / "part-000000.parquet").read_bytes())
    (out / "_scores.csv").unlink()

    assert 0 == score(store, images, out)
    assert "units: 3 scored by colours/1 at float32, 2 were there, 0 of 5" in capsys.readouterr().out
    assert before == hashes(out)
    kept = [path for path in times if path.stat().st_mtime_ns == times[path]]
    assert {"part-000000.parquet", "part-000004.parquet"} == {path.name for path in kept}


def test_shards_make_what_one_process_makes(
    store: ModelStore, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last shard to end, whichever it is, writes the CSV; more shards than units do no harm."""
    assert 0 == score(store, images, tmp_path / "one")
    for shard in ("6/7", "2/7", "0/7", "4/7", "3/7", "5/7"):
        assert 0 == score(store, images, tmp_path / "shards", f"--shard={shard}")
        assert not (tmp_path / "shards" / "_scores.csv").exists()
    assert "1 of 5 left to other shards" in capsys.readouterr().out
    assert 0 == score(store, images, tmp_path / "shards", "--shard=1/7")

    assert hashes(tmp_path / "one") == hashes(tmp_path / "shards")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param("image", "these differ: images (46 there, 47 now), the images", id="image"),
        pytest.param("size", "these differ: the images", id="size"),
        pytest.param("rows", "unit_rows (10 there, 20 now)", id="unit-rows"),
        pytest.param("version", "version (1 there, 2 now)", id="version"),
    ],
)
def test_changed_plan_is_refused(
    store: ModelStore,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    change: str,
    words: str,
) -> None:
    """Parts of two scorings never mix; the message names what differs, and nothing is changed."""
    out = tmp_path / "out"
    assert 0 == score(store, images, out)
    before = hashes(out)
    options: list[str] = []
    if change == "image":
        write_files(images, {"new.png": png()})
    elif change == "size":
        write_files(images, {"0/red-00.png": png(COLORS["red"], seed=99, size=40)})
    elif change == "rows":
        options = ["--unit-rows=20"]
    else:
        with store.staging() as directory:
            copy = store.version_path("colours", 1)
            subprocess.run(["cp", "-r", f"{copy}/.", str(directory)], check=True, timeout=60)
            store.publish("colours", directory, live=True)

    assert 1 == score(store, images, out, *options)
    error = capsys.readouterr().err
    assert words in error
    assert "Name a new folder, or delete this one" in error
    assert before == hashes(out)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["--shard=1/1"], "--shard: expected I/N with I from 0 to N - 1", id="beyond"),
        pytest.param(["--shard=a/2"], "Received: a/2", id="words"),
        pytest.param(["--shard=-1/2"], "Received: -1/2", id="negative"),
        pytest.param(["--unit-rows=0"], "--unit-rows: expected 1 to 1000000. Received: 0", id="no-rows"),
        pytest.param(["--out={}/x.parquet"], "--out: expected FILE.csv, or a folder", id="parquet"),
        pytest.param(["--out={}/x.csv", "--shard=0/2"], "--shard: expected a folder in --out", id="file"),
        pytest.param(["--out={}/images/0/red-00.png/out"], "cannot be written", id="below-a-file"),
    ],
)
def test_options_that_make_no_sense(
    store: ModelStore, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    """One line names the option, what is expected and what was received."""
    filled = [option.replace("{}", str(tmp_path)) for option in options]
    assert 1 == main(
        ["score", "colours", str(images), f"--out={tmp_path / 'out'}", f"--models-dir={store.root}", *filled]
    )
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unit_that_fails_is_tried_three_times(store: ModelStore, images: Path, tmp_path: Path) -> None:
    """It is listed with its error, other units have their parts, and the next run makes the rest."""
    tried: list[int] = []

    class Failing(PartTask):
        def __call__(self, unit: int, paths: Sequence[str]) -> int:
            tried.append(unit)
            if unit == 2 or (unit == 3 and tried.count(3) < TRIES):
                raise OSError(28, "No space left on device")
            return super().__call__(unit, paths)

    def run(task: PartTask, units):  # type: ignore[no-untyped-def]
        return run_here(Failing(task.function, task.out, task.plan), units)

    out = tmp_path / "out"
    with pytest.raises(PipelineError, match=r"unit 2: OSError: .*No space left[\s\S]*1 of 5 units failed three times"):
        score_units(store, "colours", 1, location=images, out=out, unit_rows=10, run=run)
    assert [0, 1, 2, 2, 2, 3, 3, 3, 4] == tried
    assert 4 == len(list(out.glob("part-*")))

    scored = score_units(store, "colours", 1, location=images, out=out, unit_rows=10)
    assert (1, 4, 45, 1) == (scored.made.done, scored.made.kept, scored.images, scored.errors)


def test_kill_loses_at_most_the_unit_under_way(store: ModelStore, images: Path, tmp_path: Path) -> None:
    """Kill -9 in the middle: what is there is whole, and the rerun ends with the bytes of an undisturbed run."""
    out = tmp_path / "killed"
    options = [f"--out={out}", "--unit-rows=2", f"--models-dir={store.root}"]
    kill_after_parts(["score", "colours", str(images), *options], out)
    plan = read_plan(out)
    assert plan is not None
    there = [int(path.stem.removeprefix("part-")) for path in out.glob("part-*")]
    assert all(is_done(out, plan, unit) for unit in there)

    assert 0 == score(store, images, out, "--unit-rows=2")
    assert 0 == score(store, images, tmp_path / "undisturbed", "--unit-rows=2")
    assert hashes(tmp_path / "undisturbed") == hashes(out)


@pytest.mark.parametrize(
    ("left", "rows", "units"),
    [
        pytest.param(None, 10, 5, id="no-folder"),
        pytest.param([], 10, 5, id="empty-mount-point"),
        pytest.param([], 45, 2, id="empty-mount-point-and-a-unit-of-one"),
        pytest.param(["other.txt"], 10, 5, id="mount-point-below"),
    ],
)
def test_lost_folder_makes_no_part_of_errors(
    store: ModelStore, images: Path, tmp_path: Path, left: list[str] | None, rows: int, units: int
) -> None:
    """A share that goes away fails the units, whatever its mount point shows; a rerun makes them."""
    away, out = tmp_path / "away", tmp_path / "out"

    def run(task: PartTask, units):  # type: ignore[no-untyped-def]
        images.rename(away)
        if left is not None:
            write_files(images, dict.fromkeys(left, b"text"))
            images.mkdir(exist_ok=True)
        return run_here(task, units)

    with pytest.raises(PipelineError, match=rf"{units} of {units} units failed three times \(LostImageError\)"):
        score_units(store, "colours", 1, location=images, out=out, unit_rows=rows, run=run)
    assert [] == list(out.glob("part-*"))
    shutil.rmtree(images, ignore_errors=True)
    away.rename(images)
    assert 0 == score(store, images, out, f"--unit-rows={rows}")


@pytest.mark.parametrize(
    ("gone", "codes"),
    [
        pytest.param([], ["undecodable_image"] * 3, id="undecodable"),
        pytest.param(["1.png"], ["undecodable_image", "unreadable_file", "undecodable_image"], id="one-is-gone"),
    ],
)
def test_unit_of_bad_images_has_its_part(store: ModelStore, tmp_path: Path, gone: list[str], codes: list[str]) -> None:
    """What is wrong with the images themselves is in their rows."""
    images = write_files(tmp_path / "images", {f"{i}.png": png(size=64, seed=i)[:-300] for i in range(3)})

    def run(task: PartTask, units):  # type: ignore[no-untyped-def]
        for name in gone:
            (images / name).unlink()
        return run_here(task, units)

    scored = score_units(store, "colours", 1, location=images, out=tmp_path / "out", unit_rows=10, run=run)

    assert (1, 0, 3) == (scored.made.done, scored.images, scored.errors)
    assert codes == [row["error"].partition(":")[0] for row in pq.read_table(tmp_path / "out").to_pylist()]
