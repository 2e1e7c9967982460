"""API keys: a file of named keys of which it holds only hashes, read again when it changes.

    {"keys": [{"name": "clinic", "sha256": "...", "rights": ["predict"], "created": "...", "expires": null}]}

A key is 256 random bits, so a plain SHA-256 of it cannot be turned back by guessing: scrypt and its like exist for
passwords that people choose, and would cost every request tens of milliseconds and megabytes. docs/decisions/0020.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from contract.files.durable import replace_file
from contract.index import NAME_PATTERN

logger = logging.getLogger("fovea.keys")

Right = Literal["predict", "feedback", "review", "metrics"]
RIGHTS: tuple[Right, ...] = get_args(Right)
PREFIX = "fovea_"  # so that scanners of source code and logs can tell a key that got away

_CHECK_S = 1.0  # how soon a changed file counts
_MODE = 0o600


class KeyFileError(Exception):
    """The file of keys cannot be used; the text is for the person who runs the service."""


class ApiKey(BaseModel):
    """One key, as the file has it.

    Attributes:
        name: who uses it; for logs.
        sha256: of the key's ASCII bytes, lower-case hex.
        rights: of the key.
        created: when it was made.
        expires: when it stops being good; None if never.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=f"^{NAME_PATTERN.pattern}$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    rights: tuple[Right, ...] = ("predict",)
    created: AwareDatetime
    expires: AwareDatetime | None = None


class _KeyFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[ApiKey, ...]

    @field_validator("keys")
    @classmethod
    def _check_names(cls, keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        names = [key.name for key in keys]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"expected every name once, not {', '.join(repeated)} again")
        return keys


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Return the keys of a file.

    Raises:
        KeyFileError: if it cannot be read or is not a file of keys.
    """
    try:
        return _KeyFile.model_validate_json(path.read_bytes()).keys
    except OSError as err:
        raise KeyFileError(f"the file of keys {path} cannot be read: {err.strerror or err}") from err
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise KeyFileError(f"{path} is not a file of keys: {where}: {first['msg']}") from err


def write_keys(path: Path, keys: Iterable[ApiKey]) -> None:
    """Replace a file of keys; a running gateway sees the old one or the new one.

    Raises:
        KeyFileError: if it cannot be written.
    """
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else _MODE
        replace_file(path, _KeyFile(keys=tuple(keys)).model_dump_json(indent=2) + "\n", mode=mode)
    except OSError as err:
        raise KeyFileError(f"the file of keys {path} cannot be written: {err.strerror or err}") from err


def make_secret() -> str:
    """Return a new key: 256 random bits, URL-safe."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """Return the hash of a key, as the file holds it."""
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyRing:
    """The keys of a file, kept up to date.

    A changed file counts within a second. One that has become unreadable is reported in the log and changes nothing:
    an editing mistake must not lock every client out.

    Args:
        path: the file.
        clock: monotonic time, seconds.

    Raises:
        KeyFileError: if the file cannot be used at the start.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._seen = file_signature(path)
        self._checked_at = clock()
        self._keys = self._read()

    def find(self, secret: str) -> ApiKey | None:
        """Return the key that a client sent, None if it is unknown or has expired.

        Every key is compared, each in constant time, so the time taken tells nothing of which one was nearly right.
        """
        self._refresh()
        digest = hashlib.sha256(secret.encode()).digest()
        found = None
        for kept, key in self._keys:
            if hmac.compare_digest(kept, digest):
                found = key
        if found is not None and found.expires is not None and found.expires <= datetime.now(found.expires.tzinfo):
            return None
        return found

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._checked_at < _CHECK_S:
            return
        self._checked_at = now
        signature = file_signature(self._path)
        if signature == self._seen:
            return
        self._seen = signature
        try:
            self._keys = self._read()
        except KeyFileError as err:
            logger.error("%s; the keys read before stay in force", err)
        else:
            logger.info("keys read again: %s", ", ".join(key.name for _, key in self._keys) or "none")

    def _read(self) -> list[tuple[bytes, ApiKey]]:
        return [(bytes.fromhex(key.sha256), key) for key in read_keys(self._path)]


def file_signature(path: Path) -> tuple[int, int, int] | None:
    """Return a stamp that changes when the file is written or replaced; None without a file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time of Path.stat
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)
