"""audit/kept/fact_store.py: what was measured once is not decoded again; damage, kills and full disks cost time."""

import os
import shutil
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from contract.model import InputSpec
from pipeline.__main__ import main
from pipeline.audit import measuring
from pipeline.audit.audit import Audit, audit
from pipeline.audit.kept.fact_store import FactStore, define_facts
from pipeline.data.ingest import ingest
from pipeline.data.pixels import Pixels, without_enlarging
from pipeline.recipe.data_settings import Data
from tests.helpers.image_sets import write_files
from tests.pipeline.audit.test_audit import encoded, photograph, photographs
from tests.pipeline.features.test_feature_store import largest_file

SPEC = InputSpec(64, 64, 3, "rgb")


@pytest.fixture(name="decoded")
def fixture_decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The files that the audit decodes, as they come."""
    files: list[bytes] = []
    decode = measuring.decode_image
    monkeypatch.setattr(measuring, "decode_image", lambda file, spec: files.append(file) or decode(file, spec))
    return files


def audited(folder: Path, facts: Path, spec: InputSpec = SPEC, *, max_bytes: int = 10**9) -> Audit:
    dataset = ingest(folder)
    kept = FactStore(facts, define_facts(spec), max_bytes=max_bytes)
    return audit(dataset, Pixels(dataset.source, spec), Data(), kept)


def segments(facts: Path) -> list[Path]:
    return sorted(facts.glob("*/*"))


def test_an_unchanged_set_is_not_decoded_again(tmp_path: Path, decoded: list[bytes]) -> None:
    """The second audit decodes nothing and finds the same."""
    write_files(tmp_path / "set", photographs())
    first = audited(tmp_path / "set", tmp_path / "facts")
    count = len(decoded)

    second = audited(tmp_path / "set", tmp_path / "facts")

    assert (32, 32) == (count, len(decoded))
    assert first == second


def test_only_new_and_changed_files_are_decoded(tmp_path: Path, decoded: list[bytes]) -> None:
    """A file under another name is known by its content; a changed one is measured anew."""
    write_files(tmp_path / "set", photographs())
    audited(tmp_path / "set", tmp_path / "facts")
    decoded.clear()
    new, changed = encoded(photograph(500)), encoded(photograph(501))
    write_files(tmp_path / "set", {"train/a/new_1.png": new, "train/b/trainb3_3.png": changed})
    (tmp_path / "set/test/a/testa0_0.png").rename(tmp_path / "set/test/a/other_0.png")

    found = audited(tmp_path / "set", tmp_path / "facts")

    assert Counter([new, changed]) == Counter(decoded)
    shutil.rmtree(tmp_path / "facts")
    assert audited(tmp_path / "set", tmp_path / "facts") == found


def test_files_that_cannot_be_read_are_tried_again(tmp_path: Path, decoded: list[bytes]) -> None:
    write_files(tmp_path / "set", photographs() | {"train/a/half_1.png": encoded(photograph(1))[:-2000]})
    first = audited(tmp_path / "set", tmp_path / "facts")
    decoded.clear()

    second = audited(tmp_path / "set", tmp_path / "facts")

    assert 1 == len(decoded)
    assert first.problems == second.problems
    assert ["train/a/half_1.png"] == [problem.path for problem in second.problems]


@pytest.mark.parametrize(
    "spec", [replace(SPEC, height=80), replace(SPEC, resize="bicubic"), replace(SPEC, decoder=1)], ids=str
)
def test_facts_of_another_input_are_not_used(tmp_path: Path, decoded: list[bytes], spec: InputSpec) -> None:
    write_files(tmp_path / "set", photographs())
    audited(tmp_path / "set", tmp_path / "facts")

    audited(tmp_path / "set", tmp_path / "facts", spec)

    assert 64 == len(decoded)


def test_the_definition_depends_on_fields_and_others() -> None:
    """A field more or another value of what is measured is another definition; the order of values is not."""
    assert define_facts(SPEC) != define_facts(SPEC, deep=True)
    assert define_facts(SPEC, a=1, b=2) == define_facts(SPEC, b=2, a=1)


def damaged(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "bit":
        path.write_bytes(content[:-50] + bytes([content[-50] ^ 1]) + content[-49:])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_bytes(b"\xff\x00no segment\n" * 3)
    elif how == "pipe":
        path.unlink()
        os.mkfifo(path)
    else:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("how", ["cut", "bit", "empty", "text", "pipe", "folder"])
def test_damaged_segments_cost_time_alone(
    tmp_path: Path, decoded: list[bytes], caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """The images of a damaged segment are measured again, with a warning; the result is the same."""
    write_files(tmp_path / "set", photographs())
    first = audited(tmp_path / "set", tmp_path / "facts")
    (segment,) = segments(tmp_path / "facts")
    damaged(segment, how)

    second = audited(tmp_path / "set", tmp_path / "facts")

    assert first == second
    assert 64 == len(decoded)
    assert f"{segment} is damaged and is not used" in caplog.text
    assert second == audited(tmp_path / "set", tmp_path / "facts")
    assert 64 == len(decoded)


def test_a_line_of_other_facts_is_measured_again(tmp_path: Path, decoded: list[bytes]) -> None:
    """A segment with the right checksum and wrong values is not believed."""
    import hashlib

    write_files(tmp_path / "set", photographs())
    first = audited(tmp_path / "set", tmp_path / "facts")
    (segment,) = segments(tmp_path / "facts")
    content = segment.read_bytes().split(b"\n", 1)[1].replace(b'"darkest":', b'"darkness":')
    segment.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)

    assert first == audited(tmp_path / "set", tmp_path / "facts")
    assert 64 == len(decoded)


def test_a_full_disk_ends_no_audit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The facts are not kept, a warning says so, and nothing is left behind."""
    write_files(tmp_path / "set", photographs())

    with largest_file(1000):
        found = audited(tmp_path / "set", tmp_path / "facts")

    assert 32 == len(found.images)
    assert "the audit's facts cannot be kept in" in caplog.text
    assert [] == segments(tmp_path / "facts")


def test_the_limit_holds_and_the_longest_unused_go_first(tmp_path: Path, decoded: list[bytes]) -> None:
    for name in ("one", "two"):
        write_files(
            tmp_path / name,
            {
                f"{label}/{name}{i}.png": encoded(photograph(hash_of(name, label, i)))
                for label in "ab"
                for i in range(8)
            },
        )
    audited(tmp_path / "one", tmp_path / "facts")
    (oldest,) = segments(tmp_path / "facts")
    os.utime(oldest, (1, 1))
    limit = int(oldest.stat().st_size * 1.5)

    other = replace(SPEC, height=72)
    audited(tmp_path / "two", tmp_path / "facts", other, max_bytes=limit)
    assert not oldest.exists()
    decoded.clear()
    audited(tmp_path / "two", tmp_path / "facts", other, max_bytes=limit)
    assert [] == decoded
    audited(tmp_path / "one", tmp_path / "none", max_bytes=0)
    assert [] == segments(tmp_path / "none")


def hash_of(name: str, label: str, i: int) -> int:
    return 1000 * (name == "two") + 100 * (label == "b") + i


def test_audits_at_the_same_time_share_a_folder(tmp_path: Path) -> None:
    write_files(tmp_path / "set", photographs())
    found: list[Audit] = []
    threads = [
        threading.Thread(target=lambda: found.append(audited(tmp_path / "set", tmp_path / "facts"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found[0] == found[1] == found[2] == audited(tmp_path / "set", tmp_path / "facts")


def test_the_command_keeps_facts_for_a_run(tmp_path: Path, decoded: list[bytes]) -> None:
    """`audit` and, after it, the audit of `run` with the same recipe: only the first decodes for the facts."""
    write_files(tmp_path / "set", photographs())
    options = [str(tmp_path / "set"), f"--runs-dir={tmp_path / 'runs'}", "--recipe=demo"]
    options += ["--set=model.input_size=48", "--set=train.epochs=1", "--set=train.batch_size=8"]
    options.append("--set=train.fine_tune.epochs=0")

    assert 0 == main(["audit", *options])
    count = len(decoded)
    assert 0 == main(["run", *options, f"--models-dir={tmp_path / 'models'}"])

    assert (32, 32) == (count, len(decoded))


@pytest.mark.parametrize(
    ("spec", "size", "expected"),
    [
        pytest.param({}, (100, 300), (64, 64), id="larger"),
        pytest.param({}, (28, 20), (28, 20), id="smaller"),
        pytest.param({}, (28, 300), (28, 64), id="narrow"),
        pytest.param({"fit": "crop"}, (28, 300), (28, 28), id="crop"),
        pytest.param({"fit": "crop", "crop_fraction": 0.5}, (100, 100), (50, 50), id="centre"),
        pytest.param({"fit": "pad"}, (32, 300), (64, 64), id="pad"),
        pytest.param({"fit": "pad"}, (16, 32), (32, 32), id="pad-smaller"),
        pytest.param({}, (1, 1), (1, 1), id="one-pixel"),
    ],
)
def test_small_pictures_are_not_enlarged(
    spec: dict[str, object], size: tuple[int, int], expected: tuple[int, int]
) -> None:
    smaller = without_enlarging(replace(SPEC, **spec), *size)

    assert expected == (smaller.width, smaller.height)


def test_the_audit_measures_small_pictures_in_their_own_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of 28 x 20 pixels are decoded to 28 x 20 without a recipe, whose input is 224 x 224."""
    shapes: set[tuple[int, ...]] = set()
    decode = measuring.decode_image

    def noting(file: bytes, spec: InputSpec) -> object:
        shapes.add(spec.shape)
        return decode(file, spec)

    monkeypatch.setattr(measuring, "decode_image", noting)
    files = {
        f"{label}/{i}.png": encoded(photograph(hash_of("", label, i)).resize((28, 20)))
        for label in "ab"
        for i in range(6)
    }
    write_files(tmp_path / "set", files)

    assert 0 == main(["audit", str(tmp_path / "set"), f"--runs-dir={tmp_path / 'runs'}"])

    assert {(20, 28, 3)} == shapes
