"""pipeline/audit/name_groups.py: prefixes of file names that tell groups, and those that do not."""

import pytest

from pipeline.audit.name_groups import suggest_rule
from pipeline.data.groups import group_of
from pipeline.data.ingest import Example
from pipeline.recipe.recipe import load_recipe


def listed(names: list[str], *, split: str | None = None) -> list[Example]:
    """Examples of two classes in turn, by pairs."""
    return [Example(f"{'ab'[i // 2 % 2]}/{name}", "ab"[i // 2 % 2], split, name) for i, name in enumerate(names)]


def numbered(pattern: str, *, groups: int = 20, members: tuple[str, ...] = ("L", "R")) -> list[str]:
    return [pattern.format(i, member) for i in range(groups) for member in members]


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        pytest.param(numbered("P{:03}_{}.png"), r"^(P\d+)", id="P001_L"),
        pytest.param(numbered("patient{}-{}.jpg", members=("1", "2")), r"^(patient\d+)", id="patient1-1"),
        pytest.param(numbered("Patient_{}/{}.jpg", members=("1", "2")), r"^(Patient_\d+)", id="folder-of-a-patient"),
        pytest.param(numbered("sub-{:02}_ses-{}.png", members=("1", "2", "3")), r"^(sub\-\d+)", id="sub-01_ses-1"),
        pytest.param(
            numbered("{}_{}.jpeg", members=("left", "right")),
            r"^(.+(?=[_-](?:left|right)(?![A-Za-z0-9])))",
            id="10_left",
        ),
        pytest.param(
            numbered("x{}_{}.jpeg", members=("OD", "OS")), r"^(.+(?=[_-](?:OD|OS)(?![A-Za-z0-9])))", id="x1_OD"
        ),
        pytest.param(
            numbered("x{}_{}_2.jpeg", members=("l", "r")), r"^(.+(?=[_-](?:l|r)(?![A-Za-z0-9])))", id="side-within"
        ),
        pytest.param([*numbered("P{:03}_{}.png"), "scan 7.png"], r"^(P\d+|.+)", id="one-other-name"),
    ],
)
def test_the_rule_groups_the_pairs(names: list[str], pattern: str) -> None:
    """A recipe takes the pattern from the option, and every pair is one group."""
    rule = suggest_rule(listed(names))

    assert rule is not None
    assert pattern == rule.pattern
    assert (20, 0) == (len(rule.groups), rule.num_torn)
    data = load_recipe("demo", [f"data.group={rule.pattern}"]).data
    groups = [group_of(example, data) for example in listed(names)]
    assert 20 + names.count("scan 7.png") == len(set(groups))


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([f"{i:05}.png" for i in range(40)], id="numbers"),
        pytest.param([f"P{i:03}.png" for i in range(40)], id="one-image-each"),
        pytest.param([f"IMG_{i}.jpg" for i in range(40)], id="camera"),
        pytest.param([f"DSC{i // 9}_{i}.jpg" for i in range(40)], id="camera-folders"),
        pytest.param([f"{i % 10}_{i}.png" for i in range(40)], id="digits"),
        pytest.param([f"shirt_{i}.png" for i in range(40)], id="clothes"),
        pytest.param([f"20240{i % 9}01_{i}.jpg" for i in range(40)], id="days"),
        pytest.param([f"P1_{i}.png" for i in range(40)], id="one-prefix"),
        pytest.param([f"p{i // 2 % 2}_{i}.png" for i in range(40)], id="prefix-of-the-class"),
        pytest.param([*(f"{i}.png" for i in range(90)), "P1_L.png", "P1_R.png", "P2_L.png", "P2_R.png"], id="few"),
        pytest.param([f"frame_{i}_LR.png" for i in range(40)], id="low-resolution"),
        pytest.param([f"{i}_left.png" for i in range(40)], id="one-side"),
        pytest.param([], id="no-images"),
    ],
)
def test_other_prefixes_are_no_groups(names: list[str]) -> None:
    """Counters, cameras, classes, days and a few chance matches suggest nothing."""
    assert suggest_rule(listed(names)) is None
