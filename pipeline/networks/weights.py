"""Pretrained weights: found, downloaded and checked; never silently replaced by something else."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import RecipeError, WeightsError
from pipeline.networks.backbone import Backbone
from pipeline.networks.imagenet_files import ImageNetFile
from pipeline.recipe.training_settings import Model


@dataclass(frozen=True, slots=True)
class Earlier:
    """A version in the store whose training is continued.

    Attributes:
        reference: NAME/VERSION, for messages.
        file: model.keras of its run.
        settings: the network that the file is of.
        labels: its label ids, in order.
        channels: of its input.
    """

    reference: str
    file: Path
    settings: Model
    labels: tuple[str, ...]
    channels: int


@dataclass(frozen=True, slots=True)
class Weights:
    """The source of a backbone's weights.

    Attributes:
        provenance: "imagenet", "none" or "sha256:<hex>" of a file, for the contract.
        file: what to load after the network is built; None for random weights.
        published: whether the file is Keras's own ImageNet file.
        earlier: the version that training starts from instead of a file of the backbone.
    """

    provenance: str
    file: Path | None
    published: bool = False
    earlier: Earlier | None = None


_OTHERWISE = (
    "give a file with --set model.weights=FILE, or train from scratch with --set model.weights=none "
    "--set train.freeze_backbone=false"
)


def find_weights(backbone: Backbone, choice: str) -> Weights:
    """Find the weights that a recipe asks for, downloading ImageNet's if they are not in Keras's cache.

    Args:
        backbone: the network.
        choice: "imagenet", "none" or the path of a weights file.

    Raises:
        WeightsError: if they cannot be reached; the message says what to put where.
    """
    if choice == "none":
        return Weights("none", None)
    if choice == "imagenet":
        return Weights("imagenet", imagenet_file(backbone), published=True)
    path = Path(choice)
    with suppress(RuntimeError):  # no such user
        path = path.expanduser()  # shells leave the ~ of `--set model.weights=~/...` as it is
    if not path.is_file():
        raise WeightsError(
            "model.weights: expected imagenet, none, NAME/VERSION of a model in the store, or a file. "
            f"Received: {choice!r}, which is no file"
        )
    return weights_of_file(path, backbone.weights)


def weights_of_file(path: Path, known: ImageNetFile | None) -> Weights:
    """Return a file as weights.

    Args:
        path: exists.
        known: what Keras publishes for the network; the file may be that one.
    """
    return Weights("sha256:" + _digest(path, "sha256"), path, published=known is not None and _is_intact(path, known))


def load_weights(network: Any, weights: Weights, backbone: Backbone) -> None:
    """Load a weights file into a Keras network.

    Raises:
        WeightsError: if the file does not fit the network.
    """
    if weights.file is None:
        return
    try:
        with warnings.catch_warnings():
            # Keras only warns of layers that the file knows nothing of, and leaves them random.
            warnings.simplefilter("error", UserWarning)
            network.load_weights(weights.file)
    except (ValueError, OSError, KeyError, UserWarning) as err:
        reason = str(err).strip().splitlines()[0]
        raise WeightsError(f"{weights.file.name} does not fit {network.name}: {reason}") from err
    if weights.published and backbone.adapt is not None:
        backbone.adapt(network)


def imagenet_file(backbone: Backbone) -> Path:
    """Return the file of a backbone's ImageNet weights, from Keras's cache or downloaded, its checksum checked.

    Keras has no checksum for MobileNet 1 and 2: their files are only checked to fit the network.

    Raises:
        WeightsError: if it cannot be downloaded or has another checksum.
        RecipeError: if there are no ImageNet weights for this backbone.
    """
    if backbone.weights is None:
        raise RecipeError(
            f"model.weights: imagenet is not offered for {backbone.name}, which is trained from scratch: set "
            "model.weights=none and train.freeze_backbone=false, or give a weights file"
        )
    return fetch_published(backbone.weights, f"the ImageNet weights of {backbone.name}", _OTHERWISE)


def fetch_published(file: ImageNetFile, what: str, otherwise: str) -> Path:
    """Return a file that Keras publishes, from its cache or downloaded, its checksum checked.

    Args:
        file: which one.
        what: its name in the error.
        otherwise: the way to go on without it, for the error.

    Raises:
        WeightsError: if it cannot be downloaded or has another checksum.
    """
    cached = cache_folder() / file.name
    if cached.exists():
        _check_intact(cached, file, what, otherwise)
        return cached
    import keras

    made = [folder for folder in (cached.parent, cached.parent.parent) if not folder.exists()]
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        # Aside: Keras deletes what a download did not finish, and a file of another checksum that has this name.
        with tempfile.TemporaryDirectory(prefix=".fovea-", dir=cached.parent) as folder:
            aside = keras.utils.get_file(
                file.name,
                file.url,
                cache_dir=folder,
                cache_subdir="",
                file_hash=file.checksum,
                hash_algorithm=file.algorithm,
            )
            _put(Path(aside), cached)
    except Exception as err:
        with suppress(OSError):  # not empty any more
            for empty in made:
                empty.rmdir()
        raise WeightsError(_how_to_get(what, file, cached, err) + otherwise) from err
    _check_intact(cached, file, what, otherwise)
    return cached


def _put(source: Path, target: Path) -> None:
    """Give a file its name, unless another command has done so meanwhile."""
    try:
        target.hardlink_to(source)
    except FileExistsError:
        return
    except OSError:  # not every file system has links
        source.rename(target)


def _check_intact(cached: Path, file: ImageNetFile, what: str, otherwise: str) -> None:
    """Refuse a file in the cache that is not the published one; it stays where it is.

    Raises:
        WeightsError: with both checksums.
    """
    try:
        received = _digest(cached, file.algorithm)
    except OSError as err:
        raise WeightsError(f"{what}: {cached} cannot be read: {err.strerror or err}") from err
    if file.checksum not in (None, received):
        raise WeightsError(
            f"{what}: {cached} is another file: expected {file.algorithm} {file.checksum}. Received: {received}. "
            f"It is left as it is: move it away, and the published one is fetched from {file.url}, or {otherwise}"
        )


def cache_folder() -> Path:
    """Return the folder where Keras keeps weights: $KERAS_HOME/models or ~/.keras/models."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def _is_intact(path: Path, file: ImageNetFile) -> bool:
    return path.name == file.name if file.checksum is None else _digest(path, file.algorithm) == file.checksum


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _how_to_get(what: str, file: ImageNetFile, cached: Path, err: Exception) -> str:
    checksum = f"{file.algorithm} {file.checksum}" if file.checksum else "Keras publishes no checksum of it"
    return (
        f"{what} cannot be downloaded ({str(err).strip().splitlines()[-1][:200]}). "
        f"Expected the file {file.name} ({checksum}) in {cached.parent}: fetch it on a machine with a "
        f"network from {file.url} and put it there, or "
    )
