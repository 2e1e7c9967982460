"""Runs of networks of the user's own, of the lectures' recipes, and from scratch by the name of the network alone."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from contract.store import CONTRACT_FILE, ModelStore
from engine.loading import load_engine
from pipeline.__main__ import main
from pipeline.errors import DatasetError, PipelineError, RecipeError
from pipeline.networks.from_scratch import settle
from pipeline.recipe.recipe import Recipe, load_recipe
from pipeline.run.resume import RunRecord
from pipeline.run.run import RunResult, resume, run
from pipeline.run.unchanged import Unchanged
from tests.helpers.image_sets import color_files, write_files
from tests.pipeline.networks.test_own import INCEPTION
from tests.pipeline.training.test_digits import digit_files

LECTURES = [
    "conv32-pool-conv64-pool-flatten-dropout",
    "conv64-conv32-flatten",
    "conv32-conv64-pool-dense128",
    "conv32-pool",
    "conv2-pool",
    "lenet",
]


def contract_of(result: RunResult) -> dict[str, object]:
    return dict(json.loads((result.directory / CONTRACT_FILE).read_text()))


@pytest.fixture(name="colors", scope="module")
def fixture_colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of coloured squares."""
    return write_files(tmp_path_factory.mktemp("set") / "colors", color_files(train=8, test=4))


def train_own(work: Path, colors: Path, network: str = "net.py:build") -> RunResult | Unchanged:
    settings = [
        f"model.backbone={work / network}",
        "model.input_size=16",
        "data.validate_on_test=true",
        "train.epochs=6",
        "train.batch_size=6",
        "train.learning_rate=0.01",
        "train.class_weight=balanced",
        "train.weights_of=last",
    ]
    store = ModelStore(work / "models")
    return run(colors, load_recipe("default", settings), store, name="own", runs_dir=work / "runs")


@pytest.fixture(name="own", scope="module")
def fixture_own(colors: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run of a file with an auxiliary output, validated on its test images."""
    work = tmp_path_factory.mktemp("own")
    (work / "net.py").write_text(INCEPTION)
    result = train_own(work, colors)
    assert isinstance(result, RunResult)
    return result


def test_file_is_trained_hashed_and_kept(own: RunResult) -> None:
    """The contract has the source's hash and no path of this machine; the run keeps the source."""
    contract = contract_of(own)
    provenance = contract["provenance"]
    assert isinstance(provenance, dict)

    assert ("net.py:build", "none", "grad-cam") == (
        provenance["backbone"],
        provenance["weights"],
        contract["saliency"],
    )
    assert hashlib.sha256(INCEPTION.encode()).hexdigest() == provenance["network_sha256"]
    assert INCEPTION == (own.folder / "network.py").read_text()
    for path in (own.directory / CONTRACT_FILE, own.folder / "metrics.json", own.folder / "report-aggregates.html"):
        assert str(own.folder.parents[2]) not in path.read_text(), path.name
    assert own.test["accuracy"] >= 0.6


def test_auxiliary_output_is_not_served(own: RunResult) -> None:
    """The export answers the classifier's probabilities alone."""
    engine = load_engine(own.directory)
    try:
        images = np.zeros((2, 16, 16, 3), np.uint8)
        answer = engine.run("serving_default", {"images": images})
    finally:
        engine.close()

    assert ["probabilities"] == list(answer)
    assert (2, 3) == answer["probabilities"].shape


def test_no_honest_test_is_left_is_said(own: RunResult) -> None:
    """Validation on the test images is in the closing warnings, the weightiest, in metrics.json and in both reports."""
    metrics = json.loads((own.folder / "metrics.json").read_text())

    assert own.warnings[0].text.startswith("No honest test is left")
    assert any(text.startswith("No honest test is left") for text in metrics["warnings"])
    assert {} == metrics["splits"]["val"]
    for name in ("report.html", "report-aggregates.html"):
        assert "No honest test is left" in (own.folder / name).read_text()


def test_unchanged_file_is_not_trained_again_and_an_edited_one_is(own: RunResult, colors: Path, tmp_path: Path) -> None:
    """Whatever its folder, and whether its function is named, a file is known by name and content."""
    work = Path(shutil.copytree(own.folder.parents[2], tmp_path / "work"))
    for network in ("net.py:build", "net.py"):
        unchanged = train_own(work, colors, network)
        assert isinstance(unchanged, Unchanged)
        assert 1 == unchanged.version

    (work / "net.py").write_text(f"{INCEPTION}\n# edited\n")
    result = train_own(work, colors)

    assert isinstance(result, RunResult)
    assert 2 == result.version
    assert (result.folder / "network.py").read_text().endswith("# edited\n")


def test_network_goes_on_from_its_own_copy(own: RunResult, colors: Path) -> None:
    """A later run starts from the version by the kept source, though the user's file is gone."""
    work = own.folder.parents[2]
    (work / "net.py").rename(work / "moved.py")
    settings = [
        f"model.backbone={work / 'moved.py'}:build",
        "model.weights=own/1",
        "model.input_size=16",
        "train.freeze_backbone=false",
        "train.fine_tune.epochs=0",
        "train.epochs=1",
        "train.batch_size=6",
    ]

    result = run(
        colors, load_recipe("default", settings), ModelStore(work / "models"), name="later", runs_dir=work / "runs"
    )

    assert 1 == result.version
    assert not any("head is trained anew" in warning.text for warning in result.warnings)
    (work / "moved.py").rename(work / "net.py")


def test_stopped_run_keeps_its_network(own: RunResult, colors: Path, tmp_path: Path) -> None:
    """Resumed after its file has changed, a run goes on with its own copy, and says so."""
    folder = tmp_path / "runs" / "own" / own.folder.name
    folder.mkdir(parents=True)
    (tmp_path / "net.py").write_text(INCEPTION.replace("(1, 3, 5)", "(1, 3, 5, 7)"))
    recipe = load_recipe("default", [f"model.backbone={tmp_path / 'net.py'}:build", "model.input_size=16"])
    recipe = settle(recipe)
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": 1})})
    (folder / "recipe.yaml").write_text(json.dumps(recipe.model_dump(mode="json")))
    RunRecord(str(colors), "none", False).write(folder)
    (folder / "network.py").write_text(INCEPTION)

    result = resume(folder, ModelStore(tmp_path / "models"))

    provenance = contract_of(result)["provenance"]
    assert isinstance(provenance, dict)
    assert hashlib.sha256(INCEPTION.encode()).hexdigest() == provenance["network_sha256"]
    assert any("has changed since the run was started" in warning.text for warning in result.warnings)


def test_network_without_convolutions_has_no_maps(colors: Path, tmp_path: Path) -> None:
    """A flat network is published with saliency null, embeddings and a report without maps."""
    settings = ["model.layers=[Flatten, {Dense: {units: 12, activation: relu}}]", "model.input_size=16"]
    recipe = load_recipe("default", [*settings, "train.epochs=2", "train.fine_tune.epochs=0"])

    result = run(colors, recipe, ModelStore(tmp_path / "models"), name="flat", runs_dir=tmp_path / "runs")

    contract = contract_of(result)
    assert (None, {"dimension": 12}) == (contract["saliency"], contract["embedding"])
    assert "This network has no saliency maps" in (result.folder / "report.html").read_text()
    assert "grad-cam" not in (result.folder / "metrics.json").read_text()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["model.layers=[{Conv2D: {filters: 4, kernel_size: 99}}, Flatten]"], "layer 1: Conv2D"),
        (["model.backbone=nowhere.py:build"], "nowhere.py cannot be read"),
        (["model.backbone=AlexNet", "model.input_size=32"], "at least 67 for AlexNet"),
        (["model.weights=none", "model.backbone=VGG16", "model.last_layer=nothing"], "model.last_layer"),
        (["model.backbone=LeNet", "model.weights=imagenet"], "imagenet is not offered for LeNet"),
        (["model.backbone=LeNet", "train.freeze_backbone=true"], "learns nothing"),
        (["model.backbone=LeNt"], "did you mean LeNet?"),
    ],
)
def test_recipes_that_cannot_work_are_refused_before_images_are_read(
    tmp_path: Path, settings: list[str], words: str
) -> None:
    """None of the files is an image: whatever reads them first says something else."""
    folder = write_files(tmp_path / "set", {f"{label}/{i}.png": b"no image" for label in "ab" for i in range(9)})

    with pytest.raises(PipelineError, match=words):
        run(
            folder,
            load_recipe("default", settings),
            ModelStore(tmp_path / "models"),
            name="bad",
            runs_dir=tmp_path / "runs",
        )

    assert not (tmp_path / "runs").exists()


def test_one_line_names_the_line_of_the_file(colors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with one line, without a traceback."""
    (tmp_path / "net.py").write_text("def build(input_shape, num_classes):\n    return nothing\n")
    folders = [f"--models-dir={tmp_path / 'models'}", f"--runs-dir={tmp_path / 'runs'}"]

    assert 1 == main(["run", str(colors), *folders, f"--set=model.backbone={tmp_path / 'net.py'}:build"])

    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("error: model.backbone: net.py line 2: NameError: ")
    assert "Traceback" not in error


def settled(*overrides: str, base: str = "default") -> Recipe:
    return settle(load_recipe(base, overrides))


@pytest.mark.parametrize(
    "choice", ["model.backbone=LeNet", "model.backbone=ResNet", "model.layers=[Flatten]", "model.backbone=net.py:build"]
)
@pytest.mark.parametrize("base", ["default", "classic"])
def test_one_option_trains_from_scratch(choice: str, base: str) -> None:
    """Random weights, all layers, one stage, and augmentation that does not mirror digits."""
    recipe = settled(choice, base=base)

    assert ("none", False, 0, False) == (
        recipe.model.weights,
        recipe.train.freeze_backbone,
        recipe.train.fine_tune.epochs,
        recipe.augment.horizontal_flip,
    )
    assert recipe.augment == load_recipe("scratch").augment


def test_named_settings_stay(tmp_path: Path) -> None:
    """What the user's file or options name is not replaced; networks with published weights change nothing."""
    path = tmp_path / "mine.yaml"
    path.write_text("extends: default\nmodel: {backbone: LeNet}\naugment: {horizontal_flip: true}\n")
    recipe = settled("train.epochs=3", "train.fine_tune.epochs=2", base=str(path))

    assert (True, 3, 2, "LeNet") == (
        recipe.augment.horizontal_flip,
        recipe.train.epochs,
        recipe.train.fine_tune.epochs,
        recipe.model.backbone,
    )
    assert load_recipe("default") == settled()
    assert load_recipe("demo", ["model.backbone=VGG16"]) == settled("model.backbone=VGG16", base="demo")
    assert settled("model.backbone=LeNet") == settle(settled("model.backbone=LeNet"))
    assert all(load_recipe(name) == settled(base=name) for name in LECTURES)
    whole = load_recipe("default", ["model.backbone=VGG16", "model.weights=none"])
    assert whole.train.freeze_backbone is False


def test_validation_images_and_validation_on_test_exclude_each_other(tmp_path: Path) -> None:
    """A set with a val folder is refused."""
    files = color_files(train=4, test=2)
    files |= {name.replace("test/", "val/"): data + b"" for name, data in files.items() if name.startswith("test/")}
    recipe = load_recipe("conv2-pool", ["data.validate_on_test=true", "data.color=rgb"])

    with pytest.raises(DatasetError, match=r"data.validate_on_test: expected a set without validation images"):
        run(
            write_files(tmp_path / "set", files),
            recipe,
            ModelStore(tmp_path / "models"),
            name="both",
            runs_dir=tmp_path / "runs",
        )


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "lenet" else pytest.mark.slow) for name in LECTURES]
)
def test_lecture_recipes_train(tmp_path: Path, name: str) -> None:
    """Each learns digits a little, is published and explained."""
    files = {path: data for path, data in digit_files().items() if int(Path(path).stem) < 500}
    settings = ["train.epochs=8", "train.batch_size=20", "train.early_stopping=null"]

    result = run(
        write_files(tmp_path / "digits", files),
        load_recipe(name, settings),
        ModelStore(tmp_path / "models"),
        name="digits",
        runs_dir=tmp_path / "runs",
    )

    contract = contract_of(result)
    assert result.test["accuracy"] >= 0.7
    assert ("grad-cam", "layers") == (contract["saliency"], contract["provenance"]["backbone"])  # type: ignore[index]


def test_lambda_in_a_recipe_runs_nothing(tmp_path: Path) -> None:
    """Code in a list of layers is refused before it could run."""
    code = f"__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()"
    path = tmp_path / "net.yaml"
    path.write_text(f'model: {{weights: none, layers: [Lambda: {{function: "{code}"}}, Flatten]}}\n')

    with pytest.raises(RecipeError, match="Lambda is not allowed"):
        run(
            write_files(tmp_path / "set", color_files(train=4, test=2)),
            load_recipe(str(path), ["train.freeze_backbone=false"]),
            ModelStore(tmp_path / "models"),
            name="n",
            runs_dir=tmp_path / "runs",
        )
    assert not (tmp_path / "ran").exists()
