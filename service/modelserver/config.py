"""Reads a ModelServerConfig, from --model_config_file or from HandleReloadConfigRequest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from google.protobuf import text_format

from contract.tensors import model_server_config_pb2
from service.modelserver.errors import ConfigSyntaxError, RequestError

PLATFORM = "tensorflow"
OPENVINO_PLATFORM = "openvino"  # of the list beside models.config
_SYNTAX = "Error parsing text-format tensorflow.serving.ModelServerConfig:"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model to serve.

    Attributes:
        name: in requests.
        base_path: the folder whose subfolders are the versions, on this machine.
        labels: other names of versions.
        num_latest: this many of the highest versions are served; None means all.
        specific: exactly these are served, as far as they exist; goes before `num_latest`.
    """

    name: str
    base_path: Path
    labels: Mapping[str, int] = field(default_factory=dict)
    num_latest: int | None = 1
    specific: frozenset[int] = frozenset()

    def select(self, versions: Mapping[int, Path]) -> dict[int, Path]:
        """Return the versions to serve out of those that exist."""
        if self.specific:
            return {number: path for number, path in versions.items() if number in self.specific}
        return {number: versions[number] for number in sorted(versions, reverse=True)[: self.num_latest]}


def parse_config(text: str) -> Any:
    """Return the ModelServerConfig of a text.

    Raises:
        ConfigSyntaxError: if the text does not parse.
        RequestError: if it is no list of models.
    """
    try:
        message = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except text_format.ParseError as err:
        raise ConfigSyntaxError(f"{_SYNTAX} {err}") from err
    if message.WhichOneof("config") == "custom_model_config":
        raise RequestError("the model config: expected model_config_list. Received: custom_model_config")
    return message


def check_first_config(path: Path, path_map: Mapping[str, str]) -> None:
    """Checks the configuration file at the start of the process; one that is absent, empty or unreadable is awaited.

    Raises:
        ConfigSyntaxError: if the file does not parse.
        RequestError: if its models cannot be followed.
    """
    try:
        text = path.read_text()
    except (OSError, ValueError):
        return
    read_config(parse_config(text), path_map)


def read_config(
    message: Any, path_map: Mapping[str, str], old: Collection[str] = (), *, platform: str = PLATFORM
) -> tuple[ModelConfig, ...]:
    """Return the models of a ModelServerConfig.

    Args:
        message: with a model_config_list, or without models.
        path_map: folders as the configuration names them -> folders on this machine.
        old: names of the models of the configuration that it replaces.
        platform: that each model must name.

    Raises:
        RequestError: if it names a model twice, or uses a feature that is not served here.
    """
    models = message.model_config_list.config
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise RequestError(f"Illegal to list model {name} multiple times in config list")
    for model in models:  # what TensorFlow Serving looks at first: a wrong path is named before another's platform
        if not model.base_path.startswith("/"):
            got = f"got base_path()={model.base_path}"
            raise RequestError(f"Expected model {model.name} to have an absolute path or URI; {got}")
    return tuple(_read_model(model, path_map, platform, is_old=model.name in old) for model in models)


def join_configs(configs: Iterable[ModelConfig]) -> tuple[ModelConfig, ...]:
    """Return each model once, with the versions of all its entries.

    Args:
        configs: of several lists; entries of the same model name versions and the same folder.
    """
    joined: dict[str, ModelConfig] = {}
    for config in configs:
        known = joined.get(config.name)
        joined[config.name] = config if known is None else replace(known, specific=known.specific | config.specific)
    return tuple(joined.values())


def list_versions(base_path: Path) -> dict[int, Path]:
    """Return the version folders under a base path, by number; other names are ignored.

    Raises:
        OSError: if the folder cannot be listed.
    """
    paths = [path for path in sorted(base_path.iterdir()) if path.name.isascii() and path.name.isdecimal()]
    return {int(path.name): path for path in paths if path.is_dir()}


def map_path(path: str, path_map: Mapping[str, str]) -> Path:
    """Return where a configured path is on this machine: under the longest folder that is mapped."""
    for prefix in sorted(path_map, key=len, reverse=True):
        if PurePosixPath(path).is_relative_to(prefix):
            return Path(path_map[prefix], PurePosixPath(path).relative_to(prefix))
    return Path(path)


def _read_model(model: Any, path_map: Mapping[str, str], expected: str, *, is_old: bool) -> ModelConfig:
    policy, platform = model.model_version_policy, model.model_platform
    kind = policy.WhichOneof("policy_choice")
    wrong = {
        "the model config: expected a name for every model. Received: a model without one": not model.name,
        "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform.": (
            not platform
        ),
        f"Illegal to change a model's platform. For model {model.name} platform was {expected} and new platform "
        f"requested is {platform}": is_old and platform != expected,
        f"Model {model.name} requests unsupported platform {platform}": platform != expected,
        "model_version_policy: expected versions in `specific`. Received: none": (
            kind == "specific" and not policy.specific.versions
        ),
    }
    for message, is_wrong in wrong.items():
        if is_wrong:
            raise RequestError(message)
    return ModelConfig(
        model.name,
        map_path(model.base_path, path_map),
        labels=dict(model.version_labels),
        num_latest=None if kind == "all" else max(1, policy.latest.num_versions),
        specific=frozenset(policy.specific.versions),
    )
