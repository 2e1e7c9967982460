"""Splits a classifier into a frozen and a trainable network that share its layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from pipeline.networks.network import Classifier

_FROZEN = "trunk"  # part of the hash by which the feature store finds features


@dataclass(frozen=True)
class SplitNetwork:
    """A classifier as two networks that share its layers.

    Attributes:
        frozen: from preprocessed images to features; does not train.
        trainable: from features to probabilities; training it trains the classifier.
    """

    frozen: Any
    trainable: Any


def split_before_head(classifier: Classifier) -> SplitNetwork:
    """Split a classifier where its backbone's features enter the head's first layer that trains or drops.

    That is after the pooling of a "gap" head, and before the Flatten of a "flatten-dense" one.
    """
    features = classifier.model.get_layer("pool").output if classifier.head == "gap" else classifier.feature_map
    return _split_at(classifier, features)


def split_before_training(classifier: Classifier, trainable: frozenset[str]) -> SplitNetwork | None:
    """Split a classifier at the last layer before the first trainable one that all paths through the network pass.

    In a residual network that is the end of a block: its shortcuts pass no other layer.

    Args:
        classifier: the network.
        trainable: names of the backbone layers that train.

    Returns:
        The two parts; None if nothing but the input lies before the first trainable layer.
    """
    # Layers, and additions written as +, in an order in which each comes after those that it takes from.
    operations = classifier.model.operations
    first = next(i for i, operation in enumerate(operations) if operation.name in trainable)
    calls = calls_in(classifier.model)
    producers = {id(tensor): i for i, call in enumerate(calls) for tensor in call.output_tensors}
    taken_at = [0] * len(operations)  # the last layer that takes from each
    for i, call in enumerate(calls[1:], start=1):
        for tensor in call.input_tensors:
            taken_at[producers[id(tensor)]] = i
    passed = (i for i in range(first - 1, 0, -1) if max(taken_at[:i]) <= i)
    last = next(passed, None)
    return None if last is None else _split_at(classifier, calls[last].output_tensors[0])


def split_between(first: SplitNetwork, second: SplitNetwork) -> SplitNetwork:
    """Return the second of two splits; its frozen network starts from the features of the first one's."""
    return SplitNetwork(keras.Model(first.frozen.output, second.frozen.output, name=_FROZEN), second.trainable)


def calls_in(model: Any) -> list[Any]:
    """Return the node of each operation's call in a model's graph.

    `layer.input` and `layer.output` are others where a layer is a network itself, as in ConvNeXt.
    """
    nodes = {id(node.operation): node for depth in model._nodes_by_depth.values() for node in depth}
    return [nodes[id(operation)] for operation in model.operations]


def _split_at(classifier: Classifier, features: Any) -> SplitNetwork:
    model = classifier.model
    frozen = keras.Model(model.input, features, name=_FROZEN)
    return SplitNetwork(frozen, keras.Model(features, model.output, name="trainable"))
