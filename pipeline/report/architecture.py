"""Summarises a network: blocks for a drawing, layers for a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.networks.network import Classifier

_NO_BLOCK = frozenset({"InputLayer", "ZeroPadding2D", "Cropping2D"})


@dataclass
class _Block:
    """Layers of the backbone whose maps have one size, and what hangs on the side of them; channels of the last."""

    size: tuple[int, int]
    channels: int = 0
    layers: int = 0
    convolutions: int = 0
    parameters: int = 0


def describe_network(classifier: Classifier) -> dict[str, Any]:
    """Return what metrics.json and the report say of a network.

    Returns:
        parameters, input (height, width, channels), blocks (the backbone by map size: size, channels, layers,
        convolutions, parameters), head (type, units or shape, parameters) and layers (name, type, shape, parameters).
    """
    model = classifier.model
    backbone = {layer.name for layer in classifier.backbone_layers}
    layers = [_describe_layer(layer) for layer in model.layers]
    return {
        "parameters": int(model.count_params()),
        "input": list(model.input.shape[1:]),
        "blocks": _blocks([layer for layer in layers if layer["name"] in backbone]),
        "head": [layer for layer in layers if layer["name"] not in backbone],
        "layers": layers,
    }


def _describe_layer(layer: Any) -> dict[str, Any]:
    output = layer.output[0] if isinstance(layer.output, list) else layer.output
    return {
        "name": layer.name,
        "type": type(layer).__name__,
        "shape": [int(n) if n is not None else None for n in output.shape[1:]],
        "parameters": int(layer.count_params()),
    }


def _blocks(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Group layers by the size of their maps, from the image to the last feature map."""
    # Padding and cropping make maps of their own size for one step.
    maps = [layer for layer in layers if len(layer["shape"]) == 3 and layer["type"] not in _NO_BLOCK]
    blocks: list[_Block] = []
    for i, layer in enumerate(maps):
        size = (layer["shape"][0], layer["shape"][1])
        # Squeeze-and-excitation shrinks maps on the side, while the main path goes on at their old size.
        on_the_side = bool(blocks) and any(_area(size) < _area(other["shape"]) for other in maps[i:])
        if not on_the_side and all(block.size != size for block in blocks):
            blocks.append(_Block(size))
        known = next((block for block in blocks if block.size == size), blocks[-1])
        if known.size == size:
            known.channels = layer["shape"][2]
        known.layers += 1
        known.convolutions += "Conv" in layer["type"]
        known.parameters += layer["parameters"]
    return [
        {
            "size": list(block.size),
            "channels": block.channels,
            "layers": block.layers,
            "convolutions": block.convolutions,
            "parameters": block.parameters,
        }
        for block in blocks
    ]


def _area(size: Sequence[int]) -> int:
    return size[0] * size[1]
