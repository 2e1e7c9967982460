"""Reads, hashes and measures the files of a set: the part of an audit that looks at one image at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain

from pipeline.audit.kept.fact_store import FactStore
from pipeline.audit.measuring import Measured, Refused
from pipeline.data.image_facts import ImageFacts
from pipeline.data.image_quality import ImageQuality
from pipeline.data.ingest import Source
from pipeline.data.map_batches import map_batches
from pipeline.data.pixels import Pixels

UNREADABLE = "unreadable_file"  # the code of a file that cannot be read at all
_AT_ONCE = 8  # images that a thread takes at a time

Measure = Callable[[Sequence[bytes]], list[Measured | Refused]]


@dataclass(frozen=True, slots=True)
class Problem:
    """An image that cannot be used.

    Attributes:
        path: below the source.
        code: stable name of the reason.
        message: the reason in words.
        is_refused: whether the operating system does not give the file, as on a share that went away; False of one
            that is damaged in its zip. Parts do not hold it.
    """

    path: str
    code: str
    message: str
    is_refused: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Checked:
    """A readable file.

    Attributes:
        sha256: hex digest of the file's bytes.
        quality: the measures.
        facts: those beside its subject.
    """

    sha256: str
    quality: ImageQuality
    facts: ImageFacts


@dataclass(frozen=True, slots=True)
class _NewFile:
    """A file whose facts are not kept."""

    path: str
    sha256: str
    content: bytes


@dataclass(frozen=True)
class Checker:
    """Reads and hashes images; those without kept facts are measured.

    Attributes:
        source: reads the files.
        measure: gives the facts of their bytes.
        kept: facts of images that were measured before.
        pixels: gets decoded pixels.
    """

    source: Source
    measure: Measure
    kept: FactStore | None = None
    pixels: Pixels | None = None

    def __call__(self, paths: Sequence[str]) -> list[Checked | Problem]:
        """Return each image measured, or the reason why it cannot be used."""
        files = [self._read(path) for path in paths]
        new = [file for file in files if isinstance(file, _NewFile)]
        measured = iter(self.measure([file.content for file in new]) if new else ())
        return [self._take(file, next(measured)) if isinstance(file, _NewFile) else file for file in files]

    def _read(self, path: str) -> Checked | Problem | _NewFile:
        try:
            content = self.source.read(path)
        except OSError as err:
            return Problem(path, UNREADABLE, err.strerror or str(err), err.errno is not None)
        sha256 = hashlib.sha256(content).hexdigest()
        facts = self.kept.find(sha256) if self.kept else None
        return Checked(sha256, **facts) if facts else _NewFile(path, sha256, content)

    def _take(self, file: _NewFile, measured: Measured | Refused) -> Checked | Problem:
        if isinstance(measured, Refused):
            return Problem(file.path, measured.code, measured.message)
        if measured.pixels is not None and self.pixels is not None:
            self.pixels.keep(file.path, measured.pixels)
        return Checked(file.sha256, measured.quality, measured.facts)


def check_files(checker: Checker, paths: Sequence[str], num_threads: int) -> Iterator[Checked | Problem]:
    """Yield each image measured, or the reason why it cannot be used, in order."""
    if num_threads == 1:
        yield from chain.from_iterable(map_batches(checker, paths, size=_AT_ONCE))
        return
    with ThreadPoolExecutor(num_threads) as pool:
        yield from chain.from_iterable(map_batches(checker, paths, pool, size=_AT_ONCE))
