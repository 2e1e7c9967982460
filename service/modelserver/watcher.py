"""Follows the configuration file and the model folders, and tells the repository what is wanted."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from service.modelserver.config import ModelConfig, list_versions, parse_config
from service.modelserver.errors import ConfigError
from service.modelserver.repository import ModelRepository

logger = logging.getLogger(__name__)

_CONFIG = ""  # what complaints about the configuration file are filed under; no model has this name


class ModelWatcher:
    """Polls, because a bind mount, a network disk and a rename tell nobody.

    Args:
        repository: is told which versions of which model are wanted.
        configs: the models to serve until a configuration file says otherwise.
        file_poll_s: seconds between looks at the model folders; 0 or less means only when the configuration changed.
    """

    def __init__(self, repository: ModelRepository, configs: Sequence[ModelConfig], *, file_poll_s: float) -> None:
        self._repository = repository
        self._configs = tuple(configs)
        self._file_poll_s = file_poll_s
        self._text: str | None = None
        self._scanning = asyncio.Lock()
        self._complaints: dict[str, str] = {}

    async def follow_versions(self) -> None:
        """Look at the model folders again and again."""
        await _repeat(self.scan, self._file_poll_s)

    async def follow_config(self, path: Path, path_map: Mapping[str, str], *, poll_s: float) -> None:
        """Read the configuration file again and again; what it said last holds while it is absent, empty or broken.

        Args:
            path: the file.
            path_map: folders as the file names them -> folders on this machine.
            poll_s: seconds between reads; 0 or less means once.
        """
        await _repeat(functools.partial(self._read_config, path, path_map), poll_s)

    async def scan(self) -> None:
        """Compare the model folders with what is wanted, and tell the repository."""
        async with self._scanning:  # the answers of two looks must not overtake each other
            configs = self._configs
            for config in configs:
                versions = await self._list_versions(config)
                if versions is not None:
                    self._repository.aspire(config.name, config.policy.select(versions))
            for name in set(self._repository.names) - {config.name for config in configs}:
                self._repository.aspire(name, {})

    async def _list_versions(self, config: ModelConfig) -> dict[int, Path] | None:
        """Return the version folders, or None if the base path cannot be listed: what is served then stays."""
        try:
            versions = await asyncio.to_thread(list_versions, config.base_path)
        except OSError as err:
            self._complain(config.name, f"{config.name}: its base path cannot be listed: {err}")
            return None
        if not config.policy.select(versions):
            self._complain(config.name, f"{config.name}: no versions found under its base path {config.base_path}")
        else:
            self._complaints.pop(config.name, None)
        return versions

    async def _read_config(self, path: Path, path_map: Mapping[str, str]) -> None:
        try:
            text = await asyncio.to_thread(path.read_text)
        except FileNotFoundError:
            self._complain(_CONFIG, f"waiting for the model config {path.name}: there is no such file")
            return
        except (OSError, ValueError) as err:
            self._complain(_CONFIG, f"the model config {path.name} cannot be read: {err}")
            return
        if text == self._text:
            return
        self._text = text
        if not text.strip():  # perhaps someone is about to write it
            self._complain(_CONFIG, f"waiting for the model config {path.name}: it is empty")
            return
        try:
            self._configs = parse_config(text, path_map)
        except ConfigError as err:
            self._complain(_CONFIG, f"{err}; the last good one stays")
            return
        self._complaints.clear()
        logger.info("model config read: %s", ", ".join(config.name for config in self._configs) or "no models yet")
        await self.scan()

    def _complain(self, about: str, message: str) -> None:
        """Log a message once, not at every poll."""
        if self._complaints.get(about) != message:
            self._complaints[about] = message
            logger.warning("%s", message)


async def _repeat(step: Callable[[], Awaitable[None]], interval_s: float) -> None:
    while True:
        try:
            await step()
        except Exception:  # to stop following would be worse than whatever this is
            logger.exception("looking for models failed; it is tried again")
        if interval_s <= 0:
            return
        await asyncio.sleep(interval_s)
