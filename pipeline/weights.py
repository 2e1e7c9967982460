"""Pretrained weights: found, downloaded and checked; never silently replaced by something else."""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.backbones import Backbone, find_backbone
from pipeline.errors import RecipeError, WeightsError

RESNET_URL = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
RESNET50_FILE = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
RESNET50_MD5 = "4d473c1dd8becc155b73f8504c6f6626"


@dataclass(frozen=True, slots=True)
class Weights:
    """Where a backbone's weights come from.

    Attributes:
        provenance: "imagenet", "none" or "sha256:<hex>" of a file, for the contract.
        file: what to load after the network is built; None for random weights.
    """

    provenance: str
    file: Path | None


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
        return Weights("imagenet", imagenet_file(backbone.name))
    path = Path(choice)
    if not path.is_file():
        raise WeightsError(f"model.weights: expected imagenet, none or a file. Received: {choice!r}, which is no file")
    return Weights("sha256:" + hashlib.sha256(path.read_bytes()).hexdigest(), path)


def load_weights(network: Any, weights: Weights) -> None:
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


def imagenet_file(name: str) -> Path:
    """Return the file of a backbone's ImageNet weights, from Keras's cache or downloaded, its md5 checked.

    Raises:
        WeightsError: if it cannot be downloaded or has another md5.
        RecipeError: if there are no ImageNet weights for this backbone here.
    """
    if find_backbone(name).name != "ResNet50":
        raise RecipeError(f"model.weights: imagenet is offered for ResNet50 so far; for {name} give a weights file")
    cached = cache_folder() / RESNET50_FILE
    if cached.is_file() and _md5(cached) == RESNET50_MD5:
        return cached
    import keras

    try:
        keras.utils.get_file(
            RESNET50_FILE,
            RESNET_URL + RESNET50_FILE,
            cache_dir=cached.parent.parent,
            cache_subdir=cached.parent.name,
            file_hash=RESNET50_MD5,
        )
    except Exception as err:
        raise WeightsError(_how_to_get(cached, err)) from err
    return cached


def cache_folder() -> Path:
    """Return the folder where Keras keeps weights: $KERAS_HOME/models or ~/.keras/models."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _how_to_get(cached: Path, err: Exception) -> str:
    return (
        f"the ImageNet weights of ResNet50 cannot be downloaded ({str(err).strip().splitlines()[-1][:200]}). "
        f"Expected the file {RESNET50_FILE} (md5 {RESNET50_MD5}) in {cached.parent}: fetch it on a machine with a "
        f"network from {RESNET_URL}{RESNET50_FILE} and put it there, or give "
        "a file with --set model.weights=FILE, or train "
        "from scratch with --set model.weights=none --set train.freeze_backbone=false"
    )
