"""Writes and restores checkpoints, so that training continues exactly after kill -9.

    checkpoints/<number>/
      state.json          where training stands: stage, epoch, curves, best epoch, patience
      variables.npz       every variable of the classifier, dropout's generators too, and of the optimizer
      best.weights.h5     the weights of the best epoch so far

A number appears by one rename of a finished folder; older ones are removed after it. The order and the augmentation of
images need no state: they are functions of (seed, epoch, image).
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipeline.errors import DiskError, TrainingError
from pipeline.training.schedule import Patience, Plateau

FOLDER = "checkpoints"
BEST = "best.weights.h5"
_WEIGHTS = "model.weights.h5"  # in a .keras file
_STATE, _VARIABLES = "state.json", "variables.npz"
_UNFINISHED = ".writing-"
_OTHER_FILES = 1_000_000  # curves, predictions, report


@dataclass
class TrainingState:
    """The state of a training.

    Attributes:
        stage: index of the current stage; past the last one when training is done.
        epoch: finished epochs of this stage.
        stopped: whether this stage has ended early.
        curves: one record for each finished epoch of all stages.
        best: the record whose weights are kept; empty before the first epoch.
        stopping: how long the validation loss of this stage has not improved.
        plateau: of the plateau schedule in this stage.
        start: validation loss and accuracy of the weights that a warm start began with; empty of other trainings.
        rates: range tests of the learning rate by stage, as `RateSearch.document` gives them.
        precisions: of stages whose recipe asks for another than float32, as `StagePrecision.document` gives them.
    """

    stage: int = 0
    epoch: int = 0
    stopped: bool = False
    curves: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    stopping: Patience = field(default_factory=Patience)
    plateau: Plateau = field(default_factory=lambda: Plateau(Patience()))
    start: dict[str, float] = field(default_factory=dict)
    rates: dict[str, dict[str, Any]] = field(default_factory=dict)
    precisions: dict[str, dict[str, Any]] = field(default_factory=dict)

    def next_stage(self) -> None:
        """Go on to the start of the next stage."""
        self.stage, self.epoch, self.stopped = self.stage + 1, 0, False
        self.stopping, self.plateau = Patience(), Plateau(Patience())


class Checkpoints:
    """The checkpoints of one run; only the newest is kept.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        self._run = folder
        self._folder = folder / FOLDER

    def save(self, state: TrainingState, model: Any, optimizer: Any = None) -> None:
        """Write a checkpoint; the one before stays until this one is complete.

        Args:
            state: where training stands.
            model: the classifier.
            optimizer: None at the start of a stage, which begins with a new one.

        Raises:
            DiskError: if it cannot be written, such as on a full disk; the one before is still good.
        """
        arrays = _arrays("model", model.variables) | _arrays("optimizer", optimizer.variables if optimizer else ())
        try:
            self._folder.mkdir(exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._folder))
            with (unfinished / _VARIABLES).open("wb") as file:
                np.savez(file, **arrays)
                os.fsync(file.fileno())
            with (unfinished / _STATE).open("w", encoding="utf-8") as text:
                json.dump(asdict(state), text)
                text.flush()
                os.fsync(text.fileno())
            if (self._run / BEST).exists():
                _link(self._run / BEST, unfinished / BEST)
            finished = max(self._numbers(), default=0) + 1
            unfinished.rename(self._folder / f"{finished:06}")
        except OSError as err:
            raise DiskError(f"the checkpoint cannot be written to {self._folder}: {err.strerror or err}") from err
        self._remove_all_but(finished)

    def load(self, model: Any) -> tuple[TrainingState, list[Any]] | None:
        """Restore the newest checkpoint into a classifier.

        Args:
            model: the classifier, built by the recipe that the checkpoint was made with.

        Returns:
            Where training stands, and the optimizer's variables (none at the start of a stage); None without a
            checkpoint.

        Raises:
            TrainingError: if the checkpoint is damaged or of another network.
        """
        numbers = self._numbers()
        if not numbers:
            return None
        folder = self._folder / f"{max(numbers):06}"
        try:
            state = _parse_state(json.loads((folder / _STATE).read_text(encoding="utf-8")))
            with (folder / _VARIABLES).open("rb") as file, np.load(file) as arrays:
                _assign(model.variables, _of("model", arrays))
                optimizer = _of("optimizer", arrays)
            if (folder / BEST).exists():
                _link(folder / BEST, self._run / BEST)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as err:
            raise TrainingError(f"the checkpoint in {folder} cannot be read: {err}. Start the run anew") from err
        return state, optimizer

    def remove(self) -> None:
        """Remove all checkpoints: the run has ended."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _numbers(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        return [int(path.name) for path in self._folder.iterdir() if path.name.isdigit()]

    def _remove_all_but(self, number: int) -> None:
        for path in self._folder.iterdir():
            if path.name != f"{number:06}":
                shutil.rmtree(path, ignore_errors=True)


def restore_optimizer(optimizer: Any, trainable: Sequence[Any], arrays: Sequence[Any]) -> None:
    """Give a new optimizer the state of a checkpoint; no arrays leave it new.

    Raises:
        TrainingError: if they are of another optimizer or network.
    """
    if not arrays:
        return
    optimizer.build(trainable)
    try:
        _assign(optimizer.variables, arrays)
    except ValueError as err:
        raise TrainingError(f"the checkpoint's optimizer does not fit: {err}. Start the run anew") from err


def save_best(model: Any, folder: Path) -> None:
    """Replace a run's best weights by the model's, atomically.

    Raises:
        DiskError: if they cannot be written; those before are still good.
    """
    with zipfile.ZipFile(_write_to_memory(model)) as archive, archive.open(_WEIGHTS) as weights:
        _replace(folder / BEST, weights)


def save_model(model: Any, target: Path) -> None:
    """Replace a `.keras` file by a model, atomically.

    Raises:
        DiskError: if it cannot be written; what was there before is as it was.
    """
    _replace(target, _write_to_memory(model))


class _KerasFile(io.BytesIO):
    """A `.keras` file in memory; Keras goes by the end of its name."""

    def __str__(self) -> str:
        return "memory.keras"


def _write_to_memory(model: Any) -> io.BytesIO:
    """Return a model's `.keras` file: HDF5 ends the process by a signal where it cannot write to a disk."""
    memory = _KerasFile()
    model.save(memory)
    memory.seek(0)
    return memory


def _replace(target: Path, content: IO[bytes]) -> None:
    unfinished = target.with_name(f"{_UNFINISHED}{target.name}")
    try:
        try:
            with unfinished.open("wb") as file:
                shutil.copyfileobj(content, file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as err:
        raise DiskError(f"{target} cannot be written: {err.strerror or err}") from err


def check_room(folder: Path, model: Any, trained: int) -> None:
    """Check that a run's disk has room for the checkpoints of a training.

    At the most there are three files of the best weights and two checkpoints, with two more numbers for each that is
    trained, of the optimizer.

    Args:
        folder: the run's; what is in it already will be replaced.
        model: the classifier.
        trained: bytes of the variables that train.

    Raises:
        DiskError: naming the room that is needed and that there is.
    """
    whole = sum(np.asarray(variable).nbytes for variable in model.variables)
    needed = _OTHER_FILES + 3 * whole + 2 * (whole + 2 * trained)
    try:
        there = sum(path.stat().st_size for path in [folder / BEST, *(folder / FOLDER).rglob("*")] if path.is_file())
        free = shutil.disk_usage(folder).free + there
    except OSError as err:
        raise DiskError(f"{folder} cannot be read: {err.strerror or err}") from err
    if free < needed:
        raise DiskError(
            f"{folder}: training needs {needed / 1e6:.1f} MB for checkpoints. Received: {free / 1e6:.1f} MB "
            "free; make room, or choose another --runs-dir"
        )


def _arrays(prefix: str, variables: Sequence[Any]) -> dict[str, Any]:
    return {f"{prefix}{i:05}": np.asarray(variable) for i, variable in enumerate(variables)}


def _of(prefix: str, arrays: Any) -> list[Any]:
    return [arrays[name] for name in sorted(arrays.files) if name.startswith(prefix)]


def _assign(variables: Sequence[Any], arrays: Sequence[Any]) -> None:
    if [tuple(v.shape) for v in variables] != [a.shape for a in arrays]:
        raise ValueError(f"expected {len(variables)} variables of the network's shapes. Received: {len(arrays)} arrays")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _link(source: Path, target: Path) -> None:
    """Make the same file appear at `target`: a link costs nothing, and files are replaced here, never written to."""
    beside = target.with_name(f"{_UNFINISHED}link-{target.name}")
    beside.unlink(missing_ok=True)
    try:
        beside.hardlink_to(source)
    except OSError:  # not every file system has links
        shutil.copyfile(source, beside)
    beside.replace(target)
    beside.unlink(missing_ok=True)  # replacing a file by a link to itself leaves both names


def _parse_state(document: dict[str, Any]) -> TrainingState:
    plateau = document["plateau"]
    return TrainingState(
        **{
            **document,
            "stopping": Patience(**document["stopping"]),
            "plateau": Plateau(Patience(**plateau["patience"]), plateau["scale"]),
        }
    )
