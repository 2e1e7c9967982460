"""Random folders of images, tables, zips, stores, runs and recipes, and command lines about them."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.helpers.image_sets import png

_WORDS = [
    "train",
    "test",
    "val",
    "a",
    "b",
    "cats",
    "Cats",
    "0",
    "1.0",
    "yes",
    "-rf",
    "--out",
    "a\nb",
    "x" * 250,
    "é è",
    " ",
]
_ODD_NAMES = [b"caf\xe9", b"\xff\xfe", "Schädel".encode("utf-16-le").replace(b"\0", b"_"), b"tab\there", b"'\"$(x)`"]
_SUFFIXES = ["", ".png", ".PNG", ".jpg", ".txt", ".tif", ".dcm", ".csv", ".zip", ".npz"]
_GARBAGE = [
    b"",
    b"text",
    b"\0" * 64,
    b"\x89PNG\r\n\x1a\n",
    b"PK\3\4",
    b"II*\0\x08\0\0\0",
    b"{",
    b"\xff\xd8\xff\xe0",
    b"PAR1",
]
_SETTINGS = [
    *("", "=", "x", "train", "train=", "train.epochs", "train.epochs=", "train.epochs=x", "train.epochs=1e99"),
    *("train.epochs=-1", "train.batch_size=0", "data.group=(", "data.group=^(.*)_", "data.split=[1,2]", "a.b.c=1"),
    *("model.backbone=MnistCNN", "model.weights=none", "model.input_size=28", "model.input_size=99999999"),
    *("evaluate.order=[a]", "evaluate.order=[a,b]", "evaluate.positive=nothing", "evaluate={}", "model=null"),
    *("data.columns.path=x", "train.seed={", "train.seed=: :", "export.tolerance=nan", "data.near_distance=.inf"),
    *("model.weights=/dev/null", "model.weights=set", "evaluate.card.definitions=set", "data.splits={a: test}"),
    *("\0=1", "é=1", "train.epochs=[[[[", "train.epochs=!!python/object:os.system", "data.suffix=png", "&a *a", "*a=1"),
]


class World:
    """A folder that one seed has filled.

    Args:
        folder: empty.
        seed: decides everything.
        store: a model store that is copied, and sometimes damaged.
    """

    def __init__(self, folder: Path, seed: int, store: Path) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self._source = store
        self._image = png(size=20)
        self._sockets: list[socket.socket] = []
        self.set_names = [self._make_set(i) for i in range(2)]
        self._make_store()
        self._make_runs()
        self.recipe = self._make_recipe()

    def close(self) -> None:
        """Close the sockets."""
        for made in self._sockets:
            made.close()

    def command(self) -> list[str]:
        """Return the arguments of one command."""
        pick = self.random.choice
        name = pick(list(_COMMANDS))
        arguments = [name, *_COMMANDS[name](self)]
        arguments += pick([[f"--models-dir={self._path('models')}"]] * 4 + [[f"--models-dir={self._anything()}"]])
        if name != "weights":
            arguments += pick([[f"--runs-dir={self._path('runs')}"]] * 4 + [[f"--runs-dir={self._anything()}"]])
        if self.random.random() < 0.05:
            arguments.insert(self.random.randrange(len(arguments)), pick(["--nonsense", "-h", "--", "é", "\udcff"]))
        return arguments

    def location(self) -> str:
        """Return the path of a set, or of something else."""
        return self._path(self.random.choice(self.set_names * 4 + [self._anything()]))

    def model(self) -> str:
        """Return a reference to a version, right or not."""
        return self.random.choice(
            ["colours"] * 3 + ["colours/1", "colours/candidate", "colours/99", "no", "", "/", "a/b/c", "../x", "\udcff"]
        )

    def recipe_flags(self) -> list[str]:
        """Return --recipe and --set."""
        flags = [f"--set={self.random.choice(_SETTINGS)}" for _ in range(self.random.choice([0, 0, 1, 2]))]
        recipe = self.random.choice([None, None, "demo", "nothing", self._path(self.recipe), self._anything()])
        return flags if recipe is None else [f"--recipe={recipe}", *flags]

    def output(self, suffix: str) -> str:
        """Return the path of a file to write."""
        return self.random.choice(
            [self._path(f"out{suffix}")] * 3 + [self._path(f"no/folder{suffix}"), self._anything()]
        )

    def _path(self, name: str) -> str:
        return str(self.folder / name)

    def _anything(self) -> str:
        """Return any path of the world, or one of no file."""
        paths = [str(path) for path in sorted(self.folder.rglob("*"))]
        return self.random.choice([*paths, self._path("nothing"), "", "/dev/null", str(self.folder), "\udce9.zip"])

    def _name(self) -> str:
        pick = self.random.choice
        name = pick([pick(_WORDS), pick(_WORDS), os.fsdecode(pick(_ODD_NAMES))])
        if self.random.random() < 0.1:
            name = unicodedata.normalize(pick(["NFC", "NFD"]), name)
        return name + pick(_SUFFIXES)

    def _content(self) -> bytes:
        cut = self._image[: self.random.randrange(len(self._image))]
        return self.random.choice([self._image] * 4 + [cut, self.random.choice(_GARBAGE)])

    def _make_set(self, number: int) -> str:
        if self.random.random() < 0.05:  # a pipe, a device or a link in place of the set
            name = f"set{number}{self.random.choice(['', '.csv', '.zip', '.parquet'])}"
            self._add_odd_file(self.folder / name)
            return name
        kind = self.random.choice(
            [self._fill_tree, self._fill_tree, self._fill_tidy, self._write_table, self._write_zip]
        )
        return kind(f"set{number}")

    def _fill_tidy(self, name: str) -> str:
        """Write a set that can be trained on, nearly."""
        for label in ("blue", "green", "red"):
            for i in range(self.random.choice([1, 4])):
                path = self.folder / name / label / f"P{i}_{label}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(seed=i + len(label) * 100, size=20))
        self._add_odd_file(self.folder / name / "red" / "odd.png")
        return name

    def _fill_tree(self, name: str) -> str:
        top = self.folder / name
        top.mkdir()
        for _ in range(self.random.randrange(12)):
            parts = [self._name() for _ in range(self.random.choice([1, 2, 2, 3]))]
            path = top.joinpath(*parts)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError:  # too long, or a file stands there
                continue
            self._add_odd_file(path) if self.random.random() < 0.2 else self._write(path, self._content())
        return name

    def _add_odd_file(self, path: Path) -> None:
        """Make something that is no regular file where one is expected."""
        kinds: list[Callable[[Path], object]] = [
            os.mkfifo,
            lambda path: path.mkdir(),
            self._bind,
            lambda path: path.symlink_to("nowhere"),
            lambda path: path.symlink_to(path.name),
            lambda path: path.symlink_to(".."),
            lambda path: path.symlink_to("/dev/zero"),
            lambda path: path.symlink_to("/dev/null"),
            lambda path: path.symlink_to("/proc/self/mem"),
        ]
        try:
            self.random.choice(kinds)(path)
        except OSError:
            return

    def _bind(self, path: Path) -> None:
        made = socket.socket(socket.AF_UNIX)
        self._sockets.append(made)
        made.bind(str(path))

    def _write(self, path: Path, content: bytes) -> None:
        try:
            path.write_bytes(content)
        except OSError:
            return

    def _write_table(self, name: str) -> str:
        suffix = self.random.choice([".csv", ".tsv", ".parquet"])
        header = self.random.choice(["path,label", "path;label", ",path,label", "path,label,split", "a,b", "", "\0"])
        cells = ["a.png", "b.png", "../x", "/etc/passwd", "cat", "1.0", "1", "", '"', "\0", "é", "a;b", "x" * 300]
        rows = [",".join(self.random.choices(cells, k=self.random.randrange(4))) for _ in range(6)]
        encoding = self.random.choice(["utf-8", "utf-8", "latin-1", "utf-16", "utf-8-sig"])
        self._write(self.folder / "a.png", self._image)
        self._add_odd_file(self.folder / "b.png")
        self._write(self.folder / (name + suffix), "\n".join([header, *rows]).encode(encoding, "replace"))
        return name + suffix

    def _write_zip(self, name: str) -> str:
        path = self.folder / f"{name}.zip"
        members = ["a/1.png", "b/2.png", "../../x.png", "/etc/x.png", "a\\3.png", "C:\\x\\4.png", "train/a/5.png", "a/"]
        with zipfile.ZipFile(path, "w", self.random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
            for member in self.random.sample(members, self.random.randrange(len(members))):
                archive.writestr(zipfile.ZipInfo(member), self._content())
        data = bytearray(path.read_bytes())
        damage = self.random.choice(["none", "cut", "bits", "encrypted", "method"])
        if damage == "cut":
            data = data[: self.random.randrange(len(data))]
        elif damage == "bits":
            for _ in range(8):
                data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        elif damage in ("encrypted", "method"):
            for magic, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
                at = data.find(magic)
                if at >= 0:
                    data[at + place + (0 if damage == "encrypted" else 2)] |= 1 if damage == "encrypted" else 97
        path.write_bytes(bytes(data))
        return path.name

    def _make_store(self) -> None:
        models = self.folder / "models"
        kind = self.random.choice(["whole"] * 4 + ["damaged"] * 4 + ["file", "none", "fifo"])
        if kind in ("whole", "damaged"):
            shutil.copytree(self._source, models)
        if kind == "damaged":
            path = self.random.choice([path for path in sorted(models.rglob("*")) if path.is_file()])
            path.unlink()
            if self.random.random() < 0.5:
                self._write(path, self.random.choice([*_GARBAGE, b"[]", b"null", b'{"format": 9}', b"\xff"]))
            else:
                self._add_odd_file(path)
        if kind == "file":
            self._write(models, b"x")
        if kind == "fifo":
            os.mkfifo(models)

    def _make_runs(self) -> None:
        runs = self.folder / "runs"
        kind = self.random.choice(["none", "none", "file", "garbage", "garbage"])
        if kind == "file":
            self._write(runs, b"x")
        if kind == "garbage":
            run = runs / "colours" / "20260101T000000Z-abcdef"
            run.mkdir(parents=True)
            for name in ("run.json", "recipe.yaml", "manifest.csv", "metrics.json", "predictions.csv"):
                if self.random.random() < 0.5:
                    self._write(run / name, self.random.choice([*_GARBAGE, b"[]", b"path,label\n"]))
                elif self.random.random() < 0.3:
                    self._add_odd_file(run / name)
            if self.random.random() < 0.5:
                record = {"format": 1, "location": self._path(self.set_names[0]), "weights": "none", "force": False}
                if not (run / "run.json").is_dir():
                    (run / "run.json").unlink(missing_ok=True)
                    self._write(run / "run.json", json.dumps(record).encode())

    def _make_recipe(self) -> str:
        texts = [
            b"",
            b"train: {epochs: 1}",
            b"[1]",
            b"- a\n- b: {",
            b"\xff",
            b"train: !!python/name:os.system",
            b"a: &a [*a]",
        ]
        if self.random.random() < 0.3:
            self._add_odd_file(self.folder / "recipe.yaml")
        else:
            self._write(self.folder / "recipe.yaml", self.random.choice(texts))
        return "recipe.yaml"


def _run(world: World) -> list[str]:
    # Weights of no file: what would train for minutes is refused after the set has been listed.
    missing = world.folder / "weights.h5"
    return [world.location(), *world.recipe_flags(), f"--set=model.weights={missing}", *_name_flag(world)]


def _name_flag(world: World) -> list[str]:
    return world.random.choice([[], [], ["--name=colours"], ["--name="], ["--name=a/b"], ["--name=\udcff"]])


_COMMANDS: dict[str, Callable[[World], list[str]]] = {
    "run": _run,
    "resume": lambda world: [
        world.random.choice(["colours", "colours/latest", "no", "", "../x", "colours/20260101T000000Z-abcdef"])
    ],
    "audit": lambda world: [
        world.location(),
        *world.recipe_flags(),
        *_name_flag(world),
        *world.random.choice([[], [f"--quarantine={world.output('')}"]]),
    ],
    "score": lambda world: [world.model(), world.location(), f"--out={world.output('.csv')}"],
    "evaluate": lambda world: [
        world.model(),
        world.location(),
        *world.random.choice([[], [f"--out={world.output('.json')}"], ["--precision=float8"]]),
    ],
    "compare": lambda world: [world.model(), world.model(), *world.random.choice([[], [f"--data={world.location()}"]])],
    "verify": lambda world: [world.model()],
    "import": lambda world: [
        world.location() if world.random.random() < 0.7 else str(world.folder / "models" / "colours" / "1"),
        f"--name={world.random.choice(['new', 'colours', '', 'a/b'])}",
        *world.random.choice([[], [f"--labels={world.location()}"], ["--softmax"], ["--input-size=0x0"]]),
    ],
    "preview": lambda world: [world.location(), f"--out={world.output('.png')}", *world.recipe_flags()],
    "sample": lambda world: (
        ["glaucoma", f"--out={world.random.choice(world.set_names)}"]
        if world.random.random() < 0.2
        else ["glaucoma", f"--out={world.location()}", f"--seed={world.random.choice(['x', '-1'])}"]
    ),
    "models": lambda world: world.random.choice([[], ["--json"]]),
    "promote": lambda world: [world.model()],
    "rollback": lambda world: [world.model()],
    "prune": lambda world: [f"--keep={world.random.choice(['1', '0', '-1', 'x'])}", "--dry-run"],
    "weights": lambda world: [world.random.choice(["MnistCNN", "", "\udcff"])],
}
