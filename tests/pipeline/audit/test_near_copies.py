"""pipeline/audit/near_copies.py: copies that were mirrored, turned, cropped, compressed or brightened, by kind."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from contract.image import ImageHeader
from contract.model import InputSpec
from pipeline.audit.audit import audit
from pipeline.audit.audit_record import audit_document
from pipeline.audit.kept.copies import KeptCopies
from pipeline.audit.near_copies import find_near_pairs
from pipeline.audit.thumbnail_spectra import hash_pictures, stack_thumbnails
from pipeline.data.image_quality import ImageQuality, measure_quality
from pipeline.data.ingest import ingest
from pipeline.data.pixels import Pixels
from pipeline.data.split import split_images
from pipeline.recipe.data_settings import Data
from tests.helpers.image_sets import write_files
from tests.pipeline.audit.test_audit import GROUPED, encoded, photograph, photographs

SPEC = InputSpec(96, 96, 3, "rgb")
TURN = Image.Transpose
Change = Callable[[Image.Image], Image.Image]


def cropped(left: float, upper: float, right: float, lower: float) -> Change:
    """Leaves out shares of the width and the height at the four edges."""
    return lambda image: image.crop(
        (
            round(left * image.width),
            round(upper * image.height),
            round((1 - right) * image.width),
            round((1 - lower) * image.height),
        )
    )


def turned(how: Image.Transpose) -> Change:
    return lambda image: image.transpose(how)


def brightened(factor: float) -> Change:
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


KINDS = [
    pytest.param(turned(TURN.FLIP_LEFT_RIGHT), "mirrored", id="mirrored"),
    pytest.param(turned(TURN.FLIP_TOP_BOTTOM), "mirrored top to bottom", id="top-to-bottom"),
    pytest.param(turned(TURN.ROTATE_90), "turned by 90 degrees", id="90"),
    pytest.param(turned(TURN.ROTATE_180), "turned by 180 degrees", id="180"),
    pytest.param(turned(TURN.ROTATE_270), "turned by 90 degrees", id="270"),
    pytest.param(turned(TURN.TRANSPOSE), "mirrored and turned by 90 degrees", id="transpose"),
    pytest.param(turned(TURN.TRANSVERSE), "mirrored and turned by 90 degrees", id="transverse"),
    pytest.param(cropped(0.05, 0.05, 0.05, 0.05), "cropped", id="centre"),
    pytest.param(cropped(0.1, 0.1, 0.1, 0.1), "cropped", id="tenth-at-each-edge"),
    pytest.param(cropped(0.1, 0, 0, 0), "cropped", id="left-edge"),
    pytest.param(cropped(0, 0.1, 0.1, 0), "cropped", id="corner"),
    pytest.param(lambda image: cropped(0, 0.08, 0.04, 0)(image).resize(image.size), "cropped", id="cropped-resized"),
    pytest.param(brightened(1.4), "of another brightness", id="brighter"),
    pytest.param(brightened(0.6), "of another brightness", id="darker"),
    pytest.param(lambda image: image.resize((80, 80)), "", id="resized"),
    pytest.param(
        lambda image: brightened(0.6)(image.transpose(TURN.FLIP_LEFT_RIGHT)),
        "mirrored, of another brightness",
        id="mirrored-darker",
    ),
    pytest.param(
        lambda image: cropped(0.1, 0.02, 0.03, 0.07)(image.transpose(TURN.FLIP_LEFT_RIGHT)),
        "mirrored, cropped",
        id="mirrored-cropped",
    ),
    pytest.param(
        lambda image: cropped(0.04, 0.08, 0.06, 0.02)(image.transpose(TURN.ROTATE_180)),
        "turned by 180 degrees, cropped",
        id="180-cropped",
    ),
    pytest.param(
        lambda image: cropped(0.08, 0.0, 0.05, 0.05)(image.transpose(TURN.ROTATE_90)),
        "turned by 90 degrees, cropped",
        id="90-cropped",
    ),
]


@pytest.mark.parametrize("stored", [{"file_format": "JPEG", "quality": 60}, {"file_format": "WEBP", "quality": 80}])
@pytest.mark.parametrize(("change", "kind"), KINDS)
def test_a_changed_copy_in_the_test_set_is_a_near_leak(
    tmp_path: Path, change: Change, kind: str, stored: dict[str, object]
) -> None:
    """One pair, nothing else, and audit.json says how the copy was changed."""
    name = f"test/a/copy_1.{str(stored['file_format']).lower()}"
    files = photographs() | {name: encoded(change(photograph(3)), **stored)}
    dataset = ingest(write_files(tmp_path / "set", files))

    found = audit(dataset, Pixels(dataset.source, SPEC), GROUPED)

    (finding,) = [finding for finding in found.findings if finding.code != "odd_shape"]
    assert ("warning", "near_leaks") == (finding.level, finding.code)
    assert ((name, "train/a/traina3_3.png"),) == finding.images
    (written,) = [one for one in audit_document(dataset, found)["findings"] if one["code"] == "near_leaks"]
    assert [kind] == list(json.loads(json.dumps(written))["kinds"])
    assert finding.message.startswith("1 pair of images look the same on two sides of the split")
    assert finding.message.endswith(f": 1 {kind}" if kind else "flattered")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param("train/b/copy_1.png", "near_two_labels", id="two-labels"),
        pytest.param("train/a/copy_1.png", "near_copies", id="twice"),
    ],
)
def test_what_a_changed_copy_means_depends_on_its_place(tmp_path: Path, path: str, code: str) -> None:
    files = photographs() | {path: encoded(photograph(3).transpose(TURN.ROTATE_90))}
    dataset = ingest(write_files(tmp_path / "set", files))

    (finding,) = audit(dataset, Pixels(dataset.source, SPEC), GROUPED).findings

    assert (code, {path, "train/a/traina3_3.png"}) == (finding.code, set(finding.images[0]))


def test_changed_copies_stay_on_one_side_of_a_split(tmp_path: Path) -> None:
    """With data.group=near-duplicates a picture, its mirror image, a crop and a turned copy are one group."""
    data = Data(group="near-duplicates")
    files = {f"{label}/{i}.png": encoded(photograph(100 * (label == "b") + i)) for label in "ab" for i in range(12)}
    changes: dict[str, Change] = {
        "mirrored": turned(TURN.FLIP_LEFT_RIGHT),
        "turned": turned(TURN.ROTATE_270),
        "cropped": cropped(0.04, 0.02, 0.03, 0.06),
    }
    files |= {f"a/{name}.png": encoded(change(photograph(5))) for name, change in changes.items()}
    dataset = ingest(write_files(tmp_path / "set", files))
    found = audit(dataset, Pixels(dataset.source, SPEC), data)

    rows = {row.path: row for row in split_images(found.images, data, 0, near=found.near).rows}

    assert 1 == len({(rows[f"a/{name}.png"].group, rows[f"a/{name}.png"].split) for name in ("5", *changes)})
    assert 24 == len({row.group for row in rows.values()})


def quality(image: Image.Image, *, side: int = 96) -> ImageQuality:
    pixels = np.asarray(image.convert("RGB").resize((side, side)))
    return measure_quality(ImageHeader("PNG", side, side, "RGB", 1, 1), pixels)


def pairs(images: list[Image.Image], **options: int) -> list[tuple[int, int]]:
    found = find_near_pairs([quality(image, **options) for image in images], 16, deep=True)
    return [(pair.first, pair.second) for pair in found]


def noise(seed: int, spread: float) -> Image.Image:
    values = np.random.default_rng(seed).normal(120, spread, (96, 96))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(lambda seed: Image.new("L", (96, 96), 40 + seed), id="even"),
        pytest.param(lambda seed: noise(seed, 1.0), id="faint-noise"),
        pytest.param(lambda seed: noise(seed, 40.0), id="noise"),
        pytest.param(lambda seed: photograph(seed), id="photographs"),
        pytest.param(
            lambda seed: Image.composite(photograph(seed), Image.new("RGB", (160, 160)), round_mask()), id="round-rim"
        ),
    ],
)
def test_different_pictures_are_no_copies(image: Callable[[int], Image.Image]) -> None:
    """Pictures without detail tell nothing, and what a set shares, such as a round rim, makes no pair."""
    assert [] == pairs([image(seed) for seed in range(60)])


def round_mask() -> Image.Image:
    across = np.linspace(-1, 1, 160)
    inside = across**2 + across[:, None] ** 2 < 0.95
    return Image.fromarray((255 * inside).astype(np.uint8))


@pytest.mark.parametrize("side", [28, 40, 64, 224])
def test_pictures_of_all_sizes_are_compared(side: int) -> None:
    """Small ones keep 32 x 32 grey levels, larger ones 64 x 64."""
    images = [photograph(seed) for seed in range(20)]
    images += [images[4].transpose(TURN.ROTATE_90), images[7].transpose(TURN.FLIP_LEFT_RIGHT)]

    assert [(4, 20), (7, 21)] == pairs(images, side=side)


def test_small_pictures_among_large_ones_are_compared() -> None:
    """A mirrored copy of 48 x 48 pixels is one of the picture of 96 x 96."""
    qualities = [quality(photograph(seed)) for seed in range(20)]
    qualities.append(quality(photograph(4).transpose(TURN.FLIP_LEFT_RIGHT), side=48))

    found = find_near_pairs(qualities, 16, deep=True)

    assert [(4, 20, "mirrored")] == [(pair.first, pair.second, pair.kind) for pair in found]


def test_a_symmetrical_picture_is_a_plain_copy() -> None:
    """What is its own mirror image is not said to be mirrored."""
    images = [photograph(seed).convert("RGB") for seed in range(20)]
    half = np.asarray(images[0])[:, :80]
    symmetrical = Image.fromarray(np.hstack([half, half[:, ::-1]]))
    buffer = io.BytesIO()
    symmetrical.save(buffer, "JPEG", quality=50)

    found = find_near_pairs([quality(image) for image in [*images, symmetrical, Image.open(buffer)]], 16, deep=True)

    assert [(20, 21, "")] == [(pair.first, pair.second, pair.kind) for pair in found]


def test_only_new_pictures_are_compared_with_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """New copies of old and of new pictures are found, old pairs stay, and the result is that of one search."""
    old = [photograph(seed) for seed in range(30)] + [photograph(3).transpose(TURN.FLIP_LEFT_RIGHT)]
    new = [photograph(50), photograph(50).transpose(TURN.ROTATE_90), cropped(0.05, 0.0, 0.03, 0.05)(photograph(7))]
    images = [new[0], *old, *new[1:]]
    qualities = [quality(image) for image in images] + [quality(photograph(9), side=48)]
    expected = find_near_pairs(qualities, 16, deep=True)
    kept = KeptCopies(tmp_path, "definition", max_bytes=10**9)

    before = find_near_pairs(qualities[1:32], 16, deep=True, kept=kept)
    found = find_near_pairs(qualities, 16, deep=True, kept=kept)

    assert [(3, 30, "mirrored")] == [(pair.first, pair.second, pair.kind) for pair in before]
    assert {(0, 32), (4, 31), (8, 33)} <= {(pair.first, pair.second) for pair in found}
    assert expected == found
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Copies: ")]
    assert ["31 pictures, 0 of", "35 pictures, 31 of"] == [line.removeprefix("Copies: ")[:18].strip() for line in lines]

    for path in tmp_path.rglob("*.search"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert expected == find_near_pairs(qualities, 16, deep=True, kept=kept)
    other = KeptCopies(tmp_path, "another input", max_bytes=10**9)
    assert expected == find_near_pairs(qualities, 16, deep=True, kept=other)
    assert 2 == capsys.readouterr().err.count("35 pictures, 0 of them")


def test_statistics_of_a_set_that_has_grown_by_a_third_are_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    qualities = [quality(photograph(seed)) for seed in range(40)]
    kept = KeptCopies(tmp_path, "definition", max_bytes=10**9)

    for count in (30, 40, 40, 35):
        find_near_pairs(qualities[:count], 16, deep=True, kept=kept)

    counts = re.findall(r"(\d+) of them", capsys.readouterr().err)
    assert ["0", "30", "40", "35"] == counts

    find_near_pairs([quality(photograph(seed)) for seed in range(60)], 16, deep=True, kept=kept)
    assert "60 pictures, 0 of them" in capsys.readouterr().err


def test_equal_pictures_do_not_multiply_pairs(tmp_path: Path) -> None:
    """A picture that is there ten times and its mirror image, ten times too: each is in a pair."""
    image, mirrored = quality(photograph(1)), quality(photograph(1).transpose(TURN.FLIP_LEFT_RIGHT))

    found = find_near_pairs([*[image] * 10, *[mirrored] * 10, quality(photograph(2))], 16, deep=True)

    assert set(range(20)) == {place for pair in found for place in (pair.first, pair.second)}
    assert len(found) < 20


def test_many_copies_of_one_picture_belong_together() -> None:
    """Sixty crops, turns and mirror images of one picture: each is in a pair, with a bounded number of pairs."""
    rng = np.random.default_rng(0)
    crops = [cropped(*rng.uniform(0, 0.05, 4))(photograph(1)) for _ in range(60)]

    found = pairs([*crops, *(photograph(100 + seed) for seed in range(40))])

    assert set(range(60)) == {image for pair in found for image in pair}
    assert len(found) <= 60 * 59 // 2


def test_large_sets_are_searched_for_changed_copies_on_demand() -> None:
    """Without the deep search, copies that were compressed again are pairs and mirrored ones are not."""
    image = photograph(1)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    qualities = [quality(one) for one in (image, Image.open(buffer), image.transpose(TURN.FLIP_LEFT_RIGHT))]

    assert [(0, 1)] == [(p.first, p.second) for p in find_near_pairs(qualities, 16, deep=False)]
    assert [(0, 1), (0, 2), (1, 2)] == [(p.first, p.second) for p in find_near_pairs(qualities, 16, deep=True)]


def test_hashes_are_those_of_imagehash() -> None:
    """The bits of a whole batch are the ones that imagehash gives for each picture."""
    images = [photograph(seed).convert("L").resize((64, 64)) for seed in range(20)]

    hashes = hash_pictures(stack_thumbnails([image.tobytes() for image in images]))

    expected = [np.packbits(imagehash.phash(image, hash_size=16).hash) for image in images]
    np.testing.assert_array_equal(np.stack(expected), hashes)
