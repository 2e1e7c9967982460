"""A published version and a set that it knows."""

from pathlib import Path

import pytest

from contract.store import ModelStore
from tests.helpers.image_sets import COLORS, png, write_files
from tests.helpers.tiny_model import publish_variant


@pytest.fixture(name="work", scope="module")
def fixture_work(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]) -> Path:
    """A store with a version that tells colours apart, and a set of them."""
    work = tmp_path_factory.mktemp("work")
    publish_variant(ModelStore(work / "models"), tiny_models["plain"])
    write_files(work / "set", {f"{label}/{i}.png": png(COLORS[label], seed=i) for label in COLORS for i in range(3)})
    return work
