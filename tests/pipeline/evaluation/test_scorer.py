"""pipeline/evaluation/scorer.py: a version as a batch callable, here and in a process of its own."""

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from contract.errors import StoreError
from contract.store import ModelStore
from pipeline.data.map_batches import map_batches
from pipeline.evaluation.scorer import Scorer, scorer_of
from tests.helpers.tiny_model import publish_variant

NAME = "colours"


@pytest.fixture(name="tiny_store")
def fixture_tiny_store(store: ModelStore, tiny_models: dict[str, Path]) -> ModelStore:
    """A store with version 1 of a tiny model."""
    publish_variant(store, tiny_models["plain"])
    return store


def pictures(scorer: Scorer, count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, *scorer.contract.input.shape), np.uint8)


def test_scorer_gives_the_same_in_another_process(tiny_store: ModelStore) -> None:
    """Built from a path, sent to a process that has loaded nothing, mapped over batches: the same probabilities."""
    with scorer_of(tiny_store, NAME, 1) as scorer:
        images = pictures(scorer, 10)
        expected = scorer(images)
        assert (10, len(scorer.contract.labels)) == expected.shape
        assert np.float32 == expected.dtype
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
            parts = list(map_batches(Batch(scorer), images, executor, size=4))

    assert [4, 4, 2] == [len(part) for part in parts]
    np.testing.assert_allclose(expected, np.concatenate(parts), atol=1e-6)


class Batch:
    """Stacks images for a scorer."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def __call__(self, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return self.scorer(np.stack(images))


def test_loaded_scorer_is_pickled_as_path_and_precision(tiny_store: ModelStore) -> None:
    """A copy carries no engine: a few hundred bytes, whatever the model's size."""
    with scorer_of(tiny_store, NAME, 1, precision="float32") as scorer:
        scorer(pictures(scorer, 1))
        copy = pickle.loads(pickle.dumps(scorer))

    assert len(pickle.dumps(scorer)) < 1000
    assert (scorer.directory, "float32") == (copy.directory, copy.precision)
    with copy:
        assert "float32" == copy.engine.precision


def test_version_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Before anything is loaded."""
    with pytest.raises(StoreError):
        scorer_of(ModelStore(tmp_path), "nothing", 1)
