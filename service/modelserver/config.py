"""Which models to serve: a ModelServerConfig, from --model_config_file or from HandleReloadConfigRequest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from google.protobuf import text_format

from contract.tensors import model_server_config_pb2
from service.modelserver.errors import ConfigError

PLATFORM = "tensorflow"


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which of the versions in a model's folder are served.

    Attributes:
        num_latest: this many of the highest; None means all.
        specific: exactly these, as far as they exist; goes before `num_latest`.
    """

    num_latest: int | None = 1
    specific: frozenset[int] = frozenset()

    def select(self, versions: Mapping[int, Path]) -> dict[int, Path]:
        """Return the versions to serve out of those that exist."""
        if self.specific:
            return {number: path for number, path in versions.items() if number in self.specific}
        numbers = sorted(versions, reverse=True)
        return {number: versions[number] for number in numbers[: self.num_latest]}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model to serve.

    Attributes:
        name: what requests call it.
        base_path: the folder whose subfolders are the versions, on this machine.
        policy: which versions are served.
        labels: other names of versions.
    """

    name: str
    base_path: Path
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict)


def parse_config(text: str, path_map: Mapping[str, str]) -> tuple[ModelConfig, ...]:
    """Return the models of a text ModelServerConfig; an empty text has none.

    Raises:
        ConfigError: as `read_config`, and if the text does not parse.
    """
    message = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as err:
        raise ConfigError(f"the model config is not a text ModelServerConfig: {err}") from err
    if message.WhichOneof("config") == "custom_model_config":
        raise ConfigError("the model config: expected model_config_list. Received: custom_model_config")
    return read_config(message, path_map)


def read_config(message: Any, path_map: Mapping[str, str]) -> tuple[ModelConfig, ...]:
    """Return the models of a ModelServerConfig message.

    Args:
        message: with a model_config_list.
        path_map: folders as the configuration names them -> folders on this machine.

    Raises:
        ConfigError: if it names a model twice, or asks for what is not served here.
    """
    configs = tuple(_read_model(model, path_map) for model in message.model_config_list.config)
    names = [config.name for config in configs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"Illegal to list model {name} multiple times in config list")
    return configs


def list_versions(base_path: Path) -> dict[int, Path]:
    """Return the version folders under a base path, by number; other names are ignored.

    Raises:
        OSError: if the folder cannot be listed.
    """
    return {
        int(path.name): path
        for path in sorted(base_path.iterdir())
        if path.name.isascii() and path.name.isdecimal() and path.is_dir()
    }


def map_path(path: str, path_map: Mapping[str, str]) -> Path:
    """Return where a configured path is on this machine: under the longest folder that is mapped."""
    for prefix in sorted(path_map, key=len, reverse=True):
        if PurePosixPath(path).is_relative_to(prefix):
            return Path(path_map[prefix], PurePosixPath(path).relative_to(prefix))
    return Path(path)


def _read_model(model: Any, path_map: Mapping[str, str]) -> ModelConfig:
    if not model.name:
        raise ConfigError("the model config: expected a name for every model. Received: a model without one")
    if not model.base_path.startswith("/"):
        raise ConfigError(
            f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
        )
    if not model.model_platform:
        raise ConfigError(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform."
        )
    if model.model_platform != PLATFORM:
        raise ConfigError(f"Model {model.name} requests unsupported platform {model.model_platform}")
    base_path, policy = map_path(model.base_path, path_map), _read_policy(model.model_version_policy)
    return ModelConfig(model.name, base_path, policy, dict(model.version_labels))


def _read_policy(policy: Any) -> VersionPolicy:
    choice = policy.WhichOneof("policy_choice")
    if choice == "specific":
        if not policy.specific.versions:
            raise ConfigError("model_version_policy: expected versions in `specific`. Received: none")
        return VersionPolicy(specific=frozenset(int(version) for version in policy.specific.versions))
    if choice == "all":
        return VersionPolicy(num_latest=None)
    return VersionPolicy(num_latest=max(1, int(policy.latest.num_versions)))
