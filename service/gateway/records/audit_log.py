"""Writes the audit log: key, request, model and answer, a JSON object a line, appended only.

    {"time": "...", "action": "predict", "request_id": "...", "key": "clinic", "model": "glaucoma", "version": 3,
     "contract": "sha256:...", "images": [{"sha256": "...", "top": [{"id": "normal", "probability": 0.98}], ...}]}

An answer leaves when its line is written, with `fsync` when it is on the disk; lines of requests that come together
share one write. If it cannot be written, the request fails: a log that loses entries in silence proves nothing. The
file may be renamed at any time, by logrotate for instance: the next line then begins a new one.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contract.predictions import Prediction
from service.gateway.context.errors import RefusedImageError, StorageError
from service.gateway.context.request_context import RequestContext
from service.gateway.images.uploads import Upload
from service.gateway.inference.image_results import Answer, Classified, Embedded, Explanation

Build = Callable[[], Mapping[str, Any]]


class AuditLog:
    """Writes lines in the order in which their requests were answered; one process for each file.

    Args:
        path: the file; made if it is absent, readable by its owner only.
        fsync: whether an answer waits until its line is on the disk, not only with the operating system.
        on_failure: called for each line that cannot be written.
    """

    def __init__(self, path: Path, *, fsync: bool, on_failure: Callable[[], object] = lambda: None) -> None:
        self._path = path
        self._fsync = fsync
        self._on_failure = on_failure
        self._handle = -1
        self._pending: list[tuple[dict[str, Any], Build, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Open the file.

        Raises:
            StorageError: if it cannot be written.
        """
        try:
            self._reopen()
        except OSError as err:
            raise StorageError("the audit log cannot be written") from err

    async def record(self, context: RequestContext, action: str, build: Build) -> None:
        """Write a line and wait until it is written.

        Args:
            context: of the request: its id and key.
            action: such as "predict".
            build: returns the line's other fields; called in a thread, since it may hash images.

        Raises:
            StorageError: if it cannot be written; the request must then fail.
        """
        head = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "action": action,
            "request_id": context.id,
            "key": context.key,
        }
        written = asyncio.get_running_loop().create_future()
        self._pending.append((head, build, written))
        if self._writer is None:
            # Not the request's own task: others wait for the same write, and log lines about it are of no one request.
            self._writer = asyncio.create_task(self._write_pending(), context=contextvars.Context())
        await written

    async def close(self) -> None:
        """Write pending lines and close the file."""
        if self._writer is not None:
            await self._writer
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    async def _write_pending(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending, []
                entries = [(head, build) for head, build, _ in batch]
                # Every waiting caller gets the error.
                (error,) = await asyncio.gather(asyncio.to_thread(self._append, entries), return_exceptions=True)
                for _, _, written in batch:
                    if error is not None:
                        self._on_failure()
                    if not written.done():  # a client that left has cancelled it
                        written.set_result(None) if error is None else written.set_exception(error)
        finally:
            self._writer = None

    def _append(self, entries: Sequence[tuple[dict[str, Any], Build]]) -> None:
        lines = [json.dumps({**head, **build()}, ensure_ascii=False) + "\n" for head, build in entries]
        try:
            self._follow_rotation()
            _write_all(self._handle, "".join(lines).encode())
            if self._fsync:
                os.fsync(self._handle)
        except OSError as err:
            raise StorageError("the audit log cannot be written, so nothing is answered") from err

    def _follow_rotation(self) -> None:
        """Open the file again if its name stands for another one now, or for none."""
        try:
            named = os.stat(self._path)  # noqa: PTH116 - beside os.fstat
        except FileNotFoundError:
            self._reopen()
            return
        if not os.path.samestat(named, os.fstat(self._handle)):
            self._reopen()

    def _reopen(self) -> None:
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = handle


def describe_answer(
    answer: Answer[Classified] | Answer[Explanation] | Answer[Embedded], uploads: Sequence[Upload]
) -> dict[str, Any]:
    """Return what the log says of an answer about images: hashes of the files, never the files or their names."""
    images = [
        {"sha256": hash_bytes(upload.data), **_describe_entry(entry)}
        for upload, entry in zip(uploads, answer.entries, strict=True)
    ]
    return {
        "model": answer.name,
        "version": answer.version,
        "contract": answer.contract.sha256,
        "precision": answer.precision,
        **({"canary": True} if answer.is_canary else {}),
        "images": images,
    }


def describe_bodies(fields: Mapping[str, Any], *, body: bytes, reply: bytes) -> dict[str, Any]:
    """Return the log's fields of numeric inputs and outputs: both are hashed, as they may be large."""
    return {**fields, "body_sha256": hash_bytes(body), "reply_sha256": hash_bytes(reply)}


def _describe_entry(entry: Classified | Explanation | Embedded | RefusedImageError) -> dict[str, Any]:
    if isinstance(entry, RefusedImageError):
        return {"error": entry.code}
    if isinstance(entry, Explanation):
        return {"top": _describe_classes(entry.classified.top[:1]), "explained": entry.explained.id}
    if isinstance(entry, Embedded):
        return {"embedding_sha256": hash_bytes(entry.vector.tobytes()), "warnings": list(entry.warnings)}
    called = {item.id: item.called for item in entry.decision}
    decision = {"decision": called} if called else {}
    return {"top": _describe_classes(entry.top), **decision, "warnings": list(entry.warnings)}


def _describe_classes(classes: Sequence[Prediction]) -> list[dict[str, Any]]:
    return [{"id": item.id, "probability": item.probability} for item in classes]


def hash_bytes(data: bytes) -> str:
    """Return the SHA-256 of a file, by which an image is found again."""
    return hashlib.sha256(data).hexdigest()


def _write_all(handle: int, data: bytes) -> None:
    """Write all of it or, when the disk is full, nothing: half a line would spoil the next one."""
    size = os.fstat(handle).st_size
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(handle, view) :]
    except OSError:
        os.ftruncate(handle, size)
        raise
