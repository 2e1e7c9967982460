"""The process: its flags, its addresses, how it waits, refuses and stops."""

from __future__ import annotations

import logging
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from contract.store import ModelStore
from service.modelserver.foreign_flags import IGNORED, REFUSED
from service.modelserver.options import parse_options
from tests.conftest import StartModelServer
from tests.helpers.model_client import ModelClient, build_request
from tests.helpers.server_process import ROOT, ServerProcess, scrape, start_server
from tests.helpers.tiny_model import MODEL_NAME, VARIANTS, build_image, publish_variant
from tests.helpers.traffic import wait_until

SLOW_S = VARIANTS["slow"].delay_s
_MODEL = 'config { name: "m" base_path: "/m" model_platform: "tensorflow" }'
REQUEST = build_request(MODEL_NAME, {"images": build_image("red", 16)[None]})


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]) -> Iterator[ServerProcess]:
    """A server whose model takes half a second a call, one call at a time, with room for two to wait."""
    root = tmp_path_factory.mktemp("slow")
    store = ModelStore(root / "models")
    publish_variant(store, tiny_models["slow"])
    server = start_server(
        store,
        root / "modelserver.log",
        ("--num_streams=1", "--max_batch_size=1", "--max_waiting_calls=2", "--monitoring_port=0"),
    )
    with ModelClient(server.address) as client:
        client.wait_for(MODEL_NAME, 1)
    yield server
    server.stop()


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    """Run the model server until it ends by itself."""
    command = [sys.executable, "-m", "service.modelserver", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--model_config_file=x", "--prot=1"], "unrecognized arguments: --prot=1"),
        (["--model_config_file=x", "--mixed_precision=bfloat16"], "--mixed_precision: use --precision"),
        (["--model_config_file=x", "--port=70000"], "expected a whole number from 0 to 65535. Received: '70000'"),
        (["--model_config_file=x", "--path-map=models"], "expected /FOLDER=FOLDER. Received: 'models'"),
        (["--model_config_file=x", "--enable_model_warmup=maybe"], "expected true or false. Received: 'maybe'"),
        (
            ["--model_config_file=x", "--file_system_poll_wait_seconds=often"],
            "expected seconds from -1 to 86400. Received: 'often'",
        ),
        (
            ["--model_config_file=x", "--precision=float7"],
            "--precision: expected one of auto, float32, bfloat16, float16, int8. Received: 'float7'",
        ),
        (["--model_config_file=x", "--precision="], "auto, float32, bfloat16, float16, int8. Received: ''"),
        (["--model_config_file=x", "--engine=torch"], "expected one of auto, openvino, tensorflow. Received: 'torch'"),
        ([], "expected --model_config_file, or --model_name and --model_base_path"),
    ],
    ids=[
        "unknown",
        "known elsewhere",
        "port",
        "path map",
        "truth",
        "seconds",
        "precision",
        "no precision",
        "engine",
        "nothing to serve",
    ],
)
def test_wrong_flags_are_refused(flags: list[str], reason: str) -> None:
    """A flag that is unknown or out of range ends the process with status 2 and the reason as the last line."""
    done = run(*flags)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].endswith(reason)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_flags_that_somebody_relies_on_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Flags of TensorFlow Serving whose absence would be noticed too late end with the reason."""
    with pytest.raises(SystemExit) as ended:
        parse_options(["--model_config_file=x", f"--{name}=x"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.strip().endswith(f"--{name}: {REFUSED[name]}")


def test_flags_without_effect_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Every other flag of TensorFlow Serving starts with a warning that says why it has no effect."""
    with caplog.at_level(logging.WARNING):
        parse_options(["--model_config_file=x", *(f"--{name}=1" for name in IGNORED)])
    assert [record.getMessage().split()[0] for record in caplog.records] == [f"--{name}" for name in IGNORED]


def test_the_compose_files_flags_are_taken() -> None:
    """Flags that deployments pass to tensorflow_model_server are understood as there."""
    flags = "--port=1 --model_name=m --model_base_path=/m --max_num_load_retries=2 --enable_batching"
    more = "--load_retry_interval_micros=5 --file_system_poll_wait_seconds=3 --enable_model_warmup=false"
    options = parse_options([*flags.split(), *more.split()])
    assert (options.port, options.model_name, options.model_base_path) == (1, "m", Path("/m"))
    assert (options.max_num_load_retries, options.load_retry_interval_micros) == (2, 5)
    assert (options.file_system_poll_wait_seconds, options.enable_model_warmup) == (3.0, False)


def test_a_batching_file_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """TensorFlow Serving's batching file sets what means something here; the rest is warned of."""
    file = tmp_path / "batching.config"
    file.write_text(
        "max_batch_size { value: 16 }  # images\nnum_batch_threads { value: 3 }\nbatch_timeout_micros { value: 0 }"
    )
    with caplog.at_level(logging.WARNING):
        options = parse_options(["--model_config_file=x", "--enable_batching", f"--batching_parameters_file={file}"])
    assert (options.max_batch_size, options.num_streams) == (16, 3)
    assert "batching.config: no effect: batch_timeout_micros" in caplog.text
    file.write_text("max_batch_size { value: many }")
    with pytest.raises(SystemExit):
        parse_options(["--model_config_file=x", f"--batching_parameters_file={file}"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("improperly formatted file", "Invalid protobuf file: '{path}'"),
        ("model_config_list {", "Invalid protobuf file: '{path}'"),
        ("custom_model_config { }", "the model config: expected model_config_list. Received: custom_model_config"),
        (f"model_config_list {{ {_MODEL} {_MODEL} }}", "Illegal to list model m multiple times in config list"),
        (
            f"model_config_list {{ {_MODEL.replace('/m', 'm')} }}",
            "Expected model m to have an absolute path or URI; got base_path()=m",
        ),
        (f"model_config_list {{ {_MODEL.replace('tensorflow', 'x')} }}", "Model m requests unsupported platform x"),
    ],
    ids=["no message", "cut off", "custom", "twice", "relative", "platform"],
)
def test_a_wrong_config_at_the_start_ends_the_process(tmp_path: Path, text: str, words: str) -> None:
    """A config that cannot be followed ends the process at once with TensorFlow Serving's words, last on stderr."""
    path = tmp_path / "models.config"
    path.write_text(text)
    done = run("--port=0", f"--model_config_file={path}")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"Failed to start server. Error: INVALID_ARGUMENT: {words.format(path=path)}"
    if "protobuf" in words:
        assert "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:" in done.stderr


def test_a_taken_port_is_an_error(tmp_path: Path) -> None:
    """A port that another server listens on ends the process with status 1 and says which."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(f"--port={port}", f"--model_config_file={tmp_path / 'models.config'}")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        f"modelserver: cannot listen on 127.0.0.1:{port}: it is taken or not allowed; "
        "choose another with --port or --grpc_socket_path"
    )


def test_a_socket_path_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    """A Unix socket path that the kernel would cut is refused with its length."""
    done = run(f"--grpc_socket_path={tmp_path / ('x' * 120)}", "--model_config_file=x")
    assert done.returncode == 1
    assert re.search(r"expected at most 107 bytes. Received: \d+$", done.stderr.strip())


def test_expired_calls_are_dropped_before_they_run(slow_server: ServerProcess) -> None:
    """Calls whose deadline passes while they wait never reach the model."""
    with ModelClient(slow_server.address) as client:
        for _ in range(20):
            before = rows_run(slow_server)
            first = start_running(client)
            expired = [client.prediction.Predict.future(REQUEST, timeout=SLOW_S / 5) for _ in range(2)]
            codes = [call.exception(timeout=60).code() for call in expired]
            have_waited = not first.done()
            first.result(timeout=60)
            client.call(REQUEST)
            if have_waited:
                break
    assert have_waited
    assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED] * 2
    assert rows_run(slow_server) == before + 2


def start_running(client: ModelClient) -> Any:
    """Begin a call and give the idle server a third of the model's time to begin to run it."""
    call = client.prediction.Predict.future(REQUEST, timeout=60)
    time.sleep(SLOW_S / 3)
    return call


def fill(client: ModelClient) -> tuple[Any, list[Any]]:
    """Begin a call that runs and two that wait: a further one is refused, so the two have arrived."""
    for _ in range(20):
        first = start_running(client)
        waiting = [client.prediction.Predict.future(REQUEST, timeout=60) for _ in range(2)]
        last = client.prediction.Predict.future(REQUEST, timeout=60).code()
        if last is grpc.StatusCode.RESOURCE_EXHAUSTED and not any(call.done() for call in (first, *waiting)):
            return first, waiting
        for call in (first, *waiting):  # the first had ended before the last came, or had not begun
            call.exception(timeout=60)
    raise TimeoutError("the calls never met")


def rows_run(server: ServerProcess) -> float:
    """Return how many rows the model has run."""
    series = f'fovea_modelserver_batch_rows_sum{{model="{MODEL_NAME}",signature="serving_default",version="1"}}'
    return scrape(server).get(series, 0.0)


def calls_cancelled(server: ServerProcess) -> float:
    """Return how many calls the server has given up because their callers left."""
    series = f'fovea_modelserver_requests_total{{model="{MODEL_NAME}",status="CANCELLED",version="1"}}'
    return scrape(server).get(series, 0.0)


def test_cancelled_calls_are_dropped_before_they_run(slow_server: ServerProcess) -> None:
    """Calls whose caller leaves while they wait make room at once: others take their places."""
    before = calls_cancelled(slow_server)
    with ModelClient(slow_server.address) as client:
        first, waiting = fill(client)
        for call in waiting:
            call.cancel()
        wait_until(lambda: calls_cancelled(slow_server) == before + 2)
        others = [client.prediction.Predict.future(REQUEST, timeout=60) for _ in range(2)]
        assert [call.result(timeout=60).model_spec.version.value for call in (first, *others)] == [1, 1, 1]


def test_more_calls_than_may_wait_are_refused_at_once(slow_server: ServerProcess) -> None:
    """One call runs and two wait; of those that come meanwhile the others are RESOURCE_EXHAUSTED."""
    with ModelClient(slow_server.address) as client:
        calls = [start_running(client), *(client.prediction.Predict.future(REQUEST, timeout=60) for _ in range(7))]
        codes = sorted(call.code().name for call in calls)
        refused = next(call for call in calls if call.code() is not grpc.StatusCode.OK)
    assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
    assert codes.count("OK") >= 2  # 3 if the first began to run before the others came, more if it ended before
    assert refused.details() == "the model server is overloaded: 2 calls wait for the model, the limit"


def test_the_server_answers_while_a_model_runs(slow_server: ServerProcess) -> None:
    """Status calls are answered while a model is at work: it does not run on the event loop."""
    with ModelClient(slow_server.address) as client:
        first, waiting = fill(client)
        running, answered = [first, *waiting], 0
        while answered < 6:
            client.status(MODEL_NAME)
            answered += not running[-1].done()
            if running[-1].done():
                running.append(client.prediction.Predict.future(REQUEST, timeout=60))
        assert [grpc.StatusCode.OK] * len(running) == [call.code() for call in running]


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGINT, id="SIGINT", marks=pytest.mark.slow),
    ],
)
def test_calls_in_flight_survive_the_signal(
    tmp_path: Path, tiny_models: dict[str, Path], start_modelserver: StartModelServer, number: signal.Signals
) -> None:
    """At SIGTERM or SIGINT calls that run or wait are answered, new ones refused, and the exit status is 0."""
    store = ModelStore(tmp_path / "models")
    publish_variant(store, tiny_models["slow"])
    server = start_modelserver(store, f"--grpc_socket_path={tmp_path / 'grpc.sock'}", "--num_streams=1")
    assert server.address == f"unix:{tmp_path / 'grpc.sock'}"
    with ModelClient(server.address) as client, ModelClient(server.address) as late:
        client.wait_for(MODEL_NAME, 1)
        late.states(MODEL_NAME)  # connects
        calls = [client.prediction.Predict.future(REQUEST, timeout=60) for _ in range(4)]
        calls[0].result(timeout=60)  # so the others have arrived
        server.process.send_signal(number)
        wait_until(lambda: "stopping: no new calls" in server.log.read_text())
        refused = refusal(late)
        assert [call.result(timeout=60).model_spec.version.value for call in calls] == [1] * 4
    # gRPC's own answer to a call that comes in the moment in which the server stops to take them is CANCELLED.
    assert refused.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), refused
    assert server.process.wait(60) == 0
    assert server.log.read_text().strip().endswith("stopped")


def refusal(client: ModelClient) -> Any:
    """Return the error of the first call that is refused: some may come before the server stops to take them."""
    with pytest.raises(grpc.RpcError) as caught:
        for _ in range(100):
            client.call(REQUEST, timeout_s=60)
    return caught.value


def test_one_model_by_name_and_base_path(tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    """--model_name and --model_base_path serve one folder's newest version without a config file, on both addresses."""
    store = ModelStore(tmp_path / "models")
    publish_variant(store, tiny_models["plain"])
    base = store.version_path(MODEL_NAME, 1).parent
    socket_path = tmp_path / "grpc.sock"
    log = tmp_path / "named.log"
    command = [sys.executable, "-m", "service.modelserver", "--model_name=named", f"--model_base_path={base}"]
    command += ["--port=0", f"--grpc_socket_path={socket_path}", "--file_system_poll_wait_seconds=0.1"]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=ROOT, stderr=stderr)
    try:
        with ModelClient(f"unix:{socket_path}") as client:
            client.wait_for("named", 1)
            publish_variant(store, tiny_models["small"])
            client.wait_for("named", 2)
            client.wait_for("named", 1, state=50)
        wait_until(lambda: log.read_text().count("listening on") == 2)
        addresses = re.findall(r"listening on (\S+)", log.read_text())
        with ModelClient(addresses[-1]) as client:
            assert client.classify("named", build_image("red", 8)).argmax() == VARIANTS["small"].labels.index("red")
    finally:
        process.terminate()
        process.wait(60)
    assert process.returncode == 0


def test_parallel_callers_get_their_own_answers(modelserver: ServerProcess) -> None:
    """Callers that ask at the same time each get the class of their own image."""
    labels = VARIANTS["plain"].labels
    barrier = threading.Barrier(6)

    def ask(colour: str) -> list[str]:
        with ModelClient(modelserver.address) as client:
            barrier.wait(120)
            image = build_image(colour, 16)
            return [labels[int(np.argmax(client.classify(MODEL_NAME, image, version=1)))] for _ in range(30)]

    colours = ["red", "green", "blue"] * 2
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, colours)) == [[colour] * 30 for colour in colours]


def test_importing_the_server_loads_no_runtime() -> None:
    """Importing the model server's modules imports no TensorFlow: it comes with the first model."""
    code = "import sys, service.modelserver.cli; print('tensorflow' in sys.modules, 'service.gateway' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["False", "False"]
