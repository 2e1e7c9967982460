"""Training on disks that fill up and sets that go away: one error with a name, and what was written stays good."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.pixels import Pixels
from pipeline.errors import DiskError, LostImageError
from pipeline.training.checkpoint import BEST, Checkpoints, TrainingState, check_room, save_best, save_model
from tests.pipeline.training.test_train import Bench

WHOLE = ["train.freeze_backbone=false", "train.fine_tune.epochs=0", "train.epochs=40", "train.early_stopping=null"]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let this process write no file beyond so many bytes: as on a full disk, a write fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(name="bench", scope="module")
def fixture_bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A network and a set."""
    return Bench(tmp_path_factory.mktemp("bench"), WHOLE)


@pytest.mark.parametrize("size", [0, 1000, 100_000])
def test_weights_that_do_not_fit_are_an_error(bench: Bench, tmp_path: Path, size: int) -> None:
    """Neither HDF5 nor anything else ends the process; the files before are as they were, and no part is left."""
    model = bench.classifier.model
    save_best(model, tmp_path)
    save_model(model, tmp_path / "model.keras")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    with largest_file(size):
        with pytest.raises(DiskError, match=r"best\.weights\.h5 cannot be written: File too large"):
            save_best(model, tmp_path)
        with pytest.raises(DiskError, match=r"model\.keras cannot be written: File too large"):
            save_model(model, tmp_path / "model.keras")
        with pytest.raises(DiskError, match="checkpoint cannot be written"):
            Checkpoints(tmp_path).save(TrainingState(), model)

    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_weights_come_back_as_they_were(bench: Bench, tmp_path: Path) -> None:
    """Both files are Keras's own."""
    import keras

    model = bench.classifier.model
    save_best(model, tmp_path)
    save_model(model, tmp_path / "model.keras")
    wanted = model.get_weights()
    other = keras.models.clone_model(model)
    other.load_weights(tmp_path / BEST)

    for loaded in (other, keras.models.load_model(tmp_path / "model.keras")):
        assert all(np.array_equal(a, b) for a, b in zip(wanted, loaded.get_weights(), strict=True))


def test_room_is_looked_for_first(bench: Bench, tmp_path: Path) -> None:
    """The error says how much is needed and how much there is."""
    check_room(tmp_path, bench.classifier.model, 0)

    with pytest.raises(DiskError, match=r"training needs .* MB for checkpoints\. Received: .* MB free; make room"):
        check_room(tmp_path, bench.classifier.model, 10**17)


class Harming(Pixels):
    """Decodes images until the second epoch, and then harms the set."""

    def __init__(self, pixels: Pixels, harm: Any, after: int) -> None:
        super().__init__(pixels.source, pixels.spec, cache_bytes=0)
        self._harm, self._left = harm, after

    def __getitem__(self, path: str) -> Any:
        self._left -= 1
        if self._left == 0:
            self._harm(Path(self.source.location))
        return super().__getitem__(path)


def cut(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize("features", ["true", "false"])
@pytest.mark.parametrize(
    ("harm", "reason"), [(shutil.rmtree, "No such file or directory"), (cut, "it is truncated")], ids=["gone", "cut"]
)
def test_a_set_that_goes_away_names_the_file(tmp_path: Path, features: str, harm: Any, reason: str) -> None:
    """TensorFlow's account of it is the cause, not the message."""
    bench = Bench(tmp_path, [*WHOLE, f"cache.features={features}"])
    bench.pixels = Harming(bench.pixels, harm, after=60)

    with pytest.raises(LostImageError, match=rf"set: .*\.png cannot be read any more: .*{reason}") as caught:
        bench.train()

    assert 1 == len(str(caught.value).splitlines())
    assert (bench.folder / "checkpoints").is_dir()
