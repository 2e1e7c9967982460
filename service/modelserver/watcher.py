"""Follows the configuration file and the model folders, and gives the repository the wanted versions."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from contract.index import openvino_config_of
from engine.errors import EngineError
from service.modelserver.config import (
    OPENVINO_PLATFORM,
    ModelConfig,
    join_configs,
    list_versions,
    parse_config,
    read_config,
)
from service.modelserver.errors import RequestError
from service.modelserver.serving.repository import ModelRepository

logger = logging.getLogger(__name__)

_CONFIG = ""  # key of errors of the configuration file; no model has this name


class ModelWatcher:
    """Polls, because bind mounts, network disks and renames send no events.

    Args:
        repository: is told which versions of which model are wanted.
        path_map: folders as configurations name them -> folders on this machine.
        file_poll_s: seconds between looks at the model folders; 0 or less means only when the configuration changed.
    """

    def __init__(self, repository: ModelRepository, path_map: Mapping[str, str], *, file_poll_s: float) -> None:
        self._repository = repository
        self._path_map = path_map
        self._configs: tuple[ModelConfig, ...] = ()
        self._file_poll_s = file_poll_s
        self._texts: tuple[str, str] | None = None
        self._scanning = asyncio.Lock()
        self._complaints: dict[str, str] = {}

    @property
    def _names(self) -> set[str]:
        return {config.name for config in self._configs}

    async def apply(self, configs: Sequence[ModelConfig]) -> None:
        """Serve these models from now on, and no others.

        Raises:
            EngineError: if its labels cannot be assigned; everything then stays as it was.
        """
        self._repository.assign_labels({config.name: config.labels for config in configs})
        self._configs = tuple(configs)
        self._complaints.clear()
        logger.info("models: %s", ", ".join(config.name for config in configs) or "none yet")
        await self.scan()
        self._repository.mark_configured()

    async def reload(self, message: Any) -> None:
        """Apply a ModelServerConfig message, and return when the models that are new in it are available.

        Raises:
            EngineError: if it cannot be applied, or a new model cannot be loaded.
        """
        if message.WhichOneof("config") != "model_config_list":
            raise RequestError(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        old = self._names
        configs = read_config(message, self._path_map, old)
        await self.apply(configs)
        await self._repository.wait_for({config.name for config in configs} - old)

    async def follow_versions(self) -> None:
        """Look at the model folders again and again."""
        await _repeat(self.scan, self._file_poll_s)

    async def follow_config(self, path: Path, *, poll_s: float) -> None:
        """Poll the configuration file; the last valid one holds while it is absent, empty or broken.

        Args:
            path: the file; the list beside it of versions that OpenVINO alone runs is read with it.
            poll_s: seconds between reads; 0 or less means once.
        """
        await _repeat(functools.partial(self._read_config, path), poll_s)

    async def scan(self) -> None:
        """Compare the model folders with the wanted versions, and tell the repository."""
        async with self._scanning:  # the answers of two looks must not overtake each other
            configs = self._configs
            for config in configs:
                versions = await self._list_versions(config)
                if versions is not None:
                    self._repository.aspire(config.name, config.select(versions))
            for name in set(self._repository.names) - {config.name for config in configs}:
                self._repository.aspire(name, {})

    async def _list_versions(self, config: ModelConfig) -> dict[int, Path] | None:
        """Return the version folders, or None if the base path cannot be listed: the served versions then stay."""
        try:
            versions = await asyncio.to_thread(list_versions, config.base_path)
        except OSError as err:
            self._complain(config.name, f"{config.name}: its base path cannot be listed: {err}")
            return None
        if not config.select(versions):
            self._complain(config.name, f"{config.name}: no versions found under its base path {config.base_path}")
        else:
            self._complaints.pop(config.name, None)
        return versions

    async def _read_config(self, path: Path) -> None:
        try:
            text = await asyncio.to_thread(path.read_text)
            more = await asyncio.to_thread(_read_if_there, openvino_config_of(path))
        except FileNotFoundError:
            self._repository.mark_configured()
            return self._complain(_CONFIG, f"waiting for the model config {path.name}: there is no such file")
        except (OSError, ValueError) as err:
            return self._complain(_CONFIG, f"the model config {path.name} cannot be read: {err}")
        if (text, more) == self._texts:
            return
        if not text.strip():  # a writer may be about to fill it
            self._repository.mark_configured()
            return self._complain(_CONFIG, f"waiting for the model config {path.name}: it is empty")
        try:
            configs = read_config(parse_config(text), self._path_map, self._names)
            others = read_config(parse_config(more), self._path_map, platform=OPENVINO_PLATFORM)
            await self.apply(join_configs([*configs, *others]))
        except EngineError as err:  # read again at the next poll: its label's version may be there by then
            return self._complain(_CONFIG, f"{err}; the last good one stays")
        self._texts = text, more

    def _complain(self, about: str, message: str) -> None:
        """Log a message once, not at every poll."""
        if self._complaints.get(about) != message:
            self._complaints[about] = message
            logger.warning("%s", message)


def _read_if_there(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


async def _repeat(step: Callable[[], Awaitable[None]], interval_s: float) -> None:
    while True:
        try:
            await step()
        except Exception:  # to stop following would be worse than whatever this is
            logger.exception("looking for models failed; it is tried again")
        if interval_s <= 0:
            return
        await asyncio.sleep(interval_s)
