"""The drawing of a network: every layer in one box, every connection an arrow downwards, as SVG and PNG."""

import io
import xml.dom.minidom
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.networks.network import build_classifier
from pipeline.networks.weights import Weights
from pipeline.recipe.recipe import Model
from pipeline.report.architecture import describe_network
from pipeline.report.network_drawing import draw_network, lay_out


def graph_of(backbone: str) -> dict:
    model = Model(backbone=backbone, weights="none", input_size=32)
    classifier = build_classifier(model, Weights("none", None), num_classes=3, channels=3)
    described = describe_network(classifier)
    return described["graph"] | {"layers": described["layers"], "parameters": described["parameters"]}


@pytest.mark.parametrize("backbone", ["MnistCNN", "ResNet", "GoogLeNet", "MobileNetV3Small", "ConvNeXtTiny"])
def test_graph_has_every_layer_once(backbone: str) -> None:
    """Parameters add up, and all boxes but the image's and the last have ways in and out."""
    graph = graph_of(backbone)
    boxes, edges = graph["boxes"], graph["edges"]

    assert graph["parameters"] == sum(box["parameters"] for box in boxes)
    assert len(graph["layers"]) <= sum(len(box["types"]) for box in boxes)
    starts, ends = Counter(a for a, _ in edges), Counter(b for _, b in edges)
    assert [i for i in range(len(boxes)) if not ends[i]] == [0]
    assert [i for i in range(len(boxes)) if not starts[i]] == [len(boxes) - 1]


def test_branches_of_an_inception_module() -> None:
    """Four ways lead from the pool into each of the nine modules' concatenations."""
    graph = graph_of("GoogLeNet")
    into = Counter(end for _, end in graph["edges"])

    concatenations = [i for i, box in enumerate(graph["boxes"]) if box["types"] == ["Concatenate"]]
    assert [4] * 9 == [into[i] for i in concatenations]


def test_files_are_svg_with_text_and_a_png_of_the_same_shape() -> None:
    """Names, kinds, shapes and numbers of parameters are words in the drawing."""
    graph = graph_of("ResNet")
    drawing = draw_network(graph)

    svg = xml.dom.minidom.parseString(drawing.svg)
    words = " ".join(
        node.data
        for text in svg.getElementsByTagName("text")
        for node in [*text.childNodes, *(child for inner in text.childNodes for child in inner.childNodes)]
        if node.nodeType == node.TEXT_NODE
    )
    for box in graph["boxes"]:
        assert box["title"] in words
        if box["parameters"]:
            assert f"{box['parameters']:,} parameters" in words
    assert "Conv2D 1 × 1, stride 2 + BatchNorm" in words
    size = [float(svg.documentElement.getAttribute(side).removesuffix("pt")) for side in ("width", "height")]
    picture = Image.open(io.BytesIO(drawing.png))
    assert picture.width / picture.height == pytest.approx(size[0] / size[1], rel=0.01)


@settings(max_examples=60)
@given(
    st.integers(1, 14).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))))
    )
)
def test_arrows_point_down_and_boxes_do_not_meet(drawn: tuple[int, set[tuple[int, int]]]) -> None:
    """In any graph: each box has a place of its own, and each edge goes down, row by row."""
    count, pairs = drawn
    edges = [(a, b) for a, b in sorted(pairs) if a < b]

    places = lay_out(count, edges)

    assert set(range(count)) <= places.keys()
    assert len(set(places.values())) == len(places)
    assert all(places[a][1] < places[b][1] for a, b in edges)
    for a, b in edges:
        passed = sorted(place[1] for node, place in places.items() if isinstance(node, tuple) and node[:2] == (a, b))
        assert list(range(int(places[a][1]) + 1, int(places[b][1]))) == passed
