"""pipeline/publishing/gate.py: a new version against the live one, on images that neither has seen."""

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from contract.store import CONTRACT_FILE, ModelEntry, ModelStore
from pipeline.commands.output.outcome import describe_outcome
from pipeline.data.ingest import FolderSource
from pipeline.data.lineage import find_ancestors
from pipeline.errors import RecipeError
from pipeline.publishing.gate import Contender, Gatekeeper, GateOutcome
from pipeline.recipe.gate_settings import Gate
from pipeline.recipe.recipe import load_recipe
from tests.helpers.tiny_model import MODEL_NAME
from tests.helpers.versions import ColorSet, publish_trained

LABELS = ("blue", "green", "red")


class Arena:
    """A store with a live version, a set of images, and a gate between them."""

    def __init__(self, root: Path, tiny_models: dict[str, Path]) -> None:
        self.store = ModelStore(root / "models")
        self.runs = root / "runs"
        self.images = ColorSet(root / "set")
        self.variants = tiny_models

    def publish_live(self, variant: str = "plain", **provenance: Any) -> int:
        return publish_trained(self.store, self.runs, self.variants[variant], self.images, **provenance)

    def contender(self, *, wrong: int = 0, labels: Sequence[str] = LABELS, weights: str = "none") -> Contender:
        """One that is right about all test images but the first `wrong`."""
        rows = self.images.manifest.of("test")
        targets = np.array([labels.index(row.label) for row in rows])
        said = np.where(np.arange(len(rows)) < wrong, (targets + 1) % 3, targets)
        probabilities: NDArray[np.float32] = (0.05 + 0.85 * np.eye(3)[said]).astype(np.float32)
        manifest, source = self.images.manifest, FolderSource(self.images.folder)
        ancestors = find_ancestors(self.store, {"weights": weights})
        return Contender(labels, manifest, ancestors, source, probabilities)

    def judge(self, contender: Contender | None, *, force: bool = False, **gate: Any) -> GateOutcome:
        settings = Gate(**{"metric": "accuracy", "margin": 0.0} | gate)
        entry, outcome = Gatekeeper(settings, self.store, self.runs, force=force).judge(MODEL_NAME, contender)
        assert self.store.read_index().get(MODEL_NAME, ModelEntry()) == entry
        return outcome


@pytest.fixture(name="arena")
def fixture_arena(tmp_path: Path, tiny_models: dict[str, Path]) -> Arena:
    """Thirty test images, six to train on and three to validate on; no version yet."""
    arena = Arena(tmp_path, tiny_models)
    arena.images.add("train", 2)
    arena.images.add("val", 1)
    arena.images.add("test", 10)
    return arena


def test_first_version_becomes_live(arena: Arena) -> None:
    """There is nothing to be worse than."""
    outcome = arena.judge(arena.contender(wrong=30))

    assert ("first", True) == (outcome.verdict, outcome.becomes_live)


def test_version_with_a_fault_stays_candidate_even_as_the_first(arena: Arena) -> None:
    """The faults are the reason, and are recorded; --force overrules them."""
    faulty = replace(arena.contender(), faults=("the answer is constant: red for each of 30 test images",))

    outcome = arena.judge(faulty)

    assert ("unfit", False, faulty.faults) == (outcome.verdict, outcome.becomes_live, outcome.faults)
    assert "there was no live version; the answer is constant: red for each of 30 test images" == outcome.reason
    assert arena.judge(faulty, force=True).becomes_live


@pytest.mark.parametrize(("wrong", "verdict"), [(0, "unfit"), (30, "failed")])
def test_later_version_with_a_fault_stays_candidate(arena: Arena, wrong: int, verdict: str) -> None:
    """However well it compares; one that is worse as well says both."""
    arena.publish_live()

    outcome = arena.judge(replace(arena.contender(wrong=wrong), faults=("the loss diverged",)))

    assert (verdict, False) == (outcome.verdict, outcome.becomes_live)
    assert outcome.reason.startswith("accuracy ")
    assert outcome.reason.endswith("; the loss diverged")


def test_version_that_is_surely_worse_fails_within_the_margin(arena: Arena) -> None:
    """Sixteen of 999 images lost and none won is no chance, though less than the margin of 0.02."""
    arena.images.add("test", 323, start=10)
    arena.publish_live()

    outcome = arena.judge(arena.contender(wrong=16), margin=0.02)

    assert ("failed", "worse", False) == (outcome.verdict, outcome.evidence, outcome.becomes_live)
    assert "the interval is below 0: worse" in outcome.reason
    assert -16 / 999 == pytest.approx(outcome.gain, abs=1e-6)
    assert outcome.interval is not None
    assert -0.02 > outcome.interval[0]
    assert -0.008 > outcome.interval[1]


def test_version_that_is_surely_not_worse_passes(arena: Arena) -> None:
    """One of 999 images lost is above the margin with its whole interval."""
    arena.images.add("test", 323, start=10)
    arena.publish_live()

    outcome = arena.judge(arena.contender(wrong=1), margin=0.02)

    assert ("passed", "not worse", False) == (outcome.verdict, outcome.evidence, outcome.is_undecided)
    assert "the interval is above -0.02: not worse" in outcome.reason


def test_undecided_is_said_and_the_margin_counts(arena: Arena) -> None:
    """Thirty images do not tell a difference of a tenth."""
    arena.publish_live()

    outcome = arena.judge(arena.contender(wrong=2), margin=0.1)

    assert ("passed", "undecided", True) == (outcome.verdict, outcome.evidence, outcome.is_undecided)
    assert any(
        line.startswith("undecided: 30 test images in 30 groups do not tell a difference of 0.1 in accuracy")
        for line in describe_outcome(outcome, MODEL_NAME, 2)
    )


def test_images_of_one_group_count_once(arena: Arena) -> None:
    """The same sixteen lost images, of one patient, decide nothing."""
    arena.images.add("test", 323, start=10)
    tested = sorted(arena.images.manifest.of("test"), key=lambda row: row.path)
    patient = {row.path for row in tested[:16]}
    arena.images.rows = [replace(row, group="P1") if row.path in patient else row for row in arena.images.rows]
    arena.publish_live()

    outcome = arena.judge(arena.contender(wrong=16), margin=0.02)

    assert ("passed", "undecided", 984) == (outcome.verdict, outcome.evidence, outcome.groups)


@pytest.fixture(name="drifted")
def fixture_drifted(arena: Arena) -> Arena:
    """Two versions: the first is right about all 120 images, the live one wrong about 3, whose middle misleads it."""
    arena.images.add("test", 30, start=10)
    misled = arena.images.manifest.of("test")[:3]
    for row in misled:
        path = arena.images.folder / row.path
        pixels = np.array(Image.open(path))
        pixels[5:11, 5:11] = 255 - pixels[5:11, 5:11]
        Image.fromarray(pixels).save(path)
        changed = replace(row, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        arena.images.rows[arena.images.rows.index(row)] = changed
    arena.publish_live(run="20260101T000000Z-aaaaaa")
    arena.publish_live("plain", run="20260102T000000Z-bbbbbb")
    path = arena.store.version_path(MODEL_NAME, 2) / CONTRACT_FILE
    document = json.loads(path.read_text())
    document["input"] |= {"fit": "crop", "crop_fraction": 0.25}
    document["format"] = 2
    path.write_text(json.dumps(document))
    return arena


def test_small_steps_do_not_add_up(drifted: Arena) -> None:
    """Within the margin of the live version, but beyond that of the first: it stays candidate, and both are said."""
    outcome = drifted.judge(drifted.contender(wrong=5), margin=0.02)

    assert (2, 0.975) == (outcome.live_version, outcome.live_value)
    assert -2 / 120 == pytest.approx(outcome.gain, abs=1e-6)
    assert outcome.anchor is not None
    assert (1, 1.0) == (outcome.anchor.version, outcome.anchor.value)
    assert -5 / 120 == pytest.approx(outcome.anchor.gain, abs=1e-6)
    assert ("failed", False) == (outcome.verdict, outcome.becomes_live)
    assert "of version 1, the first on 120 test images" in outcome.reason
    assert 1 == outcome.document()["anchor"]["version"]

    assert "passed" == drifted.judge(drifted.contender(wrong=2), margin=0.02).verdict


def test_version_promoted_by_hand_is_the_anchor(drifted: Arena) -> None:
    """What a person chose is the measure from then on; rolled back, the first one is it again."""
    drifted.publish_live(run="20260103T000000Z-cccccc")
    drifted.store.promote(MODEL_NAME, 2)
    assert "passed" == drifted.judge(drifted.contender(wrong=5), margin=0.02).verdict

    drifted.store.promote(MODEL_NAME, 3)
    outcome = drifted.judge(drifted.contender(wrong=5), margin=0.02)
    assert ("failed", 3, None) == (outcome.verdict, outcome.live_version, outcome.anchor)
    drifted.store.rollback(MODEL_NAME)
    outcome = drifted.judge(drifted.contender(wrong=5), margin=0.02)
    assert outcome.anchor is not None
    assert ("failed", 2, 1) == (outcome.verdict, outcome.live_version, outcome.anchor.version)


def test_anchor_that_is_pruned_or_incomparable_is_left_out(drifted: Arena) -> None:
    """The comparison with the live version stands alone."""
    shutil.rmtree(drifted.runs / MODEL_NAME / "20260101T000000Z-aaaaaa")
    outcome = drifted.judge(drifted.contender(wrong=5), margin=0.02)
    assert ("passed", None) == (outcome.verdict, outcome.anchor)
    assert "no comparison with version 1, the first: what version 1 was trained on is not known" in outcome.reason

    drifted.publish_live("plain", run="20260104T000000Z-dddddd")
    drifted.store.rollback(MODEL_NAME)  # 3, to be live version 2 again with 1 without a role
    drifted.store.remove(MODEL_NAME, 1)
    outcome = drifted.judge(drifted.contender(wrong=5), margin=0.02)
    assert ("passed", None) == (outcome.verdict, outcome.anchor)
    assert "no comparison" not in outcome.reason


def test_equal_is_not_worse(arena: Arena) -> None:
    """With a margin of nothing, a version as good as the live one passes."""
    arena.publish_live()

    outcome = arena.judge(arena.contender())

    assert ("passed", True) == (outcome.verdict, outcome.becomes_live)
    assert (30, 1, 1.0, 1.0) == (outcome.images, outcome.live_version, outcome.live_value, outcome.value)


@pytest.mark.parametrize(
    ("wrong", "margin", "verdict"),
    [(3, 0.0999, "failed"), (3, 0.1, "passed"), (0, 0.0, "passed"), (1, 0.0, "failed")],
    ids=["beyond", "exactly-the-margin", "none-wrong", "one-wrong"],
)
def test_margin_is_how_much_worse_it_may_be(arena: Arena, wrong: int, margin: float, verdict: str) -> None:
    """Three wrong of thirty is a tenth worse than a live version that is always right."""
    arena.publish_live()

    outcome = arena.judge(arena.contender(wrong=wrong), margin=margin)

    assert verdict == outcome.verdict
    assert (verdict == "passed") == outcome.becomes_live
    assert 1 - wrong / 30 == pytest.approx(outcome.value)


@pytest.mark.parametrize("metric", ["brier", "log_loss"])
def test_losses_are_better_when_lower(arena: Arena, metric: str) -> None:
    """A version with a higher loss is the worse one."""
    arena.publish_live()

    outcome = arena.judge(arena.contender(wrong=30), metric=metric, margin=0.1)

    assert "failed" == outcome.verdict
    assert outcome.value is not None
    assert outcome.live_value is not None
    assert outcome.value > outcome.live_value


def test_force_overrules_and_is_recorded(arena: Arena) -> None:
    """The verdict stays what it was; the version becomes live all the same."""
    arena.publish_live()

    document = arena.judge(arena.contender(wrong=30), force=True).document()

    assert ("failed", True, "live") == (document["verdict"], document["forced"], document["published_as"])


def test_labels_in_another_order_are_the_same_labels(arena: Arena) -> None:
    """The live version's columns are put in the new version's order before anything is measured."""
    arena.publish_live("permuted")

    assert 1.0 == arena.judge(arena.contender()).live_value


def test_live_version_sees_images_as_it_wants_them(arena: Arena) -> None:
    """A live version of another input size is asked by its own contract."""
    arena.publish_live("small")

    assert 1.0 == arena.judge(arena.contender()).live_value


def skipped_because(outcome: GateOutcome, words: str, caplog: pytest.LogCaptureFixture) -> None:
    """Skipped, said, and neither measured nor live."""
    assert ("skipped", False) == (outcome.verdict, outcome.becomes_live)
    assert words in outcome.reason
    assert (None, None) == (outcome.live_value, outcome.value)
    assert any(outcome.reason in r.message for r in caplog.records if r.levelno == logging.WARNING)


def test_other_labels_cannot_be_compared(arena: Arena, caplog: pytest.LogCaptureFixture) -> None:
    """A new set of classes is another task."""
    arena.publish_live()
    contender = arena.contender()
    other = replace(contender, labels=("blue", "green", "violet"))

    skipped_because(arena.judge(other), "has the classes blue, green, red, not blue, green, violet", caplog)


def test_too_few_images_cannot_be_compared(tmp_path: Path, arena: Arena, caplog: pytest.LogCaptureFixture) -> None:
    """Twenty-nine images are not enough."""
    arena.publish_live()
    arena.images.rows.remove(arena.images.manifest.of("test")[0])

    outcome = arena.judge(arena.contender())

    skipped_because(outcome, "only 29 test images are new to both versions", caplog)
    assert 29 == outcome.images


def test_gone_manifest_cannot_be_compared(arena: Arena, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody knows what the live version was trained on."""
    arena.publish_live()
    for path in arena.runs.glob("*/*/manifest.csv"):
        path.unlink()

    skipped_because(arena.judge(arena.contender()), "its run is gone", caplog)


def test_version_without_images_cannot_be_compared(arena: Arena, caplog: pytest.LogCaptureFixture) -> None:
    """An imported version brings no test images."""
    arena.publish_live()

    skipped_because(arena.judge(None), "no test images of its own", caplog)


def test_broken_live_version_cannot_be_compared(arena: Arena, caplog: pytest.LogCaptureFixture) -> None:
    """A live version that does not load is no reason to fail the run."""
    version = arena.publish_live()
    (arena.store.version_path(MODEL_NAME, version) / "saved_model.pb").write_bytes(b"broken")

    skipped_because(arena.judge(arena.contender()), "cannot be evaluated", caplog)


def test_images_that_the_live_version_was_trained_on_do_not_count(arena: Arena) -> None:
    """Neither by content, whatever their path and group, nor by group, whatever their content."""
    live = ColorSet(arena.images.folder)
    live.rows = [row for row in arena.images.rows if row.split == "train"]
    tested = arena.images.manifest.of("test")
    arena.images.add("test", 5, start=10)
    by_content, by_group = tested[0], tested[1]
    for row in (by_content, by_group):
        arena.images.rows.remove(row)
    live.rows.append(replace(by_content, path="elsewhere.png", group="other", split="train"))
    live.rows.append(replace(by_group, path="other.png", sha256="0" * 64, split="val"))
    arena.images.rows += [by_content, by_group]
    publish_trained(arena.store, arena.runs, arena.variants["plain"], live)

    assert 45 - 2 == arena.judge(arena.contender()).images


@pytest.mark.parametrize("which", ["live", "new"])
def test_images_that_validated_do_not_count(arena: Arena, which: str, caplog: pytest.LogCaptureFixture) -> None:
    """They chose the epoch, the temperature and the thresholds of the live version, or of the new one."""
    honest = list(arena.images.rows)
    without = [row for row in honest if row.split != "val"]
    arena.images.rows = without if which == "live" else honest
    arena.publish_live()
    arena.images.rows = without if which == "new" else honest

    outcome = arena.judge(arena.contender())

    skipped_because(outcome, "only 0 test images are new to both versions", caplog)
    assert 0 == outcome.images


@pytest.fixture(name="descended")
def fixture_descended(arena: Arena) -> Arena:
    """Forty-five test images, four of which trained version 1; the model of that one, f00, is there to start from."""
    ancestor = ColorSet(arena.images.folder)
    ancestor.add("train", 1, start=50)
    arena.images.add("test", 5, start=10)
    known = arena.images.manifest.of("test")[:4]
    ancestor.rows += [type(row)(row.path, row.sha256, row.label, row.group, "train") for row in known]
    publish_trained(
        arena.store,
        arena.runs,
        arena.variants["plain"],
        ancestor,
        run="20250101T000000Z-bbbbbb",
        keras_model_sha256="f00",
    )
    return arena


@pytest.mark.parametrize("pruned", [False, True])
def test_images_that_an_ancestor_was_trained_on_do_not_count(descended: Arena, pruned: bool) -> None:
    """A version that continues another's training has seen what that one saw, though that one is pruned."""
    follower = descended.contender(weights="sha256:f00")
    descended.publish_live(run="20250102T000000Z-cccccc")
    descended.publish_live(weights="sha256:f00", ancestors=list(follower.ancestors))
    if pruned:
        descended.store.remove(MODEL_NAME, 1)

    assert 45 - 4 == descended.judge(descended.contender()).images
    assert 45 - 4 == descended.judge(follower).images


def test_gone_manifest_of_an_ancestor_cannot_be_compared(descended: Arena, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody knows what the live version, or the new one, has seen by it."""
    descended.publish_live()
    plain, follower = descended.contender(), descended.contender(weights="sha256:f00")
    (descended.runs / MODEL_NAME / "20250101T000000Z-bbbbbb" / "manifest.csv").unlink()

    assert "passed" == descended.judge(plain).verdict
    skipped_because(descended.judge(follower), "what the new version started from is not known", caplog)
    descended.publish_live(run="20250102T000000Z-cccccc", weights="sha256:f00")
    skipped_because(descended.judge(plain), "or that of a version it started from", caplog)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("evaluate.gate.metric=accurracy", "evaluate.gate.metric"),
        ("evaluate.gate.margin=2", "evaluate.gate.margin"),
        ("evaluate.gate.margn=0.1", "did you mean margin?"),
    ],
    ids=["metric", "margin", "key"],
)
def test_wrong_settings_are_refused(override: str, words: str) -> None:
    """The recipe names the key."""
    with pytest.raises(RecipeError, match=words.replace(".", r"\.").replace("?", r"\?")):
        load_recipe("demo", [override])
