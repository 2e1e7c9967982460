"""pipeline/data/lineage.py: what a version has seen, by the manifests of its run and of its ancestors' runs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contract.store import ModelStore
from pipeline.__main__ import main
from pipeline.data.lineage import find_ancestors, seen_by
from tests.helpers.tiny_model import MODEL_NAME
from tests.helpers.versions import ColorSet, publish_trained

ANCESTOR, BETWEEN, OWN = (f"2026010{i}T000000Z-aaaaaa" for i in range(1, 4))
FROM_VERSION = {"recipe": {"model": {"weights": f"{MODEL_NAME}/1"}}}
FROM_FILE = {"recipe": {"model": {"weights": "elsewhere/start.keras"}}}


@dataclass(frozen=True)
class Family:
    """Versions of one model, trained on images of their own.

    Attributes:
        root: of the store and the runs.
        variant: what all of them answer by.
    """

    root: Path
    variant: Path

    @property
    def store(self) -> ModelStore:
        return ModelStore(self.root / "models")

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def publish(self, run: str, **provenance: Any) -> set[str]:
        """Publish a version that a run made; return the hashes of the images that it trained on."""
        images = ColorSet(self.root / run)
        trained = images.add("train", 2, start=10 * int(run[7]))
        publish_trained(self.store, self.runs, self.variant, images, run=run, **provenance)
        return {row.sha256 for row in trained}

    def prune(self) -> None:
        assert 0 == main(["prune", "--keep=0", f"--models-dir={self.store.root}", f"--runs-dir={self.runs}"])

    def seen(self, version: int) -> set[str] | None:
        found = seen_by(self.store, self.runs, MODEL_NAME, version)
        return None if found is None else set(found.sha256)


@pytest.fixture(name="family")
def fixture_family(tmp_path: Path, tiny_models: dict[str, Path]) -> Family:
    return Family(tmp_path, tiny_models["plain"])


def test_pruned_ancestor_is_known_by_its_manifest(family: Family) -> None:
    """A run's manifest outlives its version, and the contract of what was trained from it names the run."""
    first = family.publish(ANCESTOR, keras_model_sha256="f00")
    family.publish(BETWEEN)
    own = family.publish(OWN, weights="sha256:f00", ancestors=[ANCESTOR])
    assert first | own == family.seen(3)

    family.prune()

    assert (2, 3) == family.store.read_versions(MODEL_NAME)
    assert first | own == family.seen(3)


@pytest.mark.parametrize(
    "provenance",
    [{}, {"weights": "imagenet"}, {"weights": "sha256:f00", **FROM_FILE}, {"weights": "sha256:f00", "ancestors": []}],
    ids=["nothing", "imagenet", "a-file", "no-version"],
)
def test_version_without_ancestors_has_seen_its_own_images(family: Family, provenance: dict[str, Any]) -> None:
    """A file of weights from elsewhere names no version."""
    assert family.publish(OWN, **provenance) == family.seen(1)


@pytest.mark.parametrize(
    "provenance",
    [FROM_VERSION, {"warm_start": {"version": f"{MODEL_NAME}/1"}}, {"ancestors": [BETWEEN, None]}, {"ancestors": [7]}],
    ids=["weights-of-a-version", "warm-start", "not-known-then", "no-run"],
)
def test_ancestor_that_is_not_found_leaves_it_unknown(family: Family, provenance: dict[str, Any]) -> None:
    """Contracts of earlier versions of Fovea name the version alone: pruned, nobody knows its run."""
    family.publish(ANCESTOR, keras_model_sha256="f00")
    family.publish(BETWEEN)
    family.publish(OWN, weights="sha256:f00", **provenance)
    family.prune()

    assert family.seen(3) is None
    assert family.seen(2) is not None


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("path,size\na.png,3\n")])
def test_manifest_of_an_ancestor_that_is_gone_or_broken_leaves_it_unknown(
    family: Family, spoil: Callable[[Path], object]
) -> None:
    """As a version's own."""
    family.publish(ANCESTOR, keras_model_sha256="f00")
    family.publish(OWN, weights="sha256:f00")
    assert family.seen(2) is not None

    spoil(family.runs / MODEL_NAME / ANCESTOR / "manifest.csv")

    assert family.seen(2) is None


def test_ancestors_are_named_to_the_first_one(family: Family) -> None:
    """By what the contracts on the way name, and by hashes before that; a contract that names itself ends the way."""
    family.publish(ANCESTOR, keras_model_sha256="f00", weights="sha256:f00")
    family.publish(BETWEEN, keras_model_sha256="f01", weights="sha256:f00")
    family.publish(OWN, keras_model_sha256="f02", weights="sha256:f01", ancestors=[BETWEEN, ANCESTOR])

    assert (OWN, BETWEEN, ANCESTOR) == find_ancestors(family.store, {"weights": "sha256:f02"})
    assert (BETWEEN, ANCESTOR) == find_ancestors(family.store, {"weights": "sha256:f01"})
    assert () == find_ancestors(family.store, {"weights": "sha256:f03"})
