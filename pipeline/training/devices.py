"""The devices that a training runs on: one, or all of this machine, each with a share of every batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.errors import TrainingError

ONE, ALL = "one", "all"


def make_strategy(devices: str, batch_size: int) -> Any:
    """Return TensorFlow's strategy for all devices of this machine, GPUs if there are any; None for one device.

    Args:
        devices: "one" or "all".
        batch_size: images a step, over all devices.

    Raises:
        TrainingError: if `devices` is neither, there is one device alone, or the batch cannot be shared equally.
    """
    if devices == ONE:
        return None
    if devices != ALL:
        raise TrainingError(f"devices: expected {ONE} or {ALL}. Received: {devices}")
    import tensorflow as tf

    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(found) < 2:
        raise TrainingError(
            f"--devices all: expected two GPUs or more on this machine. Received: {len(found)} {found[0].device_type}; "
            "train without it"
        )
    if batch_size % len(found):
        raise TrainingError(
            f"--devices all: expected a train.batch_size that {len(found)} devices can share equally. "
            f"Received: {batch_size}"
        )
    return tf.distribute.MirroredStrategy([device.name for device in found])


@contextmanager
def scope_of(strategy: Any) -> Iterator[None]:
    """Make variables for all devices of a strategy; of None, as usual."""
    if strategy is None:
        yield
        return
    with strategy.scope():
        yield
