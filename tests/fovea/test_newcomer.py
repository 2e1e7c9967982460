"""A newcomer with an installed wheel, in a folder of their own: train, serve, predict, and a mistake at each step."""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tests.fovea.conftest import Installed

pytestmark = pytest.mark.slow

CLASSES = ("circles", "squares", "triangles")
SETTINGS = ["--set=model.backbone=MnistCNN", "--set=model.input_size=32", "--set=train.epochs=12"]
MEDICAL = re.compile(r"patient|medical|diagnos|device", re.IGNORECASE)

PYTHON = """
import json, sys
import fovea

url, picture = sys.argv[1:]
training = fovea.train("shapes", recipe="demo", settings=json.loads(sys.stdin.read()))
with training.load() as model, fovea.Client(url) as client:
    here = model.predict(picture)
    client.wait_until_ready()
    there = client.predict(picture, version=1)
print(json.dumps({
    "training": [training.name, training.version, repr(training), training._repr_html_()],
    "report": training.report.is_file(),
    "here": [here.version, here.predictions[0].top[0].label, len(here._repr_html_())],
    "there": [there.version, there.predictions[0].top[0].label],
}))
"""


def draw(path: Path, kind: str, seed: int) -> None:
    """Draw one shape in dark on light, somewhere."""
    rng = random.Random(f"{kind}{seed}")
    picture = Image.new("RGB", (64, 64), tuple(rng.randint(190, 255) for _ in range(3)))
    x, y, size = rng.randint(4, 20), rng.randint(4, 20), rng.randint(26, 36)
    color = tuple(rng.randint(0, 90) for _ in range(3))
    pen = ImageDraw.Draw(picture)
    if kind == "circles":
        pen.ellipse((x, y, x + size, y + size), fill=color)
    elif kind == "squares":
        pen.rectangle((x, y, x + size, y + size), fill=color)
    else:
        pen.polygon([(x, y + size), (x + size, y + size), (x + size // 2, y)], fill=color)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of drawings with names of no pattern, and things that must not be taken for Fovea's packages."""
    folder = tmp_path_factory.mktemp("newcomer")
    for kind in CLASSES:
        for seed in range(30):
            draw(folder / "shapes" / kind / f"drawing {seed}.png", kind, seed)
    draw(folder / "drawing.png", "squares", 1000)
    for name in ("service", "engine"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    return folder


@pytest.fixture(name="fovea", scope="module")
def fixture_fovea(installed: Installed, folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs the installed command in the newcomer's folder."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return installed.run("fovea", *arguments, cwd=folder)

    return run


@pytest.fixture(name="trained", scope="module")
def fixture_trained(fovea: Callable[..., subprocess.CompletedProcess[str]]) -> str:
    """The output of the first training, on both streams."""
    done = fovea("train", "shapes", "--recipe", "demo", *SETTINGS)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@contextmanager
def serving(installed: Installed, folder: Path, *flags: str) -> Iterator[str]:
    """Run `fovea serve` and give its address once it is ready."""
    log = folder / "serve.log"
    with log.open("wb") as out:
        command = [str(installed.bin / "fovea"), "serve", "--port=0", *flags]
        server = subprocess.Popen(command, cwd=folder, env=installed.environment, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 300
        while (found := re.search(r"Fovea is ready: (http://\S+) ", log.read_text())) is None:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield found[1]
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            assert server.wait(90) == 0, log.read_text()
        finally:
            server.kill()


def test_any_folder_trains_with_the_recipe_that_the_pages_offer_first(trained: str, folder: Path) -> None:
    """No rule for names is asked for; the version is live, and its numbers are of the newcomer's classes."""
    assert "live: shapes/1" in trained
    contract = json.loads((folder / "models/shapes/1/assets.extra/contract.json").read_text())
    assert list(CLASSES) == [label["id"] for label in contract["labels"]]
    assert float(re.findall(r"test accuracy: ([0-9.]+)", trained)[0]) > 0.5


def test_nothing_speaks_of_patients_where_shapes_are_classified(trained: str, folder: Path) -> None:
    """The command's output, both reports, the audit, the card."""
    assert not MEDICAL.search(trained.replace("cudart", ""))
    pages = [*folder.glob("runs/shapes/*/*.html"), *folder.glob("models/shapes/1/assets.extra/*.html")]
    assert len(pages) >= 4
    for page in pages:
        text = re.sub(r"<style>.*?</style>|<[^>]*>", "", page.read_text(), flags=re.S)
        text = re.sub(r"medical: false", "", text)  # the recipe itself
        assert not MEDICAL.search(text), page.name


def test_a_trained_model_is_listed_reported_scored_and_verified(
    trained: str, fovea: Callable[..., subprocess.CompletedProcess[str]], folder: Path
) -> None:
    """The commands around it, on the store and the runs that the first one made."""
    assert "shapes/1" in fovea("models").stdout
    report = fovea("report").stdout.strip()
    assert (folder / report).read_text().startswith("<!doctype html>")
    assert report == re.findall(r"^report: (.+)$", trained, re.M)[0]
    assert 0 == fovea("score", "shapes", "shapes/squares", "--out", "scores.csv").returncode
    assert 31 == len((folder / "scores.csv").read_text().splitlines())
    assert 0 == fovea("verify", "shapes").returncode


@pytest.mark.usefixtures("trained")
def test_serve_predict_and_python_agree(
    installed: Installed, folder: Path, fovea: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """One service; its answers by the command, and by Python beside a version that Python trains."""
    with serving(installed, folder) as url:
        done = fovea("predict", "drawing.png", "--url", url, "--json")
        assert done.returncode == 0, done.stderr
        (prediction,) = json.loads(done.stdout)["predictions"]
        settings = {"model.backbone": "MnistCNN", "model.input_size": 32, "train.epochs": 2}
        python = subprocess.run(
            [str(installed.bin / "python"), "-P", "-c", PYTHON, url, "drawing.png"],
            input=json.dumps(settings),
            cwd=folder,
            env=installed.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert python.returncode == 0, python.stderr
        found = json.loads(python.stdout.splitlines()[-1])

    assert found["there"] == [1, prediction["top"][0]["label"]]
    assert found["training"][:2] == ["shapes", 2] and found["report"]
    assert found["here"][0] == 2 and found["here"][1] in CLASSES
    assert "shapes version 2" in found["training"][3]


@pytest.mark.usefixtures("trained")
def test_a_taken_port_is_answered_with_the_next_step(fovea: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """By `serve` and by the gateway alone."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for command in (["serve"], ["gateway", "--models-dir=models"]):
            done = fovea(*command, "--port", port)
            assert done.returncode == 1
            last = done.stderr.splitlines()[-1]
            assert last.startswith(f"{command[0]}: cannot listen on 127.0.0.1:{port}: Address already in use; ")
            assert "choose another with --port" in last


def test_an_example_of_the_sample_draws_it(
    installed: Installed, fovea: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """`fovea sample` as its help has it, somewhere else."""
    out = tmp_path / "glaucoma-sample"
    assert 0 == fovea("sample", "glaucoma", "--out", str(out)).returncode
    assert len(list(out.rglob("*.jpg"))) > 100
