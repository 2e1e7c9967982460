"""The log as JSON: every line on stdout and stderr of every process is one object, whatever printed it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from contract.store import ModelStore
from service.log_relay import wrap_line
from service.logs import wanted_format
from tests.helpers.gateway_process import ServiceProcess, predict
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend
from tests.helpers.server_process import ROOT
from tests.helpers.tiny_model import publish_variant
from tests.service.conftest import StartProcess

KEYS = {"time", "level", "logger", "message"}
SET_UP = "from service.logs import *; set_up_logging('json', request_id=lambda: 'id-1')\n"


def parse(text: str) -> list[dict[str, Any]]:
    """Return the objects of a log; a line that is none, or lacks a field, fails the test."""
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(KEYS <= line.keys() for line in lines)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)
    return lines


def run(code: str, *, set_up: str = SET_UP) -> tuple[int, list[dict[str, Any]], list[dict[str, Any]]]:
    """Run code in a process that logs JSON; return its status and its lines on stdout and on stderr."""
    command = [sys.executable, "-c", set_up + textwrap.dedent(code)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, parse(done.stdout), parse(done.stderr)


def words(lines: list[dict[str, Any]]) -> str:
    """Return everything that the lines say."""
    return "\n".join(json.dumps(line) for line in lines)


PRINTED = {
    "print": ("print('said here')", "stdout"),
    "print without a line's end": ("print('said here', end='')", "stdout"),
    "print to stderr": ("import sys; print('said here', file=sys.stderr)", "stderr"),
    "bytes to the buffer": ("import sys; sys.stderr.buffer.write(b'said here \\xff\\n'); sys.stderr.flush()", "stderr"),
    "native on 1": ("import os; os.write(1, b'said here\\n')", "stdout"),
    "native on 2": ("import os; os.write(2, b'said here\\n')", "stderr"),
    "stdio": ("import ctypes; c = ctypes.CDLL(None); c.puts(b'said here'); c.fflush(None)", "stdout"),
    "perror": ("import ctypes; ctypes.CDLL(None).perror(b'said here')", "stderr"),
    "child process": ("import subprocess; subprocess.run(['sh', '-c', 'echo said here >&2'])", "stderr"),
    "warning": ("import warnings; warnings.warn('said here')", "stderr"),
    "image warning": (
        "import warnings, PIL.Image; warnings.warn('said here', PIL.Image.DecompressionBombWarning)", "stderr",
    ),
    "library's logger": ("import logging; logging.getLogger('PIL').warning('said %s', 'here')", "stderr"),
    "wrong arguments": ("import logging; logging.getLogger('x').warning('said here %d %d', 'one')", "stderr"),
    "object that cannot be printed": (
        """
        import logging
        class Mute:
            def __str__(self): raise ValueError
            __repr__ = __str__
        logging.warning('said here %s', Mute())
        """,
        "stderr",
    ),
    "lone surrogate": ("import logging; logging.warning('said here \\udc80 \\u2028 \\x85 \\x1c')", "stderr"),
    "several lines": ("import logging; logging.warning('said\\nhere\\r\\nand there')", "stderr"),
    "stack": ("import logging; logging.warning('said here', stack_info=True)", "stderr"),
    "task never awaited": (
        """
        import asyncio, gc
        async def fail(): raise ValueError('said here')
        async def main():
            asyncio.create_task(fail())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            gc.collect()
        asyncio.run(main())
        """,
        "stderr",
    ),
    "callback of the event loop": (
        """
        import asyncio
        async def main():
            asyncio.get_running_loop().call_soon(lambda: 1 / int('said here'))
            await asyncio.sleep(0.01)
        asyncio.run(main())
        """,
        "stderr",
    ),
    "thread": (
        """
        import threading
        def fail(): raise ValueError('said here')
        t = threading.Thread(target=fail); t.start(); t.join()
        """,
        "stderr",
    ),
    "destructor": (
        """
        class Bad:
            def __del__(self): raise ValueError('said here')
        Bad()
        """,
        "stderr",
    ),
    "grpc's C core": (
        """
        import os
        os.environ['GRPC_VERBOSITY'] = 'debug'; os.environ['GRPC_TRACE'] = 'http'
        import grpc
        print('said here', flush=True)
        try: grpc.channel_ready_future(grpc.insecure_channel('127.0.0.1:1')).result(0.2)
        except grpc.FutureTimeoutError: pass
        """,
        "stdout",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("code", "stream"), PRINTED.values(), ids=PRINTED)
def test_whatever_prints_prints_json(code: str, stream: str) -> None:
    """On the stream that it was printed to."""
    status, out, err = run(code)

    assert 0 == status
    said = re.sub(r"said\\nhere", "said here", words(out if stream == "stdout" else err))
    assert "said here" in said


CRASHES = {
    "exception": ("raise ValueError('last words')", 1),
    "exit with a text": ("import sys; sys.exit('last words')", 1),
    "exit at once": ("import os; os.write(2, b'last words\\n'); os._exit(7)", 7),
    "abort": ("import os; os.write(2, b'last words\\n'); os.abort()", -signal.SIGABRT),
    "segmentation fault": ("import faulthandler, os; os.write(2, b'last words\\n'); faulthandler._sigsegv()", -11),
    "killed": ("import os, signal; os.write(2, b'last words\\n'); os.kill(os.getpid(), signal.SIGKILL)", -9),
    "half a line": ("import os; os.write(2, b'last words'); os._exit(3)", 3),
    "much, and killed": (
        "import os, signal; os.write(2, b'x' * 60000 + b'\\nlast words\\n'); os.kill(os.getpid(), signal.SIGKILL)", -9,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("code", "status"), CRASHES.values(), ids=CRASHES)
def test_no_line_is_lost_when_the_process_dies(code: str, status: int) -> None:
    """Nor is there a line that is not JSON."""
    found, _, err = run(code)

    assert status == found
    assert "last words" in words(err)


def test_crash_says_where(tmp_path: Path) -> None:
    """The dump of a segmentation fault is in the log."""
    assert "Fatal Python error: Segmentation fault" in words(run("import faulthandler; faulthandler._sigsegv()")[2])


def test_fields_of_a_record() -> None:
    """The request's id, the exception with its traceback; of a native line the level that it begins with."""
    _, _, err = run(
        """
        import logging, os
        try: 1 / 0
        except ZeroDivisionError: logging.getLogger("a.b").exception("it failed")
        os.write(2, b"E0000 00:00:1782547200.123456 12 tcp.cc:1] native\\n")
        """
    )
    record, native = sorted(err, key=lambda line: line["logger"])

    assert ("error", "a.b", "it failed", "id-1") == tuple(
        record[k] for k in ("level", "logger", "message", "request_id")
    )
    assert "ZeroDivisionError: division by zero" == record["exception"]
    assert record["traceback"].startswith("Traceback")
    assert ("error", "stderr") == (native["level"], native["logger"])


def test_long_lines_of_two_processes_stay_whole() -> None:
    """Records and printed lines that are longer than a pipe takes at once, in one pipe that is full."""
    code = """
    import logging, os, threading
    def log():
        for n in range(60): logging.warning("R%d %s", n, "r" * 20_000)
    def write():
        for n in range(60): os.write(2, b"P%d %s\\n" % (n, b"p" * 20_000))
    def tell():
        for n in range(60): say(f"S{n} " + "s" * 9_000)
    threads = [threading.Thread(target=each) for each in (log, write, tell)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", SET_UP + textwrap.dedent(code)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    pieces = []
    while piece := os.read(process.stdout.fileno(), 3000):  # less than a line: the writers wait for each other
        pieces.append(piece)
    process.stdout.close()

    assert 0 == process.wait(60)
    said = [line["message"].split()[0] for line in parse(b"".join(pieces).decode())]
    assert sorted(f"{kind}{n}" for kind in "RPS" for n in range(60)) == sorted(said)


@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("form", ["json", "text"])
def test_closed_streams_are_the_null_device(closed: tuple[int, ...], form: str, tmp_path: Path) -> None:
    """No file or socket that is opened later gets their numbers; the open stream has its lines."""
    closing = " ".join(f"{number}>&-" for number in closed)
    code = f"""
    import os, sys
    from service.logs import *
    set_up_logging({form!r})
    assert os.open({str(tmp_path / "file")!r}, os.O_CREAT) > 2
    say("said here"); logging.warning("logged here"); print("printed", file=sys.stderr); os.write(1, b"w\\n")
    os._exit(0) if {form!r} == "text" else None
    """
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closing}', sys.executable, textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert ("said here" in done.stdout, "logged here" in done.stderr) == (1 not in closed, 2 not in closed)
    if form == "json":
        parse(done.stdout), parse(done.stderr)


def test_reader_that_has_gone_ends_nothing() -> None:
    """The lines are dropped, the process goes on to its end."""
    reader, writer = os.pipe()
    os.close(reader)
    code = "import logging; logging.warning('x' * 200_000); print('y' * 200_000); say('z'); os._exit(7)"
    process = subprocess.Popen(
        [sys.executable, "-c", "import os\n" + SET_UP + code], cwd=ROOT, stdout=writer, stderr=writer
    )
    os.close(writer)

    assert 7 == process.wait(60)


@pytest.mark.parametrize(
    "value",
    ["float('nan')", "[float('inf')]", "{(1, 2): 3}", "{1: {b'x': 2}}", "loop", "object()", "'\\ud800'", "{None: 1}"],
)
def test_fields_that_json_does_not_have_are_texts(value: str) -> None:
    """The line is there, and every parser reads it."""
    code = (
        f"import logging; loop = []; loop.append(loop); logging.warning('said', extra={{'fields': {{'a': {value}}}}})"
    )
    command = [sys.executable, "-c", SET_UP + code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    (line,) = (json.loads(line, parse_constant=refuse) for line in done.stderr.splitlines())
    assert "said" == line["message"] and "a" in line


def test_killed_relay_breaks_nothing() -> None:
    """The process goes on; what it prints is text from then on, and the log says so."""
    code = """
    import os, subprocess, sys, threading, time, logging
    import psutil
    (relay,) = psutil.Process().children()
    relay.kill()
    while os.fstat(2).st_ino != os.fstat(int(sys.argv[1])).st_ino: time.sleep(0.01)
    for thread in threading.enumerate():
        if thread.name == "log-relay": thread.join(60)
    print("raw", file=sys.stderr)
    logging.warning("a record")
    """
    reader, writer = os.pipe()
    done = subprocess.Popen(
        [sys.executable, "-c", SET_UP + textwrap.dedent(code), str(writer)], cwd=ROOT, stderr=writer, pass_fds=[writer]
    )
    os.close(writer)
    with os.fdopen(reader) as pipe:
        lines = pipe.read().splitlines()

    assert 0 == done.wait(60)
    assert "raw" in lines
    assert {"a record"} < {json.loads(line)["message"] for line in lines if line != "raw"}


def test_lines_of_ours_pass_and_others_are_wrapped() -> None:
    """A child's log line keeps its form; other JSON is a message."""
    ours = b'{"time": "t", "level": "info", "logger": "l", "message": "m"}'
    other = b'{"time": 1}'

    assert ours + b"\n" == wrap_line(ours, "stderr")
    assert other.decode() == json.loads(wrap_line(other, "stderr"))["message"]
    assert b"" == wrap_line(b" \r", "stdout")


@pytest.mark.parametrize(
    ("argv", "environ", "expected"),
    [
        ([], {}, "text"),
        (["--log-format", "json"], {}, "json"),
        (["--log_format=json"], {}, "json"),
        (["--port", "1", "--log-format=json", "--wrong"], {}, "json"),
        ([], {"FOVEA_LOG_FORMAT": "json"}, "json"),
        (["--log-format=text"], {"FOVEA_LOG_FORMAT": "json"}, "text"),
        (["--log-format", "xml"], {}, "text"),
        (["--log-format"], {"FOVEA_LOG_FORMAT": "json"}, "text"),
    ],
)
def test_format_is_known_before_the_settings_are(argv: list[str], environ: Mapping[str, str], expected: str) -> None:
    """Flags win, and a mistake elsewhere does not hide it."""
    assert expected == wanted_format(argv, environ)


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        ("gateway --log-format=json --prot=1", 2, "gateway: unknown flag --prot; did you mean --port?"),
        ("gateway --log-format json --models=a --port=high", 2, "gateway: --port: "),
        ("gateway --log-format=json --models=a --port=0 --tls-cert=/none", 1, "gateway: "),
        ("up --log-format=json --backend=a:1", 2, "up: --backend: `up` decides this itself"),
        ("up --log-format=json --port=0 --models-dir=/proc/none", 1, "up: the model store "),
        ("modelserver --log_format=json", 2, "modelserver: expected --model_config_file"),
        ("modelserver --log-format=json --model_config_file=x --prot=1", 2, "modelserver: unrecognized arguments"),
        (f"modelserver --log-format=json --model_config_file=x --grpc_socket_path=/{'x' * 120}", 1, "modelserver: "),
    ],
)
def test_errors_at_the_start_are_json(start_process: StartProcess, arguments: str, status: int, reason: str) -> None:
    """The reason is the last line, as without JSON."""
    process = start_process(*arguments.split())

    assert status == process.wait()
    assert parse(process.log)[-1]["message"].startswith(reason)
    assert "error" == parse(process.log)[-1]["level"]
    assert "" == process.output


def test_broken_installation_is_json(tmp_path: Path) -> None:
    """A module that cannot be imported is an uncaught exception in the log."""
    (tmp_path / "uvicorn.py").write_text("raise ImportError('cannot be loaded')")
    process = ServiceProcess(
        ["gateway", "--log-format=json", "--models=a", "--port=0"], tmp_path, {"PYTHONPATH": str(tmp_path)}
    )

    assert 1 == process.wait()
    assert "ImportError: cannot be loaded" in {line.get("exception") for line in parse(process.log)}


@pytest.mark.parametrize("processes", [1, 2])
def test_up_and_its_children_log_json(
    start_process: StartProcess, tmp_path: Path, tiny_models: dict[str, Path], processes: int
) -> None:
    """From the first line to the last, on both streams; a request's line has its id."""
    store = ModelStore(tmp_path / "models")
    publish_variant(store, tiny_models["plain"])
    process = start_process(
        "up",
        f"--models-dir={store.root}",
        "--port=0",
        f"--processes={processes}",
        "--log-format=json",
        GRPC_VERBOSITY="info",
        TF_CPP_MIN_LOG_LEVEL="0",
    )
    url = wait_for_url(process)
    while "is ready" not in process.output:
        assert process.process.poll() is None, process.log
        time.sleep(0.02)
    assert 200 == predict(url, encode("red")).status_code
    relays = [
        child for child in psutil.Process(process.process.pid).children(recursive=True)
        if any("log_relay" in word for word in child.cmdline())
    ]  # fmt: skip
    assert 0 == process.stop()
    lines = parse(process.log)
    said = parse(process.output)

    assert [f"Fovea is ready: {url} (documentation: {url}/docs)"] == [
        line["message"] for line in said if "is ready" in line["message"]
    ]
    loggers = {"service.modelserver.serving.repository", "fovea.gateway", "fovea.access"}
    if processes == 2:  # then the model server listens, and says where
        loggers.add("service.modelserver.server")
    assert loggers <= {line["logger"] for line in lines}
    assert all(line["request_id"] for line in lines if line["logger"] == "fovea.access")
    assert 1 + processes == len(relays)
    assert [] == psutil.wait_procs(relays, timeout=120)[1]


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_up_leaves_no_relay(start_process: StartProcess, tmp_path: Path, processes: int) -> None:
    """They end when those that print have ended."""
    flags = [f"--models-dir={tmp_path / 'models'}", "--port=0", f"--processes={processes}", "--log-format=json"]
    process = start_process("up", *flags)
    wait_for_url(process)
    children = psutil.Process(process.process.pid).children(recursive=True)
    process.kill()

    assert 1 + 2 * processes == len(children)  # each has a relay, and so has `up`
    assert [] == psutil.wait_procs(children, timeout=120)[1]
    parse(process.log)


def test_pictures_warnings_are_json(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore, tmp_path: Path
) -> None:
    """Odd images, whose libraries warn in Python or natively, leave no line that is not JSON."""
    process = start_process(
        "gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0", "--log-format=json",
        PYTHONWARNINGS="always",
    )  # fmt: skip
    url = wait_for_url(process)
    tiff = b"II*\0\x08\0\0\0\x01\0\x00\x01\x03\0\xff\xff\xff\x7f\0\0\0\0"
    for picture in (tiff, encode("red")[:-20], b"\xff\xd8\xff\xe1\x00\x10Exif\0\0MM\0*\xff\xff\xff\xff", b"GIF89a"):
        predict(url, picture)
    process.stop()

    assert [] != parse(process.log)


def wait_for_url(process: ServiceProcess) -> str:
    """Return where a service that logs JSON listens, once it is ready or waits for its first model."""
    deadline = time.monotonic() + 120
    while not (found := re.search(r"listening on (http://[^\s,]+)", process.log)):
        assert time.monotonic() < deadline and process.process.poll() is None, process.log
        time.sleep(0.02)
    store_is_empty = re.compile(r"no model to serve yet")
    while not store_is_empty.search(process.log) and '"ready: ' not in process.log:
        assert time.monotonic() < deadline and process.process.poll() is None, process.log
        time.sleep(0.02)
    return found[1]
