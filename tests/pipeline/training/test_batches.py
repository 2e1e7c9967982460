"""batches.py: what training sees is a function of manifest, recipe and seed; validation is never changed."""

import hashlib
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from contract.model import InputSpec
from pipeline.augmentation.augment import make_augmentation
from pipeline.data.ingest import ingest
from pipeline.data.pixels import Pixels
from pipeline.data.split import ManifestRow
from pipeline.recipe.recipe import load_recipe
from pipeline.training.batches import Batches
from tests.helpers.image_sets import color_files, write_files

LABELS = ("blue", "green", "red")


@pytest.fixture(name="colors", scope="module")
def fixture_colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with thirty coloured squares for training."""
    return write_files(tmp_path_factory.mktemp("set"), color_files(train=10))


def make_batches(
    folder: Path, *, engine: str | None = "fast", seed: int = 0, size: int = 8, memory: int = 10**9
) -> Batches:
    dataset = ingest(folder)
    rows = [
        ManifestRow(e.path, hashlib.sha256((folder / e.path).read_bytes()).hexdigest(), e.label, e.path, "train")
        for e in dataset.examples
        if e.split == "train"
    ]
    pixels = Pixels(dataset.source, InputSpec(24, 32, 3, "rgb"), cache_bytes=memory)
    augmentation = None
    if engine is not None:
        augmentation = make_augmentation(load_recipe("default", [f"augment.engine={engine}"]).augment, seed)
    return Batches(rows, LABELS, pixels, "caffe", batch_size=size, augmentation=augmentation, seed=seed)


def digest(batches: Batches, *, first_epoch: int = 0, epochs: int = 2) -> list[str]:
    """Return a hash of every batch."""
    dataset = batches.dataset(first_epoch).take(epochs * len(batches))
    return [hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest() for x, y in dataset.as_numpy_iterator()]


@pytest.mark.parametrize("engine", ["fast", "keras"])
def test_epochs_differ_and_repeat(colors: Path, engine: str) -> None:
    """Another epoch or seed gives other batches; the same ones, or a start in the middle, the same."""
    first = digest(make_batches(colors, engine=engine))

    assert 8 == len(first) == len(set(first))
    assert first == digest(make_batches(colors, engine=engine))
    assert first[4:] == digest(make_batches(colors, engine=engine), first_epoch=1, epochs=1)
    assert not set(first) & set(digest(make_batches(colors, engine=engine, seed=1)))


def test_images_outside_the_memory_limit_are_the_same(colors: Path) -> None:
    """Batches do not depend on how many decoded images fit into memory."""
    assert digest(make_batches(colors)) == digest(make_batches(colors, memory=5 * 24 * 32 * 3))


def test_every_image_comes_once_an_epoch(colors: Path) -> None:
    """An epoch holds each image once, float32, the last batch smaller, in another order than the next epoch."""
    batches = make_batches(colors)
    targets: list[list[int]] = []
    for images, labels in batches.dataset().take(2 * len(batches)).as_numpy_iterator():
        assert (np.float32, (len(labels), 24, 32, 3)) == (images.dtype, images.shape)
        targets.append(labels.tolist())

    assert [8, 8, 8, 6] * 2 == [len(part) for part in targets]
    one, two = list(chain(*targets[:4])), list(chain(*targets[4:]))
    assert [0] * 10 + [1] * 10 + [2] * 10 == sorted(one) == sorted(two)
    assert one != two


def test_validation_is_neither_changed_nor_shuffled(colors: Path) -> None:
    """Without augmentation the images come once, in order, as decoded and preprocessed."""
    batches = make_batches(colors, engine=None)
    pixels = Pixels(ingest(colors).source, InputSpec(24, 32, 3, "rgb"))
    paths = [example.path for example in ingest(colors).examples if example.split == "train"]

    images = np.concatenate([x for x, _ in batches.dataset().as_numpy_iterator()])

    expected = pixels.batch(paths)[..., ::-1].astype(np.float32) - np.array([103.939, 116.779, 123.68], np.float32)
    np.testing.assert_allclose(expected, images, atol=1e-4)


IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from tests.pipeline.training.test_batches import digest, make_batches
from pipeline.networks.splitting import cut_before_head
from tests.pipeline.features.test_features import network
from pipeline.features.features import hash_network
print(*digest(make_batches(Path(sys.argv[1]))), hash_network(split_before_head(network()).frozen, {}))
"""


@pytest.mark.slow
def test_a_fresh_process_makes_the_same_batches(colors: Path) -> None:
    """Nothing depends on the process: neither the batches nor the name under which features are kept."""
    from pipeline.features.features import hash_network
    from pipeline.networks.splitting import split_before_head
    from tests.pipeline.features.test_features import network

    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(colors)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout

    assert [*digest(make_batches(colors)), hash_network(split_before_head(network()).frozen, {})] == output.split()


def test_recipe_without_changes_draws_nothing(colors: Path) -> None:
    """With every change off, an epoch has the images themselves in a new order; kept images need no second decoding."""
    off = ["rotation_range=0", "width_shift_range=0", "height_shift_range=0", "horizontal_flip=false"]
    augment = load_recipe("default", [f"augment.{setting}" for setting in off]).augment
    batches = make_batches(colors)
    plain = make_batches(colors, engine=None)
    batches._augmentation = make_augmentation(augment, 0)

    first, second = (
        np.concatenate([x for x, _ in batches.dataset(epoch).take(len(batches)).as_numpy_iterator()])
        for epoch in (0, 1)
    )

    expected = np.concatenate([x for x, _ in plain.dataset().as_numpy_iterator()])
    assert not np.array_equal(first, second)
    assert {row.tobytes() for row in expected} == {row.tobytes() for row in first} == {row.tobytes() for row in second}
    for setting in (*off[:3], "horizontal_flip=true"):
        on = setting.replace("=0", "=0.1")
        assert load_recipe("default", [*(f"augment.{s}" for s in off), f"augment.{on}"]).augment.changes_images
