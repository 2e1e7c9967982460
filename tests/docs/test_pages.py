"""docs/: every command and every piece of code on a page does what the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipeline.recipe.recipe import load_recipe
from service.gateway.telemetry.metrics import Metrics
from service.gateway.telemetry.model_gauges import StoreGauges, VersionGauges
from service.gateway.telemetry.server_info import ServerInfo
from service.gateway.telemetry.trial_metrics import TrialGauges, TrialMetrics
from tests.docs.blocks import DOCS, read_blocks
from tests.docs.conftest import NewReader, write_image_set
from tests.docs.reader import LANGUAGES, Reader
from tests.repository.project import PACKAGES, ROOT

ASKING = ["call.md", "embed.md", "explain.md", "watch.md"]  # of a service that runs
NOTEBOOKS = ["notebooks/first-steps.ipynb"]  # likewise
LECTURES = [f"notebooks/{name}.ipynb" for name in ("convolution", "first-network", "measures", "transfer-and-serve")]
STARTING = ["serve.md", "secure.md"]  # one, with a store that has the model
TRAINING = ["train.md", "versions.md", "offline.md", "lectures.md"]  # or whatever else loads TensorFlow many times
ALL = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.glob("*.md"))


@pytest.mark.parametrize("page", [*ASKING, *(pytest.param(page, marks=pytest.mark.slow) for page in NOTEBOOKS)])
def test_page_about_a_running_service(page: str, visitor: Reader) -> None:
    """Its blocks, one after the other, against one service for all of these pages."""
    visitor.follow([block for block in read_blocks(DOCS / page) if block.mark != "server"])


@pytest.mark.parametrize("page", STARTING)
def test_page_that_starts_a_service(page: str, new_reader: NewReader, models: Path) -> None:
    """Its blocks, one after the other, in a folder with a published model."""
    new_reader(models).follow(read_blocks(DOCS / page))


@pytest.mark.slow
@pytest.mark.parametrize("page", TRAINING)
def test_page_that_trains(page: str, new_reader: NewReader) -> None:
    """Its blocks, one after the other, in a folder with nothing but images."""
    reader = new_reader()
    write_image_set(reader.folder)
    reader.follow(read_blocks(DOCS / page))


@pytest.mark.slow
@pytest.mark.parametrize("page", LECTURES)
def test_notebook_of_the_lectures(page: str, new_reader: NewReader) -> None:
    """Its cells, one after the other, in an empty folder; what they claim they check themselves."""
    new_reader().follow(read_blocks(DOCS / page))


def test_every_notebook_is_followed() -> None:
    """No notebook is only text."""
    assert {*NOTEBOOKS, *LECTURES} == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.ipynb")}


def test_every_page_with_blocks_is_followed() -> None:
    """No page's commands are only text."""
    commands = {
        page: [block for block in read_blocks(DOCS / page) if block.language in LANGUAGES and not block.elsewhere]
        for page in ALL
    }

    assert {page for page, found in commands.items() if found} <= {*ASKING, *NOTEBOOKS, *STARTING, *TRAINING}


@pytest.mark.parametrize("page", ALL)
def test_links_lead_somewhere(page: str) -> None:
    """Files that a page links to exist, and so do the tests that it says run a block."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(((?!https?:)[^)#]+)[^)]*\)", text):
        assert (DOCS / link).exists(), f"{page} links to {link}"
    for block in read_blocks(DOCS / page):
        assert block.elsewhere is None or block.elsewhere.exists(), f"{block.where}: {block.mark}"


@pytest.mark.parametrize("page", ALL)
def test_blocks_are_of_known_languages(page: str) -> None:
    """A block in a language that no test runs would be skipped unseen."""
    known = {*LANGUAGES, "", "text", "json", "yaml"}
    assert [] == [block.where for block in read_blocks(DOCS / page) if block.language not in known]


def test_json_on_pages_is_json() -> None:
    """Even where nothing prints it."""
    for page in ALL:
        for block in read_blocks(DOCS / page):
            assert block.language != "json" or json.loads(block.text), block.where


def test_recipes_on_pages_are_recipes(tmp_path: Path) -> None:
    """Keys and values of YAML blocks are checked as those of a file that a user gives."""
    blocks = [
        block
        for page in ALL
        for block in read_blocks(DOCS / page)
        if block.language == "yaml" and block.elsewhere is None
    ]
    assert blocks
    for number, block in enumerate(blocks):
        path = tmp_path / f"recipe{number}.yaml"
        path.write_text(block.text)
        load_recipe(str(path), [])


def test_architecture_names_modules_that_exist() -> None:
    """A module that was renamed or deleted is not on the page any more."""
    named = set(re.findall(r"\b([a-z_]+\.py)\b", (DOCS / "architecture.md").read_text()))
    existing = {path.name for package in PACKAGES for path in (ROOT / package).rglob("*.py")}

    assert len(named) > 20
    assert set() == named - existing


def test_saved_images_are_those_of_compose() -> None:
    """offline.md carries over the images that compose starts."""
    found = re.search(r"^docker save (.+) \|", (DOCS / "offline.md").read_text(), re.M)
    assert found
    known = (ROOT / "docker-compose.yml").read_text() + (ROOT / ".env").read_text()
    assert all(re.search(rf"(image: |=|:-){re.escape(image)}\b", known) for image in found[1].split())


def test_notebook_has_no_outputs() -> None:
    """Pictures and counters of a user's last run do not belong into the history."""
    for path in DOCS.glob("notebooks/*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        assert all(cell.get("outputs", []) == [] and cell.get("execution_count") is None for cell in cells)


def test_table_of_metrics_is_the_gateways() -> None:
    """Every metric that the gateway has of its own, and none that it has not."""
    named = set(re.findall(r"`(fovea_\w+)`", (DOCS / "watch.md").read_text()))
    metrics = Metrics()
    metrics.show(VersionGauges(dict, dict))
    metrics.show(StoreGauges(DOCS))
    metrics.show(ServerInfo(tuple))
    TrialMetrics(metrics.registry)
    metrics.show(TrialGauges(dict))
    families = [family for family in metrics.registry.collect() if family.name.startswith("fovea_")]

    assert {f"{family.name}_total" if family.type == "counter" else family.name for family in families} == named
