"""LeNet on handwritten digits, from a folder of grey PNG files: the smallest real task there is."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from contract.model import ModelContract
from contract.store import CONTRACT_FILE, ModelStore
from pipeline.recipe.recipe import load_recipe
from pipeline.run.run import run
from tests.helpers.image_sets import write_files


def digit_files() -> dict[str, bytes]:
    """1797 digits of 8x8 pixels and 17 levels, enlarged to 28x28 grey PNG files; a fifth of each is for testing."""
    digits = load_digits()
    files = {}
    for i, (image, target) in enumerate(zip(digits.images, digits.target, strict=True)):
        buffer = io.BytesIO()
        picture = Image.fromarray((image * 15.9375).astype(np.uint8), "L")
        picture.resize((28, 28), Image.Resampling.BILINEAR).save(buffer, "PNG")
        files[f"{'test' if i % 5 == 4 else 'train'}/{target}/{i:04}.png"] = buffer.getvalue()
    return files


@pytest.mark.slow
@pytest.mark.parametrize("color", ["rgb", "grey"])
def test_lenet_reads_digits(tmp_path: Path, color: str) -> None:
    """At least 98 of 100 test digits by the name of the network alone; in grey from file to graph where asked for."""
    settings = ["model.backbone=LeNet", f"data.color={color}"]
    dataset = write_files(tmp_path / "digits", digit_files())

    result = run(
        dataset,
        load_recipe("default", settings),
        ModelStore(tmp_path / "models"),
        name="digits",
        runs_dir=tmp_path / "runs",
    )

    contract = ModelContract.from_json((result.directory / CONTRACT_FILE).read_text())
    assert (28, 28, 1 if color == "grey" else 3) == contract.input.shape
    assert result.test["accuracy"] >= 0.98
