"""Stores what an audit measures of images on disk, by the content of their files: only new files are decoded again.

A segment is one file: the SHA-256 of the rest, then a line of JSON for each image. It is written under another name
and renamed, so runs that share the folder need no lock: at worst two measure the same images.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from contract.model import InputSpec
from pipeline.data.image_quality import AuditedImage
from pipeline.data.pixels import pixel_packages
from pipeline.run_warnings import Weight, warn
from pipeline.segments import delete_segments, list_segments, read_checked, write_checked

log = logging.getLogger(__name__)

FOLDER = Path(".cache") / "audit"  # below the folder of runs
_DEFINITION = 1  # counted up when facts of the same name and type are measured in another way
_OWN = frozenset({"example", "sha256"})  # fields of an audited image that are no facts of its content
_SEGMENT_IMAGES = 2000  # written at once, and lost by a kill


class FactStore:
    """The facts of images, measured in one way.

    A damaged segment is deleted and its images are measured again. Where facts cannot be written, the audit goes on
    without.

    Args:
        folder: of all facts.
        definition: what else the facts depend on, as `define_facts` gives it.
        max_bytes: that `folder` may hold; the longest unused segments go first.
    """

    def __init__(self, folder: Path, definition: str, *, max_bytes: int) -> None:
        self._folder = folder
        self._own = folder / definition
        self._max_bytes = max_bytes
        self._known: dict[bytes, bytes] = {}
        self._used: set[Path] = set()
        self._new: dict[str, AuditedImage] = {}
        self._is_writable = max_bytes > 0
        for path in sorted(self._own.glob("*.jsonl")):
            self._open(path)

    def find(self, sha256: str) -> dict[str, Any] | None:
        """Return the facts of a file by their field of AuditedImage, None for a new file.

        Args:
            sha256: hex digest of the file's bytes.
        """
        line = self._known.get(sha256.encode())
        if line is None:
            return None
        try:
            facts = _facts_model().model_validate_json(line)
        except ValidationError:  # the digest was right: written by something else
            return None
        return {name: getattr(facts, name) for name in type(facts).model_fields}

    def add(self, image: AuditedImage) -> None:
        """Keep the facts of an image, on disk from `flush` on or when there are enough for a segment."""
        if image.sha256.encode() not in self._known:
            self._new[image.sha256] = image
        if len(self._new) >= _SEGMENT_IMAGES:
            self.flush()

    def flush(self) -> None:
        """Write a segment of the images that were added."""
        images, self._new = self._new, {}
        if not images or not self._is_writable:
            return
        content = b"".join(b"%b %b\n" % (key.encode(), _to_json(image)) for key, image in images.items())
        try:
            if not self._make_room(len(content)):
                return
            path = write_checked(self._own, ".jsonl", content)
        except OSError as err:
            self._is_writable = False
            text = "the audit's facts cannot be kept in %s: %s; the next audit reads these images again"
            warn(log, Weight.SPEED, text, self._own, err.strerror or err)
            return
        self._used.add(path)

    def _open(self, path: Path) -> None:
        try:
            content = read_checked(path)
            os.utime(path)
        except FileNotFoundError:
            return  # another run made room meanwhile
        except (OSError, ValueError) as err:
            warn(log, Weight.SPEED, "%s is damaged and is not used; its images are audited again: %s", path, err)
            with suppress(OSError):
                path.unlink()
            return
        self._used.add(path)
        self._known |= {key: line for key, _, line in (row.partition(b" ") for row in content.splitlines())}

    def _make_room(self, size: int) -> bool:
        """Delete the longest unused segments until `size` bytes more fit; return whether they do."""
        total, free = list_segments(self._folder, ".jsonl", self._used)
        return delete_segments(free, total + size - self._max_bytes)


def define_facts(spec: InputSpec, **others: Any) -> str:
    """Return a hash of all that the facts of one file depend on: their fields, decoder, input and libraries.

    Args:
        spec: the input whose pixels are measured.
        others: JSON values.
    """
    document = {
        "definition": _DEFINITION,
        "fields": _without_descriptions(_facts_model().model_json_schema()),
        "input": asdict(spec),
        "packages": pixel_packages(),
        **others,
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:32]


@cache
def _facts_model() -> type[BaseModel]:
    """Return a model of the fields of AuditedImage that are facts of a file's content."""
    hints = get_type_hints(AuditedImage)
    names = [field.name for field in fields(AuditedImage) if field.name not in _OWN]
    config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")
    found: Mapping[str, Any] = {name: (hints[name], ...) for name in names}
    return create_model("Facts", __config__=config, **found)


def _to_json(image: AuditedImage) -> bytes:
    model = _facts_model()
    facts = model.model_construct(**{name: getattr(image, name) for name in model.model_fields})
    return facts.model_dump_json().encode()


def _without_descriptions(schema: Any) -> Any:
    """Return a JSON schema without its texts: they change nothing that is measured."""
    if isinstance(schema, dict):
        return {key: _without_descriptions(value) for key, value in schema.items() if key != "description"}
    return [_without_descriptions(value) for value in schema] if isinstance(schema, list) else schema
