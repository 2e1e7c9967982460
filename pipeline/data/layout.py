"""Tells splits from classes by the names of folders, and refuses a set that can be read in two ways."""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import cast

import yaml

from pipeline.errors import LayoutError, UnknownSplitError
from pipeline.recipe.data_settings import Side, Split

LAYOUT = "expected train/<class>/<image> (and test/<class>/<image>), or <class>/<image>"
Role = str  # a Side, or _UNLABELLED

_UNLABELLED = "unlabelled"
_EXACT: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_WORDS: Mapping[str, Role] = {
    **_EXACT,
    "trains": "train",
    "trainval": "train",
    "vali": "val",
    "validate": "val",
    "dev": "val",
    "devel": "val",
    "development": "val",
    "eval": "val",
    "evaluation": "val",
    "tests": "test",
    "holdout": "test",
    "heldout": "test",
    "pred": _UNLABELLED,
    "predict": _UNLABELLED,
    "prediction": _UNLABELLED,
    "predictions": _UNLABELLED,
    "unlabeled": _UNLABELLED,
    "unlabelled": _UNLABELLED,
}
_FILLERS = frozenset(
    re.findall(
        r"\w+",
        "data dataset datasets dir file files final folder image images img imgs input new of only org original part "
        "photo photos pic pics picture pictures raw sample samples set sets seg split splits stage subset the",
    )
)
_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_SHOWN = 6  # folders named in an error
# Chinese and Japanese, without blanks between words.
_JOINED_WORDS: Mapping[str, Split] = {
    "训练": "train",
    "訓練": "train",
    "验证": "val",
    "驗證": "val",
    "検証": "val",
    "测试": "test",
    "測試": "test",
    "テスト": "test",
}
_JOINED_FILLERS = frozenset({"", "集", "数据", "数据集", "データ", "用"})
_ABBREVIATIONS: Mapping[str, Split] = {"trn": "train", "tst": "test"}  # of folders only: in a table a slip
_ALL_WORDS: Mapping[str, Role] = {**_WORDS, **_JOINED_WORDS, **_ABBREVIATIONS}


@dataclass(frozen=True)
class Place:
    """Where a file stands in a layout.

    Attributes:
        label: its class.
        split: its side; None where the set leaves that open.
        name: the path below the class folder.
    """

    label: str
    split: Split | None
    name: str


@dataclass(frozen=True)
class Layout:
    """How the folders of a set are read.

    Attributes:
        root: the folder that wraps all others.
        sides: what each folder below the root is, where it is a split; the classes are below those then.
        wrappers: folders inside a split folder that hold nothing but the class folders, by split folder.
        inner: what each folder below a class folder is, where the splits are below the classes.
        unlabelled: folders below the root without labels.
        notes: what a reader must know, a line each.
    """

    root: PurePosixPath
    sides: Mapping[str, Side] = field(default_factory=dict)
    wrappers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    inner: Mapping[str, Split] = field(default_factory=dict)
    unlabelled: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def place(self, path: PurePosixPath) -> Place | None:
        """Return a file's class and side; None for a file without a label.

        Raises:
            LayoutError: if the file is outside a class folder.
        """
        parts = path.relative_to(self.root).parts if path.is_relative_to(self.root) else ()
        if parts and parts[0] in self.unlabelled:
            return None
        split: Split | None = None
        if len(parts) > 1 and parts[0] in self.sides:
            side = self.sides[parts[0]]
            split = None if side == "any" else side
            wrapper = self.wrappers.get(parts[0], ())
            inside = parts[1 : 1 + len(wrapper)] == wrapper
            parts = parts[1 + len(wrapper) :] if inside else ()
        elif self.sides and len(parts) > 1:
            raise LayoutError(self._mixed(parts[0], path))
        if self.inner and len(parts) > 2:
            return Place(parts[0], self.inner.get(parts[1]), "/".join(parts[1:]))
        if len(parts) < 2:
            elsewhere = "; images without a label belong elsewhere" if self.sides else ""
            raise LayoutError(f"{path} is outside a class folder: {LAYOUT}{elsewhere}{self._way_round()}")
        return Place(parts[0], split, "/".join(parts[1:]))

    def class_folder(self, path: PurePosixPath) -> str | None:
        """Return the class of a folder that trains; None for other folders."""
        try:
            place = self.place(path / "image")
        except LayoutError:
            return None
        return place.label if place is not None and place.split in (None, "train") else None

    def _mixed(self, folder: str, path: PurePosixPath) -> str:
        sides = ", ".join(sorted(self.sides))
        return (
            f"the set mixes two layouts: {LAYOUT}. Received: {path} without a split, others with one ({sides}). "
            f"Move {folder} elsewhere if it is not part of the set{self._way_round()}"
        )

    def _way_round(self) -> str:
        if not self.sides:
            return ""
        return f"; if {', '.join(sorted(self.sides))} are classes, say so with {_spell_option({})}"


def find_layout(images: Sequence[PurePosixPath], splits: Mapping[str, Side] | None = None) -> Layout:
    """Read the layout of a set.

    Args:
        images: paths of the images, at least one.
        splits: what each folder of splits is, if the caller says so; empty where the folders are classes.

    Raises:
        LayoutError: if the folders can be read in two ways, or mix two layouts.
        UnknownSplitError: if `splits` names a folder that is not there.
    """
    root = find_root(images, splits)
    inside = [path.relative_to(root).parts for path in images]
    below: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for parts in inside:
        if len(parts) > 1:
            below[parts[0]].append(parts[1:])
    if splits:
        _check_named(splits, below)
        roles: Mapping[str, Role] = splits
    else:
        roles = {} if splits is not None else find_roles(below)
    if not roles:
        inner = {} if splits is not None else _inner_splits(below)
        if splits is None and not inner:
            _check_ambiguous(below)
        said = (f"the splits are below the class folders: {_describe(inner)}",) if inner else ()
        return Layout(root, inner=inner, notes=said)
    unlabelled = {name for name, role in roles.items() if role == _UNLABELLED}
    sides = cast(Mapping[str, Side], {name: role for name, role in roles.items() if role != _UNLABELLED})
    _check_nested(root, sides, below)
    wrappers = {name: _wrapper(name, below[name]) for name in sides if name in below}
    if splits is None:
        _check_ambiguous_sides(sides, wrappers, below)
    unusual = {name: side for name, side in sides.items() if name.lower() not in _EXACT}
    notes = [f"folders read as splits: {_describe(unusual)}"] if unusual else []
    notes += [f"{name}: {len(below[name])} images without a label are left out" for name in sorted(unlabelled)]
    return Layout(root, sides, wrappers, {}, frozenset(unlabelled), tuple(notes))


def find_roles(names: Collection[str]) -> dict[str, Role]:
    """Return what folders beside each other are, by their names, where they are splits.

    A name is a split's if it has one word for it, such as train, and otherwise only words that say nothing of their
    own, or the same words as the folder of another split: training_set, seg_train and seg_test, TrainData.
    """
    parsed = {name: found for name in names if (found := _parse(name)) is not None}
    accepted = {
        name: role
        for name, (role, rest) in parsed.items()
        if not rest or any(rest == other and role != another for another, other in parsed.values())
    }
    if "train" in accepted.values():
        return accepted
    return {name: _EXACT[name.lower()] for name in names if name.lower() in _EXACT}


def read_side(text: str, splits: Mapping[str, Side] | None) -> Side | None:
    """Return the side that a table's split column names; None if it names none."""
    if splits and text in splits:
        return splits[text]
    parsed = _parse(text)
    if (
        parsed is None
        or parsed[1]
        or parsed[0] == _UNLABELLED
        or not _ABBREVIATIONS.keys().isdisjoint(_split_words(text))
    ):
        return None
    return cast(Split, parsed[0])


def _parse(name: str) -> tuple[Role, frozenset[str]] | None:
    """Return the split that a name says, and its other words; None for a name that says none, or several."""
    words = _split_words(name)
    roles = {_ALL_WORDS[word] for word in words if word in _ALL_WORDS}
    if len(roles) != 1:
        return None
    return roles.pop(), frozenset(word for word in words if word not in _ALL_WORDS and word not in _FILLERS)


def _split_words(name: str) -> list[str]:
    """Return the words of a name in lower case, those that are joined too, such as "trainset"."""
    return [word for token in _TOKEN.findall(name) for word in _split_token(token.lower())]


def _split_token(token: str) -> list[str]:
    for role in sorted(_ALL_WORDS, key=len, reverse=True):
        for filler in (token.removeprefix(role), token.removesuffix(role)):
            if filler != token and (filler in _FILLERS or filler in _JOINED_FILLERS):
                return [role]
    return [token]


def find_root(images: Iterable[PurePosixPath], splits: Mapping[str, Side] | None = None) -> PurePosixPath:
    """Return the deepest folder that wraps every image and is neither a split nor a class."""
    known = frozenset(_EXACT if splits is None else splits)
    parents = [path.parent.parts for path in images]
    root: list[str] = []
    for level in zip(*parents, strict=False):
        # The last folder level belongs to the classes, even when there is one class only.
        is_last = any(len(parts) == len(root) + 1 for parts in parents)
        if len(set(level)) > 1 or level[0] in known or level[0].lower() in known or is_last:
            break
        root.append(level[0])
    return PurePosixPath(*root)


def _wrapper(name: str, below: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the folders inside a split folder that say nothing of their own, such as seg_train/seg_train."""
    wrapper: list[str] = []
    while True:
        level = {parts[len(wrapper)] for parts in below}
        if len(level) != 1 or any(len(parts) < len(wrapper) + 3 for parts in below):
            return tuple(wrapper)
        (folder,) = level
        if folder != name and not all(word in _ALL_WORDS or word in _FILLERS for word in _split_words(folder)):
            return tuple(wrapper)
        wrapper.append(folder)


def _inner_splits(below: Mapping[str, Sequence[tuple[str, ...]]]) -> dict[str, Split]:
    """Return what the folders below the class folders are, where every class is split into train and others."""
    if len(below) < 2 or any(len(parts) < 2 for files in below.values() for parts in files):
        return {}
    names = {parts[0] for files in below.values() for parts in files}
    roles = find_roles(names)
    if set(roles) != names or "train" not in roles.values() or _UNLABELLED in roles.values():
        return {}
    deeper = {f"{name}/{parts[0]}": set[str]() for name, files in below.items() for parts in files}
    for name, files in below.items():
        for parts in files:
            deeper[f"{name}/{parts[0]}"].update(parts[1:2] if len(parts) > 2 else ())
    if len(set.intersection(*deeper.values())) > 1:  # sites, each with splits of its own
        return {}
    return cast(dict[str, Split], roles)


def _check_named(splits: Mapping[str, Side], below: Mapping[str, object]) -> None:
    if unknown := sorted(set(splits) - set(below)):
        raise UnknownSplitError(
            f"data.splits: expected folders of the set ({_names(below)}). Received: {_names(unknown)}"
        )


def _check_nested(
    root: PurePosixPath, sides: Mapping[str, Side], below: Mapping[str, Sequence[tuple[str, ...]]]
) -> None:
    """Refuse a set that holds another one beside its split folders."""
    for name, files in sorted(below.items()):
        if name in sides:
            continue
        roles = find_roles({parts[0] for parts in files if len(parts) > 1})
        if "train" in roles.values():
            raise LayoutError(
                f"the set mixes two layouts: {LAYOUT}. Received: {_names(sides)} and, beside them, {root / name} with "
                f"{_names(roles)} of its own. It may be a copy: move it elsewhere, or give it alone"
            )


def _check_ambiguous_sides(
    sides: Mapping[str, Side],
    wrappers: Mapping[str, tuple[str, ...]],
    below: Mapping[str, Sequence[tuple[str, ...]]],
) -> None:
    """Refuse splits whose would-be classes hold the same sub-folders, such as sites with the classes below them."""
    for name in sorted(sides):
        inside: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        for parts in below.get(name, ()):
            rest = parts[len(wrappers[name]) :]
            if len(rest) > 1:
                inside[rest[0]].append(rest[1:])
        parts_of, common = _find_shared(inside)
        if common:
            raise LayoutError(
                f"expected folders that can be read in one way. Received: {_names(parts_of)} in {name}, which hold the "
                f"same folders, {_names(common)}. Either the classes are {_names(common)}: move them up, to "
                f"{name}/{sorted(common)[0]}, or list the images in a table, with {_names(parts_of)} as its group. "
                f"Or the classes are {_names(parts_of)}: {_spell_option(sides)}"
            )


def _check_ambiguous(below: Mapping[str, Sequence[tuple[str, ...]]]) -> None:
    """Refuse would-be classes that hold the same sub-folders: they may be parts of a set, and those its classes."""
    parts, common = _find_shared(below)
    if not common:
        return
    if set(find_roles(common)) == common:
        raise LayoutError(
            f"expected folders that can be read in one way. Received: {_names(parts)}, which each hold splits, "
            f"{_names(common)}, with the same folders below them. Either those are the classes: merge the splits, to "
            f"{sorted(common)[0]}/<class>, or list the images in a table. Or the classes are {_names(parts)}: "
            f"{_spell_option({})}"
        )
    sides = {name: "test" if name == parts[-1] else "train" for name in parts}
    raise LayoutError(
        f"expected folders that can be read in one way. Received: {_names(parts)}, which hold the same folders, "
        f"{_names(common)}. Either the classes are {_names(common)}, and {_names(parts)} are parts of the set: "
        f"{_spell_option(sides)} gives each a side (train, val or test), {_spell_option(dict.fromkeys(parts, 'any'))} "
        f"lets Fovea split them together. Or the classes are {_names(parts)}: {_spell_option({})}"
    )


def _find_shared(below: Mapping[str, Sequence[tuple[str, ...]]]) -> tuple[list[str], set[str]]:
    """Return would-be classes and the sub-folders that they share, if most of them share most of theirs."""
    holders: dict[str, set[str]] = {}
    for name, files in below.items():
        folders = _folders_below(files)
        if folders:
            holders[name] = folders
    if len(holders) < 2 or 2 * len(holders) <= len(below):
        return [], set()
    common, every = set.intersection(*holders.values()), set.union(*holders.values())
    return ([], set()) if len(common) < 2 or 2 * len(common) < len(every) else (sorted(holders), common)


def _spell_option(splits: Mapping[str, str]) -> str:
    """Return the option that says what the folders of a set are."""
    text = yaml.safe_dump(dict(splits), default_flow_style=True, allow_unicode=True, width=10**6).strip()
    return f"--set {shlex.quote(f'data.splits={text}')}"


def _folders_below(files: Sequence[tuple[str, ...]]) -> set[str]:
    """Return the folders that hold the images of a would-be class; empty where most of them are in none."""
    rest = list(files)
    while len({parts[0] for parts in rest}) == 1 and all(len(parts) > 2 for parts in rest):
        rest = [parts[1:] for parts in rest]
    counts = Counter(parts[0] for parts in rest if len(parts) > 1)
    return set(counts) if 2 * sum(counts.values()) > len(rest) else set()


def _describe(sides: Mapping[str, str]) -> str:
    return ", ".join(f"{name} is {side}" for name, side in sorted(sides.items()))


def _names(names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
