"""The report of many classes, of a declared order, and of names in every script."""

import base64
import re
import warnings
import xml.dom.minidom
from pathlib import Path

import pytest

from pipeline.report.figures import draw_roc
from pipeline.report.report import write_report
from tests.pipeline.report.test_report import LABELS, document

SCRIPTS = {
    "chinese": "緑内障",
    "arabic": "سليم",
    "hindi": "ग्लूकोमा",
    "thai": "เชื้อรา",
    "korean": "녹내장",
    "emoji": "😀 ok",
    "greek": "γλαύκωμα",
    "markup": "<&>$x",
}


def place_of(html: str, heading: str) -> int:
    """Return where a section begins."""
    found = re.search(rf"<h2[^>]*>{re.escape(heading)}</h2>", html)
    assert found is not None, heading
    return found.start()


def rows_of(html: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading."""
    table = re.search(r"<table.*?</table>", html[place_of(html, heading) :], re.S)
    assert table is not None
    rows = re.findall(r"<tr>(.*?)</tr>", table[0], re.S)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.S) for row in rows]


def test_tables_of_many_classes_are_cut_with_a_count(tmp_path: Path) -> None:
    """Of 300 classes 50 are shown; the sums of the others are in their row, and the count is said."""
    labels = [f"species {i:03}" for i in range(300)]
    write_report(tmp_path / "report.html", document(labels) | {"recipe_yaml": ""})

    html = (tmp_path / "report.html").read_text()
    assert 53 == len(rows_of(html, "Classes"))  # with the header and two averages
    assert "And 250 more classes: metrics.json has all of them." in html
    images = rows_of(html, "Images")
    assert ["250 more classes", "25000", "25000", "25000"] == images[-2]
    assert ["all", "30000", "30000", "30000"] == images[-1]
    assert "species 299" not in html[place_of(html, "Images") :]
    assert "and 249 more" in html
    assert len(html) < 1_000_000


def test_the_declared_order_is_that_of_every_table_and_figure(tmp_path: Path) -> None:
    """normal, suspect, glaucoma, as evaluate.order says; the counts move with their classes."""
    facts = document(LABELS)
    facts["splits"] = {"train": {"glaucoma": 1, "normal": 2, "suspect": 3}}
    points = facts["operating_points"]
    facts["operating_points"] = [points[0], points[0] | {"label": "normal"}]
    facts["card"]["definitions"] = {"glaucoma": "g", "normal": "n", "suspect": "s"}
    write_report(tmp_path / "report.html", facts | {"recipe_yaml": ""})

    html = (tmp_path / "report.html").read_text()
    order = ["normal", "suspect", "glaucoma"]
    assert [*order, "macro average", "weighted average"] == [row[0] for row in rows_of(html, "Classes")[1:]]
    assert [["", "train"], ["normal", "2"], ["suspect", "3"], ["glaucoma", "1"], ["all", "6"]] == rows_of(
        html, "Images"
    )
    matrix = rows_of(html, "Confusion")
    assert order == matrix[0][1:] == [row[0] for row in matrix[1:]]
    old = facts["test"]["confusion"]
    expected = [[old[LABELS.index(i)][LABELS.index(j)] for j in order] for i in order]
    assert expected == [[int(cell.partition("<")[0]) for cell in row[1:]] for row in matrix[1:]]
    assert ["normal", "glaucoma"] == [row[0] for row in rows_of(html, "Operating points")[1:]]
    assert html.index("normal: n") < html.index("suspect: s") < html.index("glaucoma: g")
    roc = re.search(r'src="data:image/svg\+xml;base64,([^"]+)" alt="ROC', html)
    assert roc is not None
    svg = base64.b64decode(roc[1]).decode()
    assert svg.index(">normal ") < svg.index(">suspect ") < svg.index(">glaucoma ")


@pytest.mark.parametrize("name", SCRIPTS.values(), ids=SCRIPTS)
def test_names_in_any_script_are_text_in_the_drawings(name: str) -> None:
    """The drawing has the name itself, for the browser's fonts, without a warning and as valid XML."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        uri = draw_roc({name: {"roc": [[0, 0], [1, 1]]}}, {name: 0.5})

    svg = base64.b64decode(uri.partition(",")[2]).decode()
    texts = [node.firstChild.data for node in xml.dom.minidom.parseString(svg).getElementsByTagName("text")]
    assert any(text.startswith(name) for text in texts), texts
    assert "sans-serif" in svg


def test_names_that_xml_cannot_hold_are_escaped() -> None:
    """Control characters become their numbers; a long name in wide letters is cut to the legend's width."""
    names = ["a\nb\x0b", "字" * 40]
    uri = draw_roc({name: {"roc": [[0, 0], [1, 1]]} for name in names}, dict.fromkeys(names, 0.5))

    svg = base64.b64decode(uri.partition(",")[2]).decode()
    xml.dom.minidom.parseString(svg)
    assert r"a\x0ab\x0b" in svg
    assert "字" * 7 + "…" in svg
    assert "字" * 8 not in svg
