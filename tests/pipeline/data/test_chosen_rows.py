"""split.py: images chosen by content and seed."""

from __future__ import annotations

from pipeline.data.split import ManifestRow, choose_rows


def rows(*numbers: int) -> list[ManifestRow]:
    """Return rows of images that are known by a number."""
    return [ManifestRow(f"{i:04}.png", f"{i}", "a", f"{i}", "train") for i in numbers]


def test_a_choice_keeps_the_order_and_depends_on_the_seed() -> None:
    """Few rows are all taken; none are where none are asked for."""
    every = rows(*range(300))
    chosen = choose_rows(every, 100, seed=3)
    assert len(chosen) == 100
    assert chosen == [row for row in every if row in chosen] == choose_rows(every, 100, seed=3)
    assert chosen != choose_rows(every, 100, seed=4)
    assert choose_rows(every, 300, seed=3) == every
    assert choose_rows(every, 0, seed=3) == choose_rows(every, -1, seed=3) == []


def test_more_images_change_little() -> None:
    """Of 100 chosen among 300, those that 15 more images push out are as many as are new."""
    before = choose_rows(rows(*range(300)), 100, seed=3)
    after = choose_rows(rows(*range(-15, 300)), 100, seed=3)
    new = [row for row in after if row.path.startswith("-")]
    assert 0 < len(new) < 15
    assert {*after} - {*new} < {*before}
