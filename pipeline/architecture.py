"""What the network is made of: blocks for a drawing, layers for a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.network import Classifier


@dataclass
class _Block:
    """Consecutive layers of the backbone whose maps have one size."""

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
    blocks: list[_Block] = []
    for layer in layers:
        if len(layer["shape"]) != 3 or layer["type"] == "InputLayer":
            continue
        size = (layer["shape"][0], layer["shape"][1])
        # A padding layer makes a map of its own size for one step: it belongs to what follows it.
        if not blocks or (blocks[-1].size != size and layer["type"] != "ZeroPadding2D"):
            blocks.append(_Block(size))
        block = blocks[-1]
        block.channels = max(block.channels, layer["shape"][2])
        block.layers += 1
        block.convolutions += "Conv" in layer["type"]
        block.parameters += layer["parameters"]
    return [
        {
            "size": list(block.size),
            "channels": block.channels,
            "layers": block.layers,
            "convolutions": block.convolutions,
            "parameters": block.parameters,
        }
        for block in _merged(blocks)
    ]


def _merged(blocks: list[_Block]) -> list[_Block]:
    """Join blocks of one size that interleave: the branches of a residual or inception block are one block."""
    merged: list[_Block] = []
    for block in blocks:
        same = next((known for known in merged if known.size == block.size), None)
        if same is None:
            merged.append(block)
            continue
        same.channels = max(same.channels, block.channels)
        same.layers += block.layers
        same.convolutions += block.convolutions
        same.parameters += block.parameters
    return merged
