"""Summarises a network: blocks for a drawing, layers for a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.networks.network import Classifier
from pipeline.networks.splitting import calls_in

# Layers that are drawn in one box with the layer before them.
_JOINED = frozenset(
    {"Activation", "BatchNormalization", "Dropout", "LayerNormalization", "Normalization", "ReLU", "LeakyReLU"}
)
_SHORT = {"BatchNormalization": "BatchNorm", "GlobalAveragePooling2D": "GlobalAveragePooling"}
_PADDING = frozenset({"ZeroPadding2D", "Cropping2D", "Rescaling"})
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
        convolutions, parameters), head (type, units or shape, parameters), layers (name, type, shape, parameters) and
        graph (boxes of layers: title, types, shape, parameters; edges: pairs of places in boxes).
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
        "graph": _graph(model),
    }


def _describe_layer(layer: Any) -> dict[str, Any]:
    output = layer.output[0] if isinstance(layer.output, list) else layer.output
    return {
        "name": layer.name,
        "type": type(layer).__name__,
        "shape": [int(n) if n is not None else None for n in output.shape[1:]],
        "parameters": int(layer.count_params()),
    }


def _graph(model: Any) -> dict[str, Any]:
    """Return the operations of a model and how they are connected; short straight chains are one box."""
    calls = calls_in(model)
    producers = {id(tensor): i for i, call in enumerate(calls) for tensor in call.output_tensors}
    edges = [(producers[id(tensor)], i) for i, call in enumerate(calls) for tensor in call.input_tensors]
    after = Counter(start for start, _ in edges)
    before = {end: start for start, end in edges}
    single = {end for end, count in Counter(end for _, end in edges).items() if count == 1}
    places: list[int] = []  # the box of each call
    boxes: list[list[Any]] = []
    for i, call in enumerate(calls):
        kind = type(call.operation).__name__
        joins = i in single and after[before[i]] == 1
        if joins and (kind in _JOINED or _is_padding(boxes[places[before[i]]])):
            places.append(places[before[i]])
            boxes[places[i]].append(call.operation)
        else:
            places.append(len(boxes))
            boxes.append([call.operation])
    pairs = dict.fromkeys((places[a], places[b]) for a, b in edges if places[a] != places[b])
    return {"boxes": [_box(box) for box in boxes], "edges": [list(pair) for pair in pairs]}


def _is_padding(box: Sequence[Any]) -> bool:
    return all(type(operation).__name__ in _PADDING for operation in box)


def _box(operations: Sequence[Any]) -> dict[str, Any]:
    output = operations[-1].output
    output = output[0] if isinstance(output, list) else output
    main = next((op for op in operations if type(op).__name__ not in _PADDING), operations[0])
    return {
        "title": main.name,
        "types": [_spell_type(operation) for operation in operations],
        "shape": [int(n) if n is not None else None for n in output.shape[1:]],
        "parameters": sum(int(op.count_params()) for op in operations if hasattr(op, "count_params")),
    }


def _spell_type(operation: Any) -> str:
    """Return the kind of an operation with the settings that its drawing needs, such as "Conv2D 3 × 3, stride 2"."""
    kind = type(operation).__name__
    size = getattr(operation, "kernel_size", None) or getattr(operation, "pool_size", None)
    strides = getattr(operation, "strides", None)
    if not isinstance(size, tuple):
        activation = operation.activation.__name__ if kind == "Activation" else ""
        return f"{_SHORT.get(kind, kind)} {activation}".strip()
    text = f"{kind} {' × '.join(map(str, size))}"
    stride = max(strides) if isinstance(strides, tuple) else 1
    return text if stride == 1 or (stride,) * len(size) == size else f"{text}, stride {stride}"


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
