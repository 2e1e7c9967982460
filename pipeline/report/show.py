"""Draws what a published network does with one image, as one self-contained HTML page."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from numpy.typing import NDArray

from contract.errors import ImageError
from contract.files.regular import read_regular
from contract.heatmap import draw_heatmap
from contract.image import decode_image
from contract.model import ModelContract
from contract.novelty import WARNING
from contract.predictions import decide, decode_predictions
from contract.store import ModelStore
from engine.network_file import has_network_file
from pipeline.errors import PipelineError
from pipeline.report.layers import Prepared, ServedLayers
from pipeline.report.thumbnails import PICTURE_PIXELS, filter_pictures, jpeg_uri, png_uri, stretch, varied_channels

_DEFAULT_LAYERS = 4
_MAPS = 32  # channels of a layer
_FILTERS = 64
_COLUMNS = 32  # of a vector's drawing
_NAMED = 60  # layers in a message


@dataclass(frozen=True)
class LayerMaps:
    """A layer's output for the image.

    Attributes:
        layer: its name.
        shape: of the output, without the batch.
        pictures: a feature map's channels that vary most; of other outputs, one drawing of all the numbers.
    """

    layer: str
    shape: tuple[int, ...]
    pictures: list[str]

    @property
    def is_map(self) -> bool:
        """Whether it is a feature map, not a vector."""
        return len(self.shape) == 3


def show_image(
    store: ModelStore, reference: str, image: Path, out: Path, *, layers: Sequence[str] = (), top: int = 5
) -> list[str]:
    """Write the page of one image and one version; return the layers that it shows.

    Args:
        store: has the version.
        reference: NAME or NAME/VERSION.
        image: a file that the service would take.
        out: the HTML file; replaced if it exists.
        layers: whose feature maps are drawn; by default a few from the first to the last.
        top: classes, best first.

    Raises:
        StoreError: if there is no such version.
        PipelineError: if the image cannot be decoded, or the network has no such layer.
    """
    name, version = store.resolve(reference)
    contract = store.read_contract(name, version)
    directory = store.version_path(name, version)
    if has_network_file(directory):
        raise PipelineError(
            f"{name}/{version} came from an ONNX file: expected a version with a SavedModel, whose layers can be drawn"
        )
    try:
        pixels = decode_image(read_regular(image), contract.input)
    except ImageError as err:
        raise PipelineError(f"{image.name}: {err}") from err
    network = ServedLayers(directory)
    chosen = choose_layers(network, layers)
    html = _render(
        title=f"{image.name}: {name}/{version}",
        image=image.name,
        model=f"{name}/{version}",
        contract=contract,
        picture=jpeg_uri(_enlarge(pixels)),
        prepared=_describe_prepared(network.prepare(pixels)),
        filters=_filters(network),
        layers=_draw_layers(network, pixels, chosen),
        all_layers=network.names,
        overlay=_overlay(network, pixels),
        unlike=contract.novelty is not None and bool(contract.novelty.find_unlike(pixels[None])[0]),
        warning=WARNING,
        **_classify(network, contract, pixels, top),
    )
    out.write_text(html, encoding="utf-8")
    return chosen


def choose_layers(network: ServedLayers, wanted: Sequence[str]) -> list[str]:
    """Return the layers to draw: those that are wanted, or a few from the first to the last that gives maps.

    Raises:
        PipelineError: if there is no such layer, with the nearest name and the layers that there are.
    """
    known = network.names
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
            listed = ", ".join(known[:_NAMED]) + more if known else "none: no layer of this network can be drawn"
            raise PipelineError(f"--layers: expected layers of {listed}. Received: {name!r}{hint}")
    if wanted:
        return list(dict.fromkeys(wanted))
    spread = network.maps or known
    places = np.linspace(0, len(spread) - 1, min(_DEFAULT_LAYERS, len(spread))).round().astype(int)
    return [spread[i] for i in dict.fromkeys(places.tolist())]


def _classify(network: ServedLayers, contract: ModelContract, pixels: NDArray[np.uint8], top: int) -> dict[str, Any]:
    probabilities = network.probabilities(pixels[None])
    return {
        "classes": decode_predictions(probabilities, contract.labels, top)[0],
        "num_classes": len(contract.labels),
        "decisions": decide(probabilities[0], contract),
    }


def _describe_prepared(prepared: Prepared | None) -> list[dict[str, Any]]:
    """Return each channel of the network's input: its lowest, mean and highest value, and a drawing."""
    if prepared is None:
        return []
    values = prepared.values
    return [
        {
            "low": float(channel.min()),
            "mean": float(channel.mean()),
            "high": float(channel.max()),
            "picture": png_uri(stretch(channel)),
        }
        for channel in np.moveaxis(values, -1, 0)
    ]


def _filters(network: ServedLayers) -> dict[str, Any] | None:
    found = network.filters()
    if found is None:
        return None
    return {
        "layer": found.layer,
        "shape": found.kernel.shape,
        "pictures": filter_pictures(found.kernel, _FILTERS),
    }


def _draw_layers(network: ServedLayers, pixels: NDArray[np.uint8], chosen: Sequence[str]) -> list[LayerMaps]:
    drawn = []
    for name, values in network.compute(pixels[None], chosen).items():
        output = values[0]
        if output.ndim == 3:
            pictures = [png_uri(stretch(output[..., i])) for i in varied_channels(output, _MAPS)]
        else:
            pictures = [png_uri(_draw_vector(output.ravel()))]
        drawn.append(LayerMaps(name, output.shape, pictures))
    return drawn


def _draw_vector(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the numbers of a vector as places of a picture, row by row; the last row is filled up with black."""
    columns = min(_COLUMNS, len(values))
    rows = -(-len(values) // columns)
    picture = np.zeros(rows * columns, np.uint8)
    picture[: len(values)] = stretch(values)
    return picture.reshape(rows, columns)


def _overlay(network: ServedLayers, pixels: NDArray[np.uint8]) -> str | None:
    saliency = network.saliency(pixels[None])
    return None if saliency is None else jpeg_uri(draw_heatmap(pixels, saliency[0], scale=_scale(pixels)))


def _enlarge(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return small pixels several times larger, without smoothing: what the network gets, place by place."""
    scale = _scale(pixels)
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def _scale(pixels: NDArray[np.uint8]) -> int:
    return max(1, PICTURE_PIXELS // max(pixels.shape[:2]))


def _render(**values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("show.html.j2").render(values)
