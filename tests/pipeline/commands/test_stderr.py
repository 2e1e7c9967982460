"""Every command that loads TensorFlow: its start leaves nothing on stderr, and errors come through."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from contract.store import ModelStore
from engine.runtimes.tensorflow_start import filtered_stderr
from tests.helpers.image_sets import color_files, write_files
from tests.helpers.server_process import ROOT, start_server

# oneDNN, absl before InitializeLog, CUDA, cuInit, "This TensorFlow binary is optimized", deprecations.
START = re.compile(r"oneDNN|absl|cuda|cuInit|TensorFlow binary|appropriate compiler|[Dd]eprecat|^[IWE]\d{4} ", re.M)
RUN = [
    *("--recipe=demo", "--set=model.backbone=MnistCNN", "--set=model.weights=none", "--set=model.input_size=28"),
    *("--set=train.epochs=1", "--set=train.fine_tune.epochs=0", "--set=train.freeze_backbone=false"),
]
PIPELINE = {
    "score": ["score", "colors", "set/test", "--out=scores.csv"],
    "evaluate": ["evaluate", "colors", "set"],
    "compare": ["compare", "colors/1", "colors/1", "--data=set"],
    "verify": ["verify", "colors"],
    "preview": ["preview", "set", "--out=preview.png", *(s for s in RUN if "train." not in s)],
    "import": ["import", "models/colors/1", "--name=other"],
    "imagenet": ["imagenet", "--backbone=MobileNetV2", "--name=net"],
    "weights": ["weights", "MobileNetV2"],
}
COMMANDS = {name: ["-m", "pipeline", *arguments] for name, arguments in PIPELINE.items()} | {
    "fovea": ["-m", "fovea", *PIPELINE["evaluate"]],
    "python-train": ["-c", "import fovea\ntry: fovea.train('set', name='a/b')\nexcept Exception as err: print(err)"],
    "python-load": [
        "-c",
        "from pathlib import Path\nfrom engine.loading import load_engine\n"
        "load_engine(Path('models/colors/1'), engine='tensorflow').close()",
    ],
}


QUICK = {"score", "fovea", "import", "python-load"}


def run_python(folder: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, as a shell does that sets nothing for TensorFlow."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    environment |= {"PYTHONPATH": str(ROOT), "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(name="work", scope="module")
def fixture_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set, and a store with a model that a run has published."""
    work = tmp_path_factory.mktemp("work")
    write_files(work / "set", color_files(train=4, test=2))
    done = run_python(work, ["-m", "pipeline", "run", "set", "--name=colors", *RUN])
    assert 0 == done.returncode, done.stderr
    assert START.search(done.stderr) is None, done.stderr
    return work


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in COMMANDS]
)
def test_the_start_of_tensorflow_is_silent(work: Path, name: str) -> None:
    """Nothing of it is on stderr; what the command itself has to say is."""
    done = run_python(work, COMMANDS[name])

    assert done.returncode in (0, 1, 2)
    assert START.search(done.stderr) is None, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    if done.returncode:
        assert done.stderr


def test_errors_of_an_import_come_through(capfd: pytest.CaptureFixture[str]) -> None:
    """Notes are dropped; errors, lines of others and a last line without an end are kept, in their order."""
    notes = "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\nI0000 00:00:1 a\n"
    with filtered_stderr():
        os.write(2, f"first\n{notes}E0000 00:00:17 b.cc] no memory\n".encode())
        os.write(2, b"E0000 00:00:17 c.cc] failed call to cuInit: UNKNOWN ERROR (303)\nF0000 00:00:17 last")
    os.write(2, b"\nafter")

    assert "first\nE0000 00:00:17 b.cc] no memory\nF0000 00:00:17 last\nafter" == capfd.readouterr().err


def test_the_last_words_of_a_crash_come_out(tmp_path: Path) -> None:
    """A process that aborts while it imports TensorFlow leaves its reason on stderr."""
    code = (
        "import os\nfrom engine.runtimes.tensorflow_start import filtered_stderr\n"
        "with filtered_stderr():\n    os.write(2, b'I0000 00:00:1 a note\\nF0000 00:00:1 no AVX')\n    os.abort()"
    )
    reader, writer = os.pipe()
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=writer) as process:
        os.close(writer)
        with os.fdopen(reader, "rb") as stderr:
            text = stderr.read()

    assert process.returncode < 0
    assert text.startswith(b"F0000 00:00:1 no AVX")


def test_a_server_of_tensorflow_starts_silently(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model server on TensorFlow listens, and its log has lines of its own only."""
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    flags = ["--engine=tensorflow", "--log-format=text"]
    server = start_server(ModelStore(work / "models"), work / "server.log", flags)
    server.stop()

    assert START.search(server.log.read_text()) is None, server.log.read_text()
