"""pipeline/recipe/recipe.py: every setting is checked before anything happens, and mistakes are named."""

from pathlib import Path

import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.data_settings import Data
from pipeline.recipe.recipe import load_recipe, shipped_recipes


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_valid(name: str) -> None:
    """Each shipped recipe loads, and says in its first lines what it is and how to run it."""
    load_recipe(name)

    text = (Path("pipeline/recipe/recipes") / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert "python -m pipeline run" in text


def test_default_augmentation_is_the_classic_one() -> None:
    """Rotation 20, shifts 0.2, horizontal flip."""
    augment = load_recipe("default").augment

    assert (20, 0.2, 0.2, True) == (
        augment.rotation_range,
        augment.width_shift_range,
        augment.height_shift_range,
        augment.horizontal_flip,
    )


def test_classic_is_the_lectures() -> None:
    """Flatten, a wide hidden layer, the whole backbone trainable, 20 epochs."""
    recipe = load_recipe("classic")

    assert ("ResNet50", "flatten-dense", False, 20) == (
        recipe.model.backbone,
        recipe.model.head,
        recipe.train.freeze_backbone,
        recipe.train.epochs,
    )


def test_file_extends_a_shipped_recipe(tmp_path: Path) -> None:
    """A recipe file changes what it names and keeps the rest; --set comes last."""
    path = tmp_path / "mine.yaml"
    path.write_text("extends: classic\ntrain: {epochs: 3, fine_tune: {epochs: 2}}\n")

    recipe = load_recipe(str(path), ["train.batch_size=4", "train.epochs=5", "train.learning_rate=1e-4"])

    assert (5, 4, 2, 1e-4) == (
        recipe.train.epochs,
        recipe.train.batch_size,
        recipe.train.fine_tune.epochs,
        recipe.train.learning_rate,
    )
    assert "flatten-dense" == recipe.model.head


@pytest.mark.parametrize(
    ("override", "words"),
    [
        pytest.param("train.epoch=3", "unknown key train.epoch: did you mean epochs?", id="misspelt"),
        pytest.param("tran.epochs=3", "unknown key tran: did you mean train?", id="misspelt-section"),
        pytest.param("train.fine_tune.unfrezze=3", "did you mean unfreeze?", id="misspelt-deep"),
        pytest.param("train.early_stopping.patienc=3", "did you mean patience?", id="misspelt-optional-section"),
        pytest.param("model.colour_of_the_sky=3", "expected one of backbone, weights", id="unknown"),
        pytest.param("train.epochs=0", "train.epochs: .*greater than or equal to 1. Received: 0", id="range"),
        pytest.param("train.epochs=many", "train.epochs: .*Received: 'many'", id="type"),
        pytest.param("train.learning_rate=.nan", "train.learning_rate", id="nan"),
        pytest.param("augment.rescale=0.004", "rescale is not a setting: that arithmetic is inside", id="rescale"),
        pytest.param("augment.zca_whitening=true", "zca_whitening is not a setting", id="zca"),
        pytest.param("augment.featurewise_center=true", "featurewise_center is not a setting", id="featurewise"),
        pytest.param("augment.samplewise_center=true", "samplewise_center is not a setting", id="samplewise"),
        pytest.param("augment.preprocessing_function=f", "is not a setting", id="preprocessing-function"),
        pytest.param("augment.validation_split=0.2", "use data.val_fraction", id="validation-split"),
        pytest.param("data.group='('", "expected a regular expression", id="regex"),
        pytest.param("model.weights=none", "learns nothing", id="frozen-random"),
        pytest.param("epochs=3", "expected section.key=value", id="no-section"),
        pytest.param("train.epochs", "expected section.key=value", id="no-value"),
        pytest.param("train.epochs.x=1", "epochs is a value, not a section", id="value-as-section"),
        pytest.param("train.epochs=[", "not YAML", id="yaml"),
    ],
)
def test_mistakes_are_named(override: str, words: str) -> None:
    """A wrong key or value is refused with its name, what was expected and what was received."""
    with pytest.raises(RecipeError, match=words):
        load_recipe("default", [override])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("extends: nothing", "expected one of classic"),
        ("extends: 3", "extends: expected"),
        ("- a", "expected sections"),
        ("a: [", "cannot be read as YAML"),
    ],
    ids=["unknown-base", "base-type", "list", "broken"],
)
def test_recipe_files_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    """A file that is no recipe is refused with the reason."""
    path = tmp_path / "mine.yaml"
    path.write_text(text)

    with pytest.raises(RecipeError, match=words):
        load_recipe(str(path))


def test_recipe_that_extends_itself_is_refused(tmp_path: Path) -> None:
    """A loop ends."""
    path = tmp_path / "mine.yaml"
    path.write_text(f"extends: {path}")

    with pytest.raises(RecipeError, match="extends"):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("deep", "num_files", "expected"), [(False, 20_000, True), (False, 20_001, False), (True, 70_000, True)]
)
def test_large_sets_are_searched_whole_on_demand(deep: bool, num_files: int, expected: bool) -> None:
    """Without data.deep, up to 20,000 files are."""
    assert expected is Data(deep=deep).is_deep(num_files)
