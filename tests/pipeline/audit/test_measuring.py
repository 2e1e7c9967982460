"""pipeline/audit/measuring.py: processes measure what threads do; their end and Ctrl-C have one line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from contract.model import InputSpec
from pipeline.audit import audit as audit_module
from pipeline.audit.audit import Audit, audit
from pipeline.audit.kept.fact_store import FactStore, define_facts
from pipeline.audit.measuring import FileMeasure, Measured, Measurer, Refused
from pipeline.data.ingest import ingest
from pipeline.data.pixels import Pixels
from pipeline.errors import WorkerError
from pipeline.recipe.data_settings import Data
from tests.helpers.image_sets import write_files
from tests.pipeline.audit.test_audit import encoded, photograph, photographs

SPEC = InputSpec(64, 64, 3, "rgb")


def children() -> list[psutil.Process]:
    """Processes that measure, started by this one."""
    found = []
    for process in psutil.Process().children():
        try:
            found += [process] if "spawn_main" in " ".join(process.cmdline()) else []
        except psutil.Error:
            continue
    return found


def audited(folder: Path, facts: Path | None, *, cache_bytes: int = 10**9) -> tuple[Audit, Pixels]:
    dataset = ingest(folder)
    kept = FactStore(facts, define_facts(SPEC), max_bytes=10**9) if facts else None
    pixels = Pixels(dataset.source, SPEC, cache_bytes=cache_bytes)
    return audit(dataset, pixels, Data(), kept), pixels


def in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure every file but the first eight in processes."""

    class Early(Measurer):
        def __init__(self, measure: FileMeasure) -> None:
            super().__init__(measure, here=8)

    monkeypatch.setattr(audit_module, "Measurer", Early)


def test_processes_measure_what_threads_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts, their order, refused files, kept pixels and kept facts are the same."""
    files = {
        **photographs(),
        "train/a/small_1.png": encoded(photograph(1).resize((28, 20))),
        "train/a/notes_1.jpg": b"no image",
        "train/b/empty_1.jpg": b"",
        "train/b/jpeg_1.jpg": encoded(photograph(2), "JPEG", quality=70),
    }
    write_files(tmp_path / "set", files)
    expected, kept_pixels = audited(tmp_path / "set", tmp_path / "threads")
    in_processes(monkeypatch)

    found, pixels = audited(tmp_path / "set", tmp_path / "processes")
    again, _ = audited(tmp_path / "set", tmp_path / "processes")

    assert expected == found == again
    assert kept_pixels._cache.keys() == pixels._cache.keys()
    assert all((kept_pixels[path] == pixels[path]).all() for path in kept_pixels._cache)
    assert not children()


def test_a_small_set_starts_no_process(tmp_path: Path) -> None:
    measurer = Measurer(FileMeasure(SPEC, deep=True, returns_pixels=False))
    with measurer:
        (measured, refused) = measurer([encoded(photograph(1)), b"no image"])
        assert not children()

    assert isinstance(measured, Measured)
    assert measured.pixels is None
    assert Refused("unsupported_image", refused.message) == refused  # type: ignore[union-attr]


def test_the_end_of_a_process_is_an_error() -> None:
    """A killed process ends the audit with the reason, and no process is left."""
    file = encoded(photograph(1))
    with Measurer(FileMeasure(SPEC, deep=True, returns_pixels=False), here=0) as measurer:
        measurer([file])
        for process in children():
            process.kill()

        with pytest.raises(WorkerError, match="ended before its time"):
            while True:  # until the pool has seen it
                measurer([file])

    assert not children()


_SCRIPT = """
import sys
from pathlib import Path
from pipeline.audit import audit as audit_module, measuring
from pipeline.__main__ import main

class Early(measuring.Measurer):
    def __init__(self, measure):
        super().__init__(measure, here=0)

def read_forever(checker, paths, num_threads):
    while True:
        list(check_files(checker, paths, num_threads))
    yield

measure = measuring.Measurer.__call__
def saying(self, files):
    found = measure(self, files)
    print("measured", flush=True)
    return found

if __name__ == "__main__":
    measuring.Measurer.__call__ = saying
    audit_module.Measurer = Early
    check_files, audit_module.check_files = audit_module.check_files, read_forever
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_the_command(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, which all processes of a terminal get, has one line; after a kill no process is left."""
    write_files(tmp_path / "set", photographs())
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    command = [sys.executable, str(script), "audit", str(tmp_path / "set"), f"--runs-dir={tmp_path / 'runs'}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment,
    ) as started:
        assert started.stdout is not None
        assert "measured\n" == started.stdout.readline()

        if number == signal.SIGINT:
            os.killpg(started.pid, number)
        else:
            started.kill()
        _, stderr = started.communicate(timeout=120)  # until no process has the pipes

    if number == signal.SIGINT:
        assert 1 == started.returncode
        assert "error: interrupted; nothing was published" == stderr.splitlines()[-1]
        assert "Traceback" not in stderr
