"""The page of all runs: sorted and compared in a browser, with hostile names as text, under its own policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect, sync_playwright

from contract.store import ModelStore
from pipeline.__main__ import main
from pipeline.report.runs.gather import gather_runs
from pipeline.report.runs.page import write_runs_page
from tests.helpers.browser import CHROMIUM

expect.set_options(timeout=60_000)
HOSTILE = "</script><img src=x onerror=alert(1)>"


def write_run(runs: Path, run: str, version: int, accuracy: float, **changes: Any) -> None:
    """Write what a run leaves."""
    folder = runs / "eyes" / run
    folder.mkdir(parents=True)
    document = {
        "name": "eyes",
        "created": f"2026-01-0{version}T00:00:00+00:00",
        "version": version,
        "gate": {"verdict": "passed"},
        "recipe": {"train": {"epochs": version}, "model": {"backbone": "LeNet"}},
        "test": {"images": 3, "accuracy": accuracy, "accuracy_interval": [accuracy - 0.1, accuracy + 0.1]},
        "training": {"curves": [{"loss": 1.0, "val_loss": 1.0 / epoch} for epoch in range(1, 4)]},
    }
    (folder / "metrics.json").write_text(json.dumps(document))
    (folder / "report.html").write_text("<h1>report</h1>")
    rows = [f'"{HOSTILE}.png",{HOSTILE},{changes["called"]}', "b.png,b,b", "c.png,c,c"]
    (folder / "predictions.csv").write_text("\n".join(["path,label,predicted", *rows]))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A store with versions 1 to 3, of which 3 was imported, and the runs of the others; one run was stopped."""
    store, runs = ModelStore(tmp_path / "models"), tmp_path / "runs"
    for _ in range(3):
        with store.staging() as directory:
            store.publish("eyes", directory)
    write_run(runs, "first", 1, 0.8, called="b")
    write_run(runs, "second", 2, 0.9, called=HOSTILE)
    (runs / "eyes" / "stopped").mkdir()
    (runs / "eyes" / "broken").mkdir()
    (runs / "eyes" / "broken" / "metrics.json").write_text("{")
    return tmp_path / "models", runs


def test_command_lists_runs_and_versions(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Those without a run as well; what cannot be read is left out."""
    models, runs = folders
    status = main(["runs", f"--models-dir={models}", f"--runs-dir={runs}"])
    entries = gather_runs(ModelStore(models), runs, runs / "runs.html")

    assert 0 == status
    assert f"3 runs and versions: {runs / 'runs.html'}" in capsys.readouterr().out
    found = [(entry["version"], entry["roles"], entry["report"]) for entry in entries]
    assert [
        (2, ["previous"], "eyes/second/report.html"),
        (1, [], "eyes/first/report.html"),
        (3, ["live"], None),
    ] == found


def test_empty_folders_give_a_page(tmp_path: Path) -> None:
    """Before the first run."""
    write_runs_page(tmp_path / "runs.html", [])

    assert "No runs and no versions." in (tmp_path / "runs.html").read_text()


def test_misspelt_folders_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No folder and no empty page is made for them."""
    assert 1 == main(["runs", f"--models-dir={tmp_path / 'model'}", f"--runs-dir={tmp_path / 'run'}"])
    assert "neither of which exists" in capsys.readouterr().err
    assert [] == list(tmp_path.iterdir())


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_runs_are_sorted_and_compared(folders: tuple[Path, Path]) -> None:
    """Metrics with intervals, recipe differences, curves, images that changed class; no name becomes markup."""
    models, runs = folders
    assert 0 == main(["runs", f"--models-dir={models}", f"--runs-dir={runs}"])
    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto((runs / "runs.html").as_uri())
        versions = page.locator("#runs tbody td:nth-child(3)")
        expect(versions).to_have_text(["2", "1", "3"])
        page.get_by_role("button", name="Version").click()
        expect(versions).to_have_text(["3", "2", "1"])
        page.get_by_role("button", name="Version").click()
        expect(versions).to_have_text(["1", "2", "3"])
        page.get_by_label("Compare eyes 1").check()
        expect(page.get_by_role("button", name="Compare")).to_be_disabled()
        page.get_by_label("Compare eyes 2").check()
        page.get_by_role("button", name="Compare").click()
        expect(page.locator("#metrics tbody tr")).to_contain_text(["0.8000 (0.700 to 0.900)"])
        expect(page.locator("#recipe tbody tr")).to_have_text(["train.epochs12"])
        expect(page.locator("#curves polyline")).to_have_count(4)
        expect(page.locator("#changed-note")).to_have_text("1 of 3 test images in common.")
        expect(page.locator("#changed tbody tr")).to_contain_text([f"{HOSTILE}.png"])
        expect(page.locator("#changed .wrong")).to_have_text(["b (wrong)"])
        assert 0 == page.locator("img").count()
        assert 390 == page.evaluate("document.documentElement.scrollWidth")
        browser.close()

    assert [] == faults
