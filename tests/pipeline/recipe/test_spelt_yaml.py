"""pipeline/recipe/spelt_yaml.py: class names in YAML."""

from pathlib import Path

import pytest
import yaml

from pipeline.errors import RecipeError
from pipeline.recipe.evaluate_settings import Card, check_classes
from pipeline.recipe.recipe import load_recipe
from pipeline.report.card import read_card


def test_whole_numbers_are_the_labels_that_they_spell() -> None:
    """On the command line and in a file, as in tables; what is kept of the recipe names the same classes."""
    recipe = load_recipe(
        "default",
        [
            "evaluate.order=[0,1,2,3,4]",
            "evaluate.positive=4",
            "evaluate.uncertain=-1",
            "evaluate.operating_points=[{label: 4, sensitivity: 0.9}]",
            "evaluate.card.definitions={0: none, 4: proliferative}",
            "data.columns={path: 0, label: 1}",
            "data.splits={2019: train, 2020: test}",
        ],
    )

    assert ("0", "1", "2", "3", "4") == recipe.evaluate.order
    assert ("4", "-1", "4") == (
        recipe.evaluate.positive,
        recipe.evaluate.uncertain,
        recipe.evaluate.operating_points[0].label,
    )
    assert {"0": "none", "4": "proliferative"} == recipe.evaluate.card.definitions
    assert {"path": "0", "label": "1"} == recipe.data.columns
    assert {"2019": "train", "2020": "test"} == recipe.data.splits
    kept = yaml.safe_load(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert recipe == type(recipe).model_validate(kept)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "yes"),
        ("Off", "no"),
        ("true", "yes"),
        ("1.0", "1.0"),
        ("1.50", "1.50"),
        (".5", ".5"),
        ("007", "007"),
        ("010", "010"),
        ("0x1F", "0x1F"),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("+1", "+1"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        (".nan", ".nan"),
    ],
)
@pytest.mark.parametrize("key", ["evaluate.positive", "evaluate.uncertain"])
def test_what_yaml_changes_must_be_quoted(key: str, text: str, quoted: str) -> None:
    """The error says how, and what it says works."""
    with pytest.raises(RecipeError) as refused:
        load_recipe("default", [f"{key}={text}"])

    assert f"quote it: {key}=\"'{quoted}'\"" in str(refused.value)
    recipe = load_recipe("default", ["evaluate.positive=other", f"evaluate.order=['{text}', other]", f"{key}='{text}'"])
    assert text in (recipe.evaluate.positive, recipe.evaluate.uncertain)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("evaluate.order=[no, yes]", "evaluate.order"),
        ("evaluate.order=[a, ~]", "evaluate.order"),
        ("evaluate.operating_points=[{label: yes, sensitivity: 0.9}]", "evaluate.operating_points.0.label"),
        ("evaluate.card.definitions={yes: sick}", "evaluate.card.definitions"),
        ("evaluate.card.definitions={a: no}", "evaluate.card.definitions"),
        ("data.splits={off: train}", "data.splits"),
        ("data.columns={label: yes}", "data.columns.label"),
    ],
)
def test_every_name_in_a_recipe_says_quote_it(override: str, key: str) -> None:
    with pytest.raises(RecipeError, match=f"{key}.*YAML reads .* quote it"):
        load_recipe("default", [override])


def test_recipe_file_and_definitions_file(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("extends: demo\nevaluate:\n  positive: yes\n  order: [no, yes]\n")
    (tmp_path / "d.yaml").write_text("0: none\n4: proliferative\n")
    (tmp_path / "bad.yaml").write_text("0: none\nyes: sick\n")

    with pytest.raises(RecipeError, match=r"evaluate\.positive: .*quote it.*evaluate\.order\.0: .*quote it"):
        load_recipe(str(tmp_path / "r.yaml"))
    assert {"0": "none", "4": "proliferative"} == read_card(Card(definitions=str(tmp_path / "d.yaml")), ["0", "4"])[
        "definitions"
    ]
    with pytest.raises(RecipeError, match="quote it"):
        read_card(Card(definitions=str(tmp_path / "bad.yaml")), ["0", "yes"])


def test_class_in_another_unicode_form_is_named_by_its_code_points() -> None:
    recipe = load_recipe("default", ["evaluate.positive=caf\u00e9"])

    with pytest.raises(RecipeError, match=r"the class is 'cafe\\u0301', not 'caf\\xe9'"):
        check_classes(recipe.evaluate, ["cafe\u0301", "tea"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.zip_encoding=gkb", "expected an encoding, such as gbk"),
        ("data.zip_encoding=base64", "expected an encoding, such as gbk"),
        ("data.folder=../other", "expected a folder below the table's own"),
        ("data.folder=/etc", "expected a folder below the table's own"),
        ("data.suffix=a/b", "expected a suffix, such as .png"),
        ("data.splits={a: tets}", "data.splits.a: Input should be 'train', 'val', 'test' or 'any'"),
    ],
)
def test_settings_of_reading_are_checked(override: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe("default", [override])
