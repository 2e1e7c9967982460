"""Random command lines on random files: exit status 0, 1 or 2, one closing line, no traceback, no hang."""

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType

import pytest

from contract.store import ModelStore
from pipeline.__main__ import main
from tests.helpers.random_worlds import World
from tests.helpers.server_process import ROOT
from tests.helpers.tiny_model import publish_variant

LIMIT_S = 300  # for what hangs
_ERRORS = ("strict", "backslashreplace")  # of stdout and stderr, as a UTF-8 console has them


@pytest.fixture(name="store", scope="module")
def fixture_store(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]) -> Path:
    """A store with two versions of a real model."""
    store = ModelStore(tmp_path_factory.mktemp("store") / "models")
    for name in ("plain", "permuted"):
        publish_variant(store, tiny_models[name], live=name == "plain")
    return store.root


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise where the main thread is if what is inside takes longer."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check_ending(status: int, output: str, error: str) -> None:
    """Check the exit status and that the reason of a failure is the last line."""
    assert status in (0, 1, 2)
    assert "Traceback" not in output + error
    lines = error.strip().splitlines()
    closing = [line for line in lines if line.startswith("error: ")]
    if status == 0:
        assert [] == closing
    elif status == 1:
        assert 1 == len(closing), error
        assert closing[0] == lines[-1], error
    else:
        assert re.match(r"python -m pipeline.*: error: |fovea[ a-z]*: ", lines[-1]), error


def run_seed(seed: int, folder: Path, store: Path) -> None:
    world = World(folder, seed, store)
    arguments = world.command()
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", errors, write_through=True) for errors in _ERRORS]
    try:
        with time_limit(LIMIT_S), redirect_stdout(streams[0]), redirect_stderr(streams[1]):
            status = main(arguments)
    except SystemExit as err:  # argparse's own way out
        status = int(str(err.code))
    finally:
        world.close()
    output, error = (stream.buffer.getvalue().decode() for stream in streams)
    check_ending(status, output, error)


@pytest.mark.parametrize("seed", range(60))
def test_a_random_command_ends_in_words(
    seed: int, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_seed(seed, tmp_path, store)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60, 560))
def test_many_random_commands_end_in_words(
    seed: int, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_seed(seed, tmp_path, store)


@pytest.mark.parametrize("seed", range(1000, 1006))
def test_a_random_process_ends_in_words(seed: int, tmp_path: Path, store: Path) -> None:
    """The same as a process, whose arguments are bytes."""
    world = World(tmp_path, seed, store)
    module, arguments = world.random.choice(["pipeline", "fovea"]), world.command()
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *(argument.replace("\0", "") for argument in arguments)],
            cwd=ROOT,
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            timeout=LIMIT_S,
        )
    finally:
        world.close()

    check_ending(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
