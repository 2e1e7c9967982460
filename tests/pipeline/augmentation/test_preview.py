"""`python -m pipeline preview`: a contact sheet of images and what augmentation makes of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.__main__ import main
from tests.helpers.image_sets import color_files, png, write_files

QUICK = ["--set=model.input_size=64", "--set=augment.channel_shift_range=90"]


def test_preview_draws_originals_and_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row begins with a training image of the next class as it is; further columns are changed pictures of it."""
    write_files(tmp_path / "colors", color_files(train=2, test=1))
    out = tmp_path / "sheet.png"

    status = main(["preview", str(tmp_path / "colors"), "--out", str(out), "--rows=3", "--columns=4", *QUICK])

    assert 0 == status
    assert f"written: {out}" in capsys.readouterr().out
    sheet = np.asarray(Image.open(out))
    assert (4 + 3 * (64 + 18), 4 + 4 * (64 + 4), 3) == sheet.shape
    pictures = [[sheet[18 + 82 * row :, 4 + 68 * column :][:64, :64] for column in range(4)] for row in range(3)]
    assert [2, 1, 0] == [int(row[0].mean(axis=(0, 1)).argmax()) for row in pictures]
    for row in pictures:
        assert all(np.abs(row[0].astype(int) - other).mean() > 3 for other in row[1:])


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        pytest.param("--out=sheet.nothing", "cannot be written as a picture", id="format"),
        pytest.param("--set=augment.rescale=1", "rescale is not a setting", id="recipe"),
    ],
)
def test_preview_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, words: str) -> None:
    """The last line names the file that cannot be read or written; the status is 1."""
    write_files(tmp_path / "colors", {"red/a.png": png(), "blue/b.png": png()})

    status = main(["preview", str(tmp_path / "colors"), f"--out={tmp_path / 'a.png'}", *QUICK, flag])

    assert 1 == status
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_preview_counts_are_checked(tmp_path: Path) -> None:
    """No rows are wrong use."""
    with pytest.raises(SystemExit, match="2"):
        main(["preview", str(tmp_path), f"--out={tmp_path / 'a.png'}", "--rows=0"])
