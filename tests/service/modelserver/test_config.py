"""The text ModelServerConfig, and which versions of a folder it wants."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.store import CONTAINER_ROOT, ModelStore
from service.modelserver.config import ModelConfig, list_versions, map_path, parse_config, read_config
from service.modelserver.errors import RequestError
from tests.helpers.tiny_model import publish_variant

MODEL = 'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" {policy} }}'


def config_text(*models: str) -> str:
    """Return a config of models."""
    return "model_config_list { " + " ".join(models) + " }"


def model_text(name: str = "m", path: str = "/models/m", policy: str = "") -> str:
    """Return one model of a config."""
    return MODEL.format(name=name, path=path, policy=policy)


def test_the_stores_own_config_is_read(store: ModelStore, tiny_models: dict[str, Path]) -> None:
    """A config that contract.store wrote parses to its models, versions and folders."""
    publish_variant(store, tiny_models["plain"])
    publish_variant(store, tiny_models["plain"], name="other")
    configs = read_config(parse_config(store.config_path.read_text()), {CONTAINER_ROOT: str(store.root)})
    assert configs == (
        ModelConfig("colours", store.root / "colours", specific=frozenset({1, 2})),
        ModelConfig("other", store.root / "other", specific=frozenset({1})),
    )


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("", [9]),
        ("model_version_policy { latest { } }", [9]),
        ("model_version_policy { latest { num_versions: 2 } }", [9, 3]),
        ("model_version_policy { all { } }", [9, 3, 1]),
        ("model_version_policy { specific { versions: 1 versions: 3 versions: 7 } }", [3, 1]),
    ],
    ids=["none", "latest", "latest two", "all", "specific"],
)
def test_policies_select_versions(policy: str, expected: list[int]) -> None:
    """Each policy selects the versions that TensorFlow Serving would serve; the default is the newest."""
    (config,) = read_config(parse_config(config_text(model_text(policy=policy))), {})
    versions = {number: Path(str(number)) for number in (1, 3, 9)}
    assert sorted(config.select(versions), reverse=True) == expected


@pytest.mark.parametrize("text", ["", "# nothing", "model_config_list { }"], ids=["empty", "comment", "no models"])
def test_a_config_without_models_is_fine(text: str) -> None:
    """An empty config has no models."""
    assert read_config(parse_config(text), {}) == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model_config_list {", "Error parsing text-format tensorflow.serving.ModelServerConfig"),
        ("custom_model_config { }", "Received: custom_model_config"),
        (config_text(model_text(name="")), "expected a name for every model"),
        (config_text(model_text(path="m")), r"absolute path or URI; got base_path\(\)=m"),
        (config_text(model_text(), model_text()), "Illegal to list model m multiple times in config list"),
        (config_text(model_text().replace("tensorflow", "pytorch")), "Model m requests unsupported platform pytorch"),
        (config_text(model_text(policy="model_version_policy { specific { } }")), "expected versions in `specific`"),
    ],
    ids=["broken", "custom", "no name", "relative", "twice", "platform", "no versions"],
)
def test_a_config_that_cannot_be_followed_says_why(text: str, reason: str) -> None:
    """Whatever cannot be served is a RequestError that names it."""
    with pytest.raises(RequestError, match=reason):
        read_config(parse_config(text), {})


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/models/m", "/here/m"),
        ("/models", "/here"),
        ("/models/special/m", "/there/m"),
        ("/modelsque/m", "/modelsque/m"),
        ("/elsewhere", "/elsewhere"),
    ],
)
def test_paths_are_mapped_by_whole_folders(path: str, expected: str) -> None:
    """The longest mapped folder wins, and a name that only starts alike is left alone."""
    assert map_path(path, {"/models": "/here", "/models/special": "/there"}) == Path(expected)


def test_only_folders_with_numbers_are_versions(tmp_path: Path) -> None:
    """Leading zeros count as the number, unless it is there without; hidden, staged and other names are ignored."""
    for name in ("1", "00000012", "7", "007", ".staging", "3.tmp", "-4", "²", "five"):
        (tmp_path / name).mkdir()
    (tmp_path / "6").touch()
    assert list_versions(tmp_path) == {1: tmp_path / "1", 7: tmp_path / "7", 12: tmp_path / "00000012"}
