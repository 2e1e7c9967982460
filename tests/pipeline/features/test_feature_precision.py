"""feature_precision.py: features at a faster precision are taken where they keep a head's validation metric."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from contract.model import InputSpec
from engine.loading import list_precisions
from pipeline.data.ingest import ingest
from pipeline.data.pixels import Pixels
from pipeline.data.split import Manifest, ManifestRow
from pipeline.errors import RecipeError
from pipeline.features.feature_precision import (
    FeatureVerdict,
    Sample,
    choose_sample,
    compare_features,
    read_verdict,
    write_verdict,
)
from pipeline.features.frozen_backbone import FrozenBackbone
from pipeline.networks.network import Classifier, build_classifier
from pipeline.networks.weights import Weights
from pipeline.recipe.gate_settings import Gate
from pipeline.recipe.recipe import Model, load_recipe

LABELS = ("blue", "green", "red")
FASTER = list_precisions("openvino")[1:]


def rows(train: int, val: int) -> tuple[ManifestRow, ...]:
    """Return rows of images of three classes in turns."""
    splits = ["train"] * train + ["val"] * val
    return tuple(ManifestRow(f"{i}", f"{i}", LABELS[i % 3], f"{i}", split) for i, split in enumerate(splits))


def test_too_few_images_are_no_sample() -> None:
    """63 validation images, or one class in training; of many images 256 of each split are taken, by seed."""
    assert choose_sample(Manifest(rows(90, 63)), seed=0) is None
    assert choose_sample(Manifest(tuple(row for row in rows(90, 300) if row.label == "red")), seed=0) is None
    sample, again, other = (choose_sample(Manifest(rows(400, 300)), seed=seed) for seed in (3, 3, 4))
    assert sample is not None
    assert (len(sample.training), len(sample.validation)) == (256, 256)
    assert sample == again != other


@pytest.mark.parametrize(("noise", "kept"), [(0.0, True), (0.01, True), (30.0, False)])
def test_noise_that_costs_accuracy_is_not_kept(noise: float, kept: bool) -> None:
    """Both heads are judged by float32 features: the published network computes them."""
    found = rows(120, 90)
    sample, rng = Sample(found[:120], found[120:]), np.random.default_rng(0)
    classes = np.arange(210) % 3
    expected = (np.eye(3)[classes] + rng.normal(0, 0.2, (210, 3))).astype(np.float32)
    received = expected + rng.normal(0, noise, expected.shape) if noise else expected
    verdict = compare_features("bfloat16", sample, LABELS, received, expected, Gate(margin=0.02))
    assert (verdict.kept, verdict.validation_images) == (kept, 90)
    assert verdict.float32_value > 0.95
    assert ("do not keep" in verdict.words) is not kept


@pytest.fixture(name="backbone")
def fixture_backbone(tmp_path: Path) -> Callable[..., tuple[FrozenBackbone, Manifest]]:
    """A small network, and 150 pictures of three colours, 70 of them for validation."""
    rng, found = np.random.default_rng(0), []
    for i in range(150):
        pixels = rng.integers(0, 120, (32, 32, 3), np.uint8)
        pixels[..., 2 - i % 3] += 100
        path = tmp_path / "colours" / LABELS[i % 3] / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        digest, name = hashlib.sha256(path.read_bytes()).hexdigest(), f"{LABELS[i % 3]}/{path.name}"
        found.append(ManifestRow(name, digest, LABELS[i % 3], name, "train" if i < 80 else "val"))

    def build(*overrides: str, lossy: bool = False) -> tuple[FrozenBackbone, Manifest]:
        settings = load_recipe("demo", ["model.weights=some.h5", "train.freeze_backbone=true", *overrides])
        classifier = _build_network(lossy=lossy)
        pixels = Pixels(ingest(tmp_path / "colours").source, InputSpec(32, 32, 3, "rgb"))
        return FrozenBackbone(classifier, pixels, settings, tmp_path / "features"), Manifest(tuple(found))

    return build


def _build_network(*, lossy: bool) -> Classifier:
    """Return a network; a lossy one has features with a large part in common, beside which bfloat16 has no digits."""
    keras.utils.set_random_seed(0)
    settings = Model.model_validate({"backbone": "ResNet", "weights": "none", "input_size": 32})
    classifier = build_classifier(settings, Weights("none", None), num_classes=3, channels=3)
    if lossy:
        norms = [one for one in classifier.backbone_layers if isinstance(one, keras.layers.BatchNormalization)]
        norms[-1].beta.assign(norms[-1].beta + 20_000)
    return classifier


@pytest.mark.skipif(not FASTER, reason="this machine computes nothing faster than float32")
@pytest.mark.parametrize("lossy", [False, True], ids=["kept", "lost"])
def test_the_head_decides(backbone: Callable[..., tuple[FrozenBackbone, Manifest]], lossy: bool) -> None:
    """The fastest precision of this machine, or float32 where a head on its features is worse in validation."""
    frozen, manifest = backbone(lossy=lossy)
    frozen.choose_precision(manifest, LABELS)
    assert frozen.verdict is not None
    assert (frozen.verdict.precision, frozen.verdict.kept) == (FASTER[0], not lossy)
    assert frozen.extractor.frozen.precisions[0] == ("float32" if lossy else FASTER[0])


@pytest.mark.parametrize("pinned", ["float32", *FASTER])
def test_a_pinned_precision_is_not_judged(
    backbone: Callable[..., tuple[FrozenBackbone, Manifest]], pinned: str
) -> None:
    """The recipe's word is taken."""
    frozen, manifest = backbone(f"cache.features_precision={pinned}")
    frozen.choose_precision(manifest, LABELS)
    assert frozen.verdict is None
    assert frozen.extractor.frozen.precisions[0] == pinned


def test_a_precision_that_the_machine_lacks_is_refused(
    backbone: Callable[..., tuple[FrozenBackbone, Manifest]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the ones that it has."""
    monkeypatch.setattr("engine.runtimes.openvino.faster_precisions", lambda: ())
    frozen, manifest = backbone("cache.features_precision=bfloat16")
    with pytest.raises(RecipeError, match=r"expected one of auto, float32 on this machine\. Received: bfloat16"):
        frozen.choose_precision(manifest, LABELS)


@pytest.mark.skipif(not FASTER, reason="this machine computes nothing faster than float32")
@pytest.mark.parametrize("lossy", [False, True], ids=["kept", "lost"])
def test_a_verdict_holds_while_its_views_are_kept(
    backbone: Callable[..., tuple[FrozenBackbone, Manifest]], lossy: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is judged anew before they are computed, and by another metric; a narrower margin decides by its values."""
    earlier, manifest = backbone(lossy=lossy)
    earlier.choose_precision(manifest, LABELS)
    again, _ = backbone(lossy=lossy)
    again.choose_precision(manifest, LABELS)
    assert "of an earlier run" not in capsys.readouterr().err
    views = earlier.extractor.views(manifest.of("train"), 4)  # as the recipe has them
    assert earlier.extractor.compute(views)
    capsys.readouterr()

    frozen, _ = backbone(lossy=lossy)
    frozen.choose_precision(manifest, LABELS)
    assert "of an earlier run" in capsys.readouterr().err
    assert frozen.verdict is not None
    assert frozen.verdict.kept is not lossy
    assert frozen.extractor.compute(views)
    assert "; 0 to compute" in capsys.readouterr().err
    other, _ = backbone("evaluate.gate.metric=accuracy", lossy=lossy)
    other.choose_precision(manifest, LABELS)
    assert "of an earlier run" not in capsys.readouterr().err


def test_a_margin_decides_by_the_values_of_a_kept_verdict(tmp_path: Path) -> None:
    """A damaged file is no verdict."""
    verdict = FeatureVerdict("bfloat16", True, "balanced_accuracy", 0.9, 0.89, 256, 200)
    write_verdict(tmp_path, verdict)
    assert read_verdict(tmp_path, Gate(margin=0.02)) == verdict
    strict = read_verdict(tmp_path, Gate(margin=0.0))
    assert strict is not None
    assert not strict.kept
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert read_verdict(tmp_path, Gate(margin=0.02)) is None
