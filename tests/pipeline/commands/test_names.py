"""The commands on files whose names no console can show as they are."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from contract.store import ModelStore
from pipeline.__main__ import main
from tests.helpers.extras import hide_package
from tests.helpers.image_sets import COLORS, png, write_files
from tests.helpers.server_process import ROOT

LATIN = os.fsdecode(b"gr\xfcn")
GBK = os.fsdecode("眼底".encode("gbk"))
SHOWN = "眼底".encode("gbk").decode("utf-8", "backslashreplace")


def odd_set(folder: Path) -> Path:
    """Two classes; a file, a class and the set itself have names that are not UTF-8."""
    files = {f"red/{i}.png": png(COLORS["red"], seed=i) for i in range(5)}
    files |= {f"{LATIN}/{i}.png": png(COLORS["green"], seed=i) for i in range(5)}
    return write_files(folder / f"set {GBK}", files | {f"red/{GBK}.png": png(COLORS["red"], seed=9)})


def test_names_that_are_not_utf_8_reach_every_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table, audit.json, the gallery and the list of files in doubt name the bytes."""
    folder = write_files(odd_set(tmp_path), {f"{LATIN}/{GBK}.png": b"no image"})
    runs, bad = tmp_path / "runs", tmp_path / "bad"

    status = main(["audit", str(folder), "--name=m", f"--runs-dir={runs}", f"--quarantine={bad}"])

    assert 1 == status  # for the file that is no image, not for a name
    path = f"gr\\xfcn/{SHOWN}.png"
    output = capsys.readouterr()
    assert f"  {path}: expected JPEG, " in output.err
    assert f"set {SHOWN}: 11 images can be read, 1 cannot" in output.out
    (run,) = (runs / "m").iterdir()
    document = json.loads((run / "audit.json").read_text(encoding="utf-8"))
    assert [path] == [problem["path"] for problem in document["problems"]]
    assert ["gr\\xfcn", "red"] == sorted(document["classes"]["all"])
    assert "gr\\xfcn" in (run / "audit.html").read_text(encoding="utf-8")
    with (bad / "list.csv").open(encoding="utf-8") as file:
        assert path in [row["path"] for row in csv.DictReader(file)]
    assert b"no image" == (bad / path).read_bytes()


def test_score_writes_names_that_are_not_utf_8(
    tmp_path: Path, store: ModelStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every image is a row; what is left out is said in one line."""
    folder = write_files(odd_set(tmp_path), {"scan.dcm": bytes(128) + b"DICM" + bytes(99), "a.ppm": b"P6"})
    (folder / "red" / "0.png").rename(folder / "red" / "no-suffix")
    hide_package(monkeypatch, "pydicom")
    out = tmp_path / "out.csv"

    status = main(["score", "colours", str(folder), f"--out={out}", f"--models-dir={store.root}"])

    assert 0 == status
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = ["gr\\xfcn/0.png", f"red/{SHOWN}.png", "red/no-suffix"]
    assert 11 == len(rows)
    assert {*expected} <= {row["path"] for row in rows}
    assert {""} == {row["error"] for row in rows}
    assert "left out, not images: 1 .dcm (a DICOM file; " in capsys.readouterr().out


def test_console_that_shows_ascii_only(tmp_path: Path) -> None:
    """Class names that it cannot show are escaped, never an error."""
    files = {f"{label}/{i}.png": png(seed=i + 10 * n) for n, label in enumerate(("正常", "青光眼")) for i in range(5)}
    folder = write_files(tmp_path / "set", files)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}

    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "audit", str(folder), f"--runs-dir={tmp_path / 'runs'}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        check=False,
        timeout=300,
    )

    assert (0, False) == (done.returncode, b"Traceback" in done.stderr)
    assert rb"\u6b63\u5e38" in done.stdout


def test_run_says_how_it_reads_a_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything slow; here a weight file that is missing ends the run."""
    names = ("training_set/a", "training_set/b", "test_set/a", "test_set/b")
    folder = write_files(tmp_path / "set", {f"{name}/{i}.png": png(seed=i) for i, name in enumerate(names)})
    (folder / "training_set" / "@eaDir").mkdir()
    arguments = [f"--models-dir={tmp_path}", f"--runs-dir={tmp_path}", f"--set=model.weights={tmp_path / 'no.keras'}"]

    status = main(["run", str(folder), *arguments])

    assert 1 == status
    lines = capsys.readouterr().out.splitlines()
    assert ["folders read as splits: test_set is test, training_set is train"] == lines[:1]
    assert ["left out, of systems and hidden: 1 @eaDir"] == lines[1:2]


def test_zip_encoding_is_an_option_of_every_command_that_reads_a_zip(tmp_path: Path) -> None:
    for command in ("run", "audit", "preview", "evaluate"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--zip-encoding", "gbk", "--help"])
        assert 0 == ended.value.code


@pytest.mark.parametrize(("name", "hinted"), [("red ", True), ("r\u200bed", True), ("dog", False)])
def test_evaluate_shows_how_a_class_differs(
    tmp_path: Path, store: ModelStore, capsys: pytest.CaptureFixture[str], name: str, *, hinted: bool
) -> None:
    """A class that looks like one of the model's is shown with its code points."""
    folder = write_files(tmp_path / "set", {f"{name}/1.png": png(), "green/2.png": png(seed=1)})

    status = main(["evaluate", "colours", str(folder), f"--models-dir={store.root}", f"--runs-dir={tmp_path}"])

    assert 1 == status
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"expected classes that the model knows (blue, green, red). Received: {name}" in line
    points = " ".join(f"U+{ord(character):04X}" for character in name)
    assert hinted == ("only the spelling differs: " in line and f"({points})" in line)


def test_run_and_verify_names_that_are_not_utf_8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the folder to the contract, and back to the same files."""
    folder, places = odd_set(tmp_path), [f"--models-dir={tmp_path / 'models'}", f"--runs-dir={tmp_path / 'runs'}"]
    network = ["model.backbone=LeNet", "model.weights=none", "train.freeze_backbone=false"]
    settings = [*network, "train.epochs=1", "train.fine_tune.epochs=0"]

    assert 0 == main(["run", str(folder), "--name=m", *places, *(f"--set={setting}" for setting in settings)])
    assert 0 == main(["verify", "m/1", *places])

    assert "verified: m/1" in capsys.readouterr().out
    contract = ModelStore(tmp_path / "models").read_contract("m", 1)
    assert ["gr\\xfcn", "red"] == [label.id for label in contract.labels]
    (run,) = (tmp_path / "runs" / "m").iterdir()
    assert f"red/{SHOWN}.png" in (run / "manifest.csv").read_text(encoding="utf-8")
    assert "gr\\xfcn" in (run / "report.html").read_text(encoding="utf-8")
