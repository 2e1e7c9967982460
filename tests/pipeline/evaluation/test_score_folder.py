"""pipeline/scoring/score_folder.py: a folder of images to a CSV, whatever is in the folder."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from contract.image import decode_image
from contract.store import ModelStore
from pipeline.__main__ import main
from pipeline.scoring.score_folder import walk_images
from tests.helpers.image_sets import COLORS, png, write_files
from tests.helpers.server_process import ROOT
from tests.helpers.tiny_model import VARIANTS, build_contract, expected_probabilities


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_image_is_a_row(tmp_path: Path, store: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows in path order with the model's own digits; bad files are rows with an error; other files are no rows."""
    colors = {f"{i:02}/{label}.png": png(color, seed=i) for i in range(15) for label, color in COLORS.items()}
    bad = {"bad/cut.png": png(size=64)[:-300], "bad/empty.jpg": b"", "bad/text.png": b"no image", 'a, "b"\n.png': b"?"}
    others = {"notes.txt": b"text", ".hidden.png": png(), ".git/x.png": png()}
    write_files(tmp_path / "images", colors | bad | others)
    out = tmp_path / "out.csv"

    status = main(["score", "colours", str(tmp_path / "images"), f"--out={out}", f"--models-dir={store.root}"])

    assert 0 == status
    assert "scored: 45 images by colours/1 at float32, 4 could not be read" in capsys.readouterr().out
    rows = read_csv(out)
    assert sorted([*colors, *bad]) == sorted(row["path"] for row in rows)
    by_path = {row["path"]: row for row in rows}
    contract = build_contract(VARIANTS["plain"])
    images = np.stack([decode_image(data, contract.input) for data in colors.values()])
    for path, expected in zip(colors, expected_probabilities(images, VARIANTS["plain"].labels), strict=True):
        row = by_path[path]
        received = np.array([row[f"probability_{label}"] for label in VARIANTS["plain"].labels], np.float32)
        assert np.abs(expected - received).max() < 1e-6
        assert (path[3:-4], path[3:-4].capitalize(), "") == (row["id"], row["label"], row["error"])
        assert float(received.max()) == float(np.float32(row["probability"]))
    assert "undecodable_image: the PNG image cannot be decoded: it is truncated" == by_path["bad/cut.png"]["error"]
    assert by_path["bad/empty.jpg"]["error"].startswith("empty_image: ")
    assert "" == by_path["bad/text.png"]["probability_red"]
    assert [] == list(tmp_path.glob(".out.csv*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["score", "colours", "{}/nowhere", "--out={}/out.csv"], "no such folder", id="folder"),
        pytest.param(["score", "colours", "{}/empty", "--out={}/out.csv"], "Received: none", id="empty"),
        pytest.param(["score", "colours/7", "{}/empty", "--out={}/out.csv"], "expected colours, or", id="version"),
        pytest.param(["score", "shapes", "{}/empty", "--out={}/out.csv"], "no model 'shapes'", id="model"),
        pytest.param(["score", "colours", "{}/one", "--out={}/no/out.csv"], "cannot be written", id="out"),
    ],
)
def test_impossible_scoring_is_refused(
    tmp_path: Path, store: ModelStore, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1 with the reason on the last line; no CSV is left."""
    (tmp_path / "empty").mkdir()
    write_files(tmp_path / "one", {"a.png": png()})

    status = main([*(argument.format(tmp_path) for argument in arguments), f"--models-dir={store.root}"])

    assert 1 == status
    assert words in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "out.csv").exists()


def test_walk_is_sorted_and_streams(tmp_path: Path) -> None:
    """Files of a folder come before those of its subfolders, each sorted; a loop of links does not trap it."""
    write_files(tmp_path, {name: b"" for name in ("b/2.png", "b/1.JPG", "a/x/9.webp", "z.png", "c.txt")})
    (tmp_path / "b" / "loop").symlink_to(tmp_path)

    assert ["z.png", "a/x/9.webp", "b/1.JPG", "b/2.png"] == list(walk_images(tmp_path))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path, store: ModelStore) -> None:
    """Ten times the images take at most a tenth more memory (peak resident, in fresh processes)."""
    data = png(size=300)
    write_files(tmp_path / "few", {f"{i:05}.png": data for i in range(300)})
    write_files(tmp_path / "many", {f"{i:05}.png": data for i in range(3000)})
    code = (
        "import resource, sys\nfrom pipeline.__main__ import main\n"
        "status = main(sys.argv[1:])\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\nsys.exit(status)"
    )

    def peak_kib(folder: str) -> int:
        arguments = ["score", "colours", str(tmp_path / folder), f"--out={tmp_path / folder}.csv"]
        command = [sys.executable, "-c", code, *arguments, f"--models-dir={store.root}"]
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=True
        )
        return int(done.stdout.splitlines()[-1])

    assert peak_kib("many") <= 1.1 * peak_kib("few")
    assert 3000 == len(read_csv(tmp_path / "many.csv"))
