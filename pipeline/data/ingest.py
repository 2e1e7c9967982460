"""A folder, a zip or a table of images to a list of labelled examples; no pixel is decoded here.

Understood layouts, inside any depth of wrapping folders that hold nothing else:

    train/<class>/**   test/<class>/** (optional)   val/<class>/** (optional), by any usual name
    <class>/**         <class>/train/**   <class>/test/**
    a CSV, TSV or Parquet file with the columns path, label and, if wanted, group and split (pipeline/data/tables.py)

What systems add is passed over and counted. A zip is read in place, never unpacked, so a hostile name can write
nothing; such names are refused all the same, because an archive that has them is not what its user thinks it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeGuard, get_args

from pipeline.data.folder_source import Alias, FolderSource
from pipeline.data.image_files import ImageFiles, count_suffixes, describe_counts, find_images, is_visible
from pipeline.data.layout import LAYOUT, Layout, find_layout, find_roles, find_root, read_side
from pipeline.data.names import escape_name, find_twins, is_escaped, spell_name
from pipeline.data.objects.source import ObjectSource
from pipeline.data.objects.url import Location, ObjectUrl
from pipeline.data.table_file import TABLE_SUFFIXES
from pipeline.data.tables import TableRow, TableSource, read_rows
from pipeline.data.zip_source import ZipSource, is_archive
from pipeline.errors import DatasetError, LayoutError
from pipeline.recipe.data_settings import Data, Split

_SHOWN = 5  # names in one line


class Source(Protocol):
    """Reads the bytes of a set's files; can be pickled, and then lists nothing."""

    @property
    def location(self) -> Location:
        """The folder, the zip, the table or the address."""

    def read(self, path: str) -> bytes:
        """Return a file's bytes; OSError if they cannot be had."""

    def read_head(self, path: str) -> bytes:
        """Return the first bytes of a file; OSError if they cannot be had."""

    def size(self, path: str) -> int:
        """Return the number of bytes of a file; -1 if it is gone."""


class Tree(Source, Protocol):
    """A source whose folders say what is what.

    Attributes:
        aliases: links to folders that are listed under another name.
        system: number of files and folders that a system has left, by kind.
    """

    aliases: list[Alias]
    system: Counter[str]

    def list_files(self) -> list[PurePosixPath]:
        """Return every file's path below the source, sorted."""

    def list_folders(self) -> list[PurePosixPath]:
        """Return every folder's path below the source."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled image.

    Attributes:
        path: below the source, with forward slashes.
        label: the class folder's name, or the table's label.
        split: where the set's own folders or its table put it; None when the set leaves that open.
        name: the path below the class folder, or the table's path, which group rules are matched against.
        group: the table's; None without such a column.
    """

    path: str
    label: str
    split: Split | None
    name: str
    group: str | None = None


@dataclass(frozen=True)
class Dataset:
    """A set of labelled images.

    Attributes:
        source: reads the bytes.
        examples: sorted by path.
        labels: class names of the training images, sorted: the class index order.
        ignored: number of files left out because they are not images, by suffix.
        advice: what the decoder says of other pictures among those, by suffix.
        system: number of files and folders that a system has left, by kind, such as "@eaDir".
        notes: how the set is read, where that is not plain, a line each.
    """

    source: Source
    examples: tuple[Example, ...]
    labels: tuple[str, ...]
    ignored: Mapping[str, int]
    advice: Mapping[str, str] = field(default_factory=dict)
    system: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the folder, zip or table, as text."""
        return escape_name(self.source.location.name)


def ingest(location: Location, data: Data | None = None) -> Dataset:
    """List the labelled images of a folder, a zip, a table or an address of object storage.

    Args:
        location: where they are.
        data: how they are read, where that differs from the defaults.

    Raises:
        DatasetError: if there are no images, fewer than two classes, a class without training images, images
            outside a class folder, folders that can be read in two ways, or a table with anything wrong in it.
    """
    data = data or Data()
    if location.exists() and not location.is_dir() and not location.is_file():
        raise DatasetError(f"{escape_name(location.name)}: expected a folder, zip or table. Received: a pipe or device")
    if is_table(location):
        return _ingest_table(location, data)
    tree = _open_tree(location, data)
    try:
        return _ingest_tree(tree, data)
    except LayoutError as err:
        raise type(err)(f"{escape_name(location.name)}: {err}{_explain_contents(tree)}") from err


def open_source(location: Location, data: Data) -> Source:
    """Return what reads the files of a set, whatever its layout.

    Raises:
        DatasetError: if there is nothing, or nothing that can be read.
    """
    return TableSource(location) if is_table(location) else _open_tree(location, data)


def describe_reading(dataset: Dataset) -> list[str]:
    """Return what a reader must know of how a set is read, a line each."""
    if not dataset.system:
        return list(dataset.notes)
    return [*dataset.notes, f"left out, of systems and hidden: {describe_counts(dataset.system)}"]


def is_table(location: Location) -> TypeGuard[Path]:
    """Return whether a location is a file that is a table."""
    if not location.exists():
        raise DatasetError(
            f"{escape_name(str(location))}: expected a folder, zip or table of images. Received: no such file or folder"
        )
    return location.is_file() and location.suffix.lower() in TABLE_SUFFIXES


def _open_tree(location: Location, data: Data) -> Tree:
    if isinstance(location, ObjectUrl):
        return ObjectSource(location)
    return FolderSource(location) if location.is_dir() else ZipSource(location, data.zip_encoding)


def _ingest_tree(source: Tree, data: Data) -> Dataset:
    found = find_images((path for path in source.list_files() if is_visible(path)), source.read_head, source.read)
    ignored = count_suffixes(found.others)
    if not found.images:
        received = f"{len(found.others)} files, none of them an image" if found.others else "nothing"
        named = f" ({describe_counts(ignored, found.advice)})" if ignored else ""
        raise LayoutError(f"has no images: {LAYOUT}. Received: {received}{named}")
    root = find_root(found.images, data.splits)
    inside = [alias for alias in source.aliases if not _is_wrapper(alias, root)]
    aliased = _second_names(inside, found.images)
    layout = find_layout([*found.images, *(link for link, _ in aliased)], data.splits)
    notes = [*layout.notes, *_check_aliases(source.aliases, aliased, layout)]
    folders = [path for path in source.list_folders() if is_visible(path)]
    notes += _check_empty_splits(folders, found, layout)
    examples = tuple(example for path in found.images if (example := _example(path, layout)) is not None)
    empty = {label for path in folders if (label := layout.class_folder(path)) is not None}
    labels = _check_classes(examples, empty, _left_out_by_class(found, layout))
    notes += _describe_escaped([example.path for example in examples])
    return Dataset(source, examples, labels, ignored, found.advice, dict(source.system), tuple(notes))


def _example(path: PurePosixPath, layout: Layout) -> Example | None:
    place = layout.place(path)
    return None if place is None else Example(str(path), place.label, place.split, place.name)


def _is_wrapper(alias: Alias, root: PurePosixPath) -> bool:
    """Return whether a link is a second name of what wraps a whole set, such as `latest`."""
    return not alias.link.is_relative_to(root) and not find_roles({alias.link.name, alias.first.name})


def _second_names(
    aliases: Iterable[Alias], images: Sequence[PurePosixPath]
) -> list[tuple[PurePosixPath, PurePosixPath]]:
    """Return images by the names that they have through links too, one for each folder, with their first names."""
    one_each = {path.parent: path for path in images}.values()
    return [
        (alias.link / path.relative_to(alias.first), path)
        for alias in aliases
        for path in one_each
        if path.is_relative_to(alias.first)
    ]


def _check_aliases(
    aliases: Sequence[Alias], aliased: Iterable[tuple[PurePosixPath, PurePosixPath]], layout: Layout
) -> list[str]:
    """Refuse a folder with two names that stand for different classes or sides; say of others that one is read."""
    for link, path in aliased:
        if not link.is_relative_to(layout.root) or not path.is_relative_to(layout.root):
            continue
        first, second = layout.place(path), layout.place(link)
        if first and second and (first.label, first.split) != (second.label, second.split):
            one, other = path.parent, link.parent
            while one.name == other.name and one.parent.parts and other.parent.parts:
                one, other = one.parent, other.parent
            kind = "class" if first.label != second.label else "split"
            raise LayoutError(
                f"expected every folder in one {kind}. Received: one folder as {one} and, by a link, as {other}; "
                f"remove the link, or copy other images there"
            )
    return [f"{alias.link} is another name of {alias.first}: its images are read once" for alias in aliases]


def _check_empty_splits(folders: Iterable[PurePosixPath], found: ImageFiles, layout: Layout) -> list[str]:
    """Say which split folders are empty; refuse one of files that are not images."""
    tops = {path.name: path for path in folders if path.parent == layout.root}
    names = [name for name, role in find_roles(tops).items() if name not in layout.sides and role in get_args(Split)]
    if not layout.sides:
        return []
    for name in sorted(names):
        if others := [path for path in found.others if path.is_relative_to(tops[name])]:
            left_out = describe_counts(count_suffixes(others), found.advice)
            raise LayoutError(f"expected images in every split. Received: none in {name} ({left_out} left out)")
    return [f"{name} is empty: Fovea makes that split" for name in sorted(names)]


def _left_out_by_class(found: ImageFiles, layout: Layout) -> dict[str, str]:
    """Return the files that are left out by class, in words."""
    by_class: dict[str, list[PurePosixPath]] = {}
    for path in found.others:
        if (label := layout.class_folder(path.parent)) is not None:
            by_class.setdefault(label, []).append(path)
    return {label: describe_counts(count_suffixes(paths), found.advice) for label, paths in by_class.items()}


def _describe_escaped(paths: Sequence[str]) -> list[str]:
    escaped = [path for path in paths if is_escaped(path)]
    if not escaped:
        return []
    more = f" and {len(escaped) - _SHOWN} more" if len(escaped) > _SHOWN else ""
    return [f"names that are not UTF-8 are written with their bytes: {', '.join(escaped[:_SHOWN])}{more}"]


def _explain_contents(source: Tree) -> str:
    """Say that a set without a layout holds a table or an archive."""
    files = [path for path in source.list_files() if is_visible(path)]
    tables = [str(path) for path in files if path.suffix.lower() in TABLE_SUFFIXES][:_SHOWN]
    archives = [str(path) for path in files if is_archive(path)][:_SHOWN]
    texts = []
    if tables and source.location.is_dir():
        texts.append(f"it holds a table ({', '.join(tables)}): give that file instead of the folder")
    elif tables:
        texts.append(f"it holds a table ({', '.join(tables)}), which is not read from a zip: unpack it, give the table")
    if archives:
        texts.append(f"it holds archives ({', '.join(archives)}), which are not read from within: unpack them")
    return "".join(f"; {text}" for text in texts)


def _ingest_table(location: Path, data: Data) -> Dataset:
    found, notes = read_rows(location, data)
    rows, name = sorted(found, key=lambda row: row.path), escape_name(location.name)
    examples = tuple(Example(row.path, row.label, _table_split(name, row, data), row.path, row.group) for row in rows)
    try:
        labels = _check_classes(examples, set(), {})
    except LayoutError as err:
        raise DatasetError(f"{name}: {err}") from err
    notes = (*notes, *_describe_escaped([row.path for row in rows]))
    return Dataset(TableSource(location), examples, labels, {}, notes=notes)


def _table_split(table: str, row: TableRow, data: Data) -> Split | None:
    if row.split is None:
        return None
    side = read_side(row.split, data.splits)
    if side is None:
        raise DatasetError(f"{table}: expected the split train, val or test. Received: {row.split!r} in row {row.line}")
    return None if side == "any" else side


def _check_classes(examples: Sequence[Example], folders: set[str], left_out: Mapping[str, str]) -> tuple[str, ...]:
    """Return the classes, sorted.

    Args:
        examples: every image.
        folders: classes that have a folder for training images.
        left_out: files of a class that are not images, in words.
    """
    if any(e.split is None for e in examples) and any(e.split for e in examples):
        odd = next(e.path for e in examples if e.split is None)
        raise LayoutError(f"mixes two layouts: {LAYOUT}. Received: {odd} without a split, others with one")
    training = {e.label for e in examples if e.split in (None, "train")}
    if not training:
        raise LayoutError(f"has no training images: {LAYOUT}. Received: no image under train/")
    if twins := find_twins({e.label for e in examples} | folders):
        raise LayoutError(
            "expected classes that differ in more than Unicode form, case or blanks. Received: "
            f"{'; '.join(' and '.join(map(spell_name, names)) for names in twins)}. Give them one name, or others"
        )
    if empty := sorted(folders - training):
        named = [f"{label} ({left_out[label]} left out)" if label in left_out else label for label in empty]
        raise LayoutError(f"expected images in every class folder. Received: none in {', '.join(named)}")
    if unknown := sorted({e.label for e in examples} - training):
        raise LayoutError(f"expected every class to have training images. Received: {', '.join(unknown)} without any")
    if len(training) < 2:
        raise LayoutError(f"expected at least two classes. Received: one, {', '.join(training)}")
    return tuple(sorted(training))
