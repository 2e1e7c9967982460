"""One table of what differs from TensorFlow Serving on purpose; each row has the case that shows it on our server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import httpx2
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from contract.store import WARMUP_FILE
from contract.tensors import predict_pb2, tensor_pb2, types_pb2
from service.modelserver.options import parse_options
from tests.conformance.bench import Bench, refusal, reload, wait_for_line
from tests.helpers.model_client import AVAILABLE, END, ModelClient, build_request
from tests.helpers.tiny_model import MODEL_NAME, VARIANTS, build_image

RED = build_image("red", 16)[None]
ZEROS = np.zeros((5, 16, 16, 3), np.uint8)
LEFT_OUT = {
    "Classify": "tensorflow.serving.PredictionService",
    "Regress": "tensorflow.serving.PredictionService",
    "MultiInference": "tensorflow.serving.PredictionService",
    "SessionRun": "tensorflow.serving.SessionService",
}


@dataclass(frozen=True)
class Difference:
    """One row of the page.

    Attributes:
        what: the subject.
        theirs: what TensorFlow Serving does.
        ours: what Fovea does.
        why: the reason, as a sentence or a link.
        show: fails unless our server does it.
        show_theirs: fails unless TensorFlow Serving, with the same `colours`, does what it is said to do; None where
            that takes a server of its own.
    """

    what: str
    theirs: str
    ours: str
    why: str
    show: Callable[[Bench], None]
    show_theirs: Callable[[ModelClient], None] | None = None


DIFFERENCES: list[Difference] = []
REST_DIFFERENCES: list[Difference] = []
Show = Callable[[Bench], None]


def row(
    what: str,
    *,
    theirs: str,
    ours: str,
    why: str,
    table: list[Difference] = DIFFERENCES,
    show_theirs: Callable[[ModelClient], None] | None = None,
) -> Callable[[Show], Show]:
    """Adds a row to a table; decorates the case that shows it on our server."""

    def add(show: Show) -> Show:
        table.append(Difference(what, theirs, ours, why, show, show_theirs))
        return show

    return add


def _classify(client: ModelClient) -> Any:
    """Calls Classify without an input."""
    call = client.channel.unary_unary("/tensorflow.serving.PredictionService/Classify")
    return call(build_request(MODEL_NAME, {}).SerializeToString(), timeout=30)


def _theirs_classifies(client: ModelClient) -> None:
    assert refusal(lambda: _classify(client))[0] == "INVALID_ARGUMENT"


def _theirs_leaves_sizes_to_the_graph(client: ModelClient) -> None:
    images = np.zeros((1, 9, 9, 3), np.uint8)
    assert "expected shape" not in refusal(lambda: client.predict(MODEL_NAME, {"images": images}))[1]


def _theirs_leaves_classes_to_the_graph(client: ModelClient) -> None:
    inputs = {"images": RED, "class_index": np.array([99], np.int32)}
    assert not refusal(lambda: client.predict(MODEL_NAME, inputs, signature="explain"))[1].startswith("class_index:")


@row(
    "`Classify`, `Regress`, `MultiInference`, `SessionRun`",
    theirs="served",
    ours="UNIMPLEMENTED, naming Predict, which runs their signatures on serialised Examples",
    why="nothing that serves images uses them",
    show_theirs=_theirs_classifies,
)
def _left_out(bench: Bench) -> None:
    for method, service in LEFT_OUT.items():
        call = bench.client.channel.unary_unary(f"/{service}/{method}")
        request = predict_pb2.PredictRequest().SerializeToString()
        code, text = refusal(lambda call=call, request=request: call(request, timeout=30))  # type: ignore[misc]
        assert code == "UNIMPLEMENTED"
        assert text.startswith(f"{method} is not implemented by Fovea's model server; use Predict")


@row("REST", theirs="`--rest_api_port`", ours="the gateway's; the flag has no effect", why="one HTTP server")
def _rest_port(bench: Bench) -> None:
    _, log = bench.serve("--rest_api_port=8501", f"--model_config_file={bench.folder / 'absent'}")
    wait_for_line(log, "--rest_api_port has no effect: REST is the gateway's")


@row(
    "ports",
    theirs="open when every model is loaded",
    ours="open at once; NOT_FOUND until then",
    why="a gateway can say what it waits for",
)
def _ports(bench: Bench) -> None:
    client, _ = bench.serve_model(bench.folder / "later")
    wanted = ("NOT_FOUND", "Servable not found for request: Latest(m)")
    assert refusal(lambda: client.call(build_request("m", {"images": RED}))) == wanted


@row(
    "`--enable_grpc_healthcheck_service`",
    theirs='`""`, `ModelService` and `PredictionService` SERVING once the ports are open',
    ours="these, and with the package's name, SERVING when every listed version has loaded or failed for good, and one "
    "has loaded or none is listed; NOT_SERVING at SIGTERM, when streams of `Watch` end",
    why="ports are open before models are loaded",
)
def _health(bench: Bench) -> None:
    client, _ = bench.serve("--enable_grpc_healthcheck_service", f"--model_config_file={bench.folder / 'absent'}")
    health = health_pb2_grpc.HealthStub(client.channel)
    for name in ("", "ModelService", "PredictionService", "tensorflow.serving.PredictionService"):
        for reply in health.Watch(health_pb2.HealthCheckRequest(service=name), timeout=60):
            if reply.status == health_pb2.HealthCheckResponse.SERVING:
                break


@row(
    "config file that is absent or empty",
    theirs="does not start",
    ours="waits for it",
    why="the first training may still run",
)
def _absent_config(bench: Bench) -> None:
    path = bench.folder / "models.config"
    client, log = bench.serve(f"--model_config_file={path}", "--model_config_file_poll_wait_seconds=0.1")
    wait_for_line(log, "waiting for the model config models.config: there is no such file")
    path.write_text("")
    wait_for_line(log, "waiting for the model config models.config: it is empty")
    base = bench.publish("plain", "m")
    path.write_text(f'model_config_list {{ config {{ name: "m" base_path: "{base}" model_platform: "tensorflow" }} }}')
    client.wait_for("m", 1)


@row(
    "a process that cannot start",
    theirs="status 255, the reason on stdout",
    ours="status 1, the same words as the last line of stderr",
    why="service managers show stderr",
)
def _wrong_config(bench: Bench) -> None:
    path = bench.folder / "models.config"
    path.write_text("improperly formatted file")
    done = bench.run(f"--model_config_file={path}")
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '{path}'"


@row(
    "config poll, load retries",
    theirs="off; 5, a minute apart",
    ours="each second; 2, two seconds apart",
    why="a corrupt version holds up nothing for long",
)
def _polls(bench: Bench) -> None:
    options = parse_options(["--model_config_file=x"])
    assert options.model_config_file_poll_wait_seconds == 1
    assert (options.max_num_load_retries, options.load_retry_interval_micros) == (2, 2_000_000)


@row(
    "a label in the first config, without `--allow_version_labels_for_unavailable_models`",
    theirs="the server stops",
    ours="nothing is served until the version is loaded, and the log says why",
    why="the version may still be copied",
)
def _first_label(bench: Bench) -> None:
    path = bench.folder / "models.config"
    label = 'version_labels { key: "stable" value: 1 }'
    model = f'name: "m" base_path: "{bench.folder / "m"}" model_platform: "tensorflow" {label}'
    path.write_text(f"model_config_list {{ config {{ {model} }} }}")
    client, log = bench.serve(f"--model_config_file={path}")
    wait_for_line(log, "the last good one stays")
    assert client.states("m") == {}


@row(
    "a new model without versions in HandleReloadConfigRequest",
    theirs="waits for ever, and so does every later one",
    ours="UNKNOWN: `it has no versions`",
    why="an administrator gets an answer",
)
def _reload_empty(bench: Bench) -> None:
    client, _ = bench.serve(f"--model_config_file={bench.folder / 'absent'}")
    (bench.folder / "none").mkdir()
    code, text = refusal(lambda: reload(client, {"name": "none", "base_path": str(bench.folder / "none")}))
    assert code == "UNKNOWN" and "due to error: it has no versions" in text


@row(
    "failed load in HandleReloadConfigRequest",
    theirs="UNKNOWN, its own debug text",
    ours="UNKNOWN, same beginning, the reason in our words",
    why="the text is made of C++ objects there",
)
def _reload_broken(bench: Bench) -> None:
    client, _ = bench.serve(f"--model_config_file={bench.folder / 'absent'}", "--max_num_load_retries=0")
    (bench.folder / "broken" / "1").mkdir(parents=True)
    code, text = refusal(lambda: reload(client, {"name": "broken", "base_path": str(bench.folder / "broken")}))
    assert code == "UNKNOWN" and text.startswith("1 model(s) did not become available: {{{name: broken")
    assert "there is no SavedModel" in text


@row(
    "a refused HandleReloadConfigRequest whose labels or platforms are wrong",
    theirs="serves as before, but takes the new list for the present one",
    ours="serves as before, and nothing else has changed",
    why="a refused list is no list",
)
def _reload_refused(bench: Bench) -> None:
    client, _ = bench.serve(f"--model_config_file={bench.folder / 'absent'}")
    base = str(bench.publish("plain", "m"))
    reload(client, {"name": "m", "base_path": base})
    wrong = [{"name": "m", "base_path": base}, {"name": "n", "base_path": base, "model_platform": "pytorch"}]
    assert refusal(lambda: reload(client, *wrong)) == (
        "INVALID_ARGUMENT",
        "Model n requests unsupported platform pytorch",
    )
    # `n` is a new model still: an old one would be told that its platform cannot change.
    assert refusal(lambda: reload(client, *wrong))[1] == "Model n requests unsupported platform pytorch"
    assert client.states("m") == {1: AVAILABLE}


@row(
    "two folders of one version, `7` and `007`",
    theirs="one of them, with a warning",
    ours="`7`",
    why="the same at each start",
)
def _two_folders(bench: Bench) -> None:
    bench.publish("permuted", "m", "007")
    client, _ = bench.serve_model(bench.publish("plain", "m", "7"))
    client.wait_for("m", 7)
    assert client.classify("m", RED[0]).argmax() == VARIANTS["plain"].labels.index("red")


@row(
    "a warm-up file that cannot be read",
    theirs="its path in the message",
    ours="the same words without it",
    why="clients learn no paths",
)
def _warmup(bench: Bench) -> None:
    base = bench.publish("plain", "m")
    (base / "1" / WARMUP_FILE).write_bytes(b"no TFRecord at all")
    client, _ = bench.serve_model(base, "--max_num_load_retries=0")
    client.wait_for("m", 1, state=END)
    assert client.status("m")[1].status.error_message == "Please verify your warmup data is in TFRecord format"


@row(
    "defaults in a signature",
    theirs="stand in for inputs that are left out",
    ours="every input must be sent",
    why="no exporter of image models writes them",
)
def _defaults(bench: Bench) -> None:
    odd = bench.open_odd()
    assert odd.metadata("functions")["with_default"].defaults
    code, text = refusal(lambda: odd.call(build_request("functions", {}, signature="with_default")))
    assert code == "INVALID_ARGUMENT" and text.startswith("input size does not match signature: 0!=1")


@row(
    "wrong size",
    theirs="the graph fails somewhere inside, or answers",
    ours="INVALID_ARGUMENT: expected and received shape; another rank too, except on TensorFlow, whose graph decides",
    why="a network that pools globally takes any size",
    show_theirs=_theirs_leaves_sizes_to_the_graph,
)
def _wrong_size(bench: Bench) -> None:
    for shape in ((1, 9, 9, 3), (16, 16, 3)):
        images = np.zeros(shape, np.uint8)
        code, text = refusal(lambda images=images: bench.client.predict(MODEL_NAME, {"images": images}))  # type: ignore[misc]
        assert code == "INVALID_ARGUMENT"
        assert text == f"images: expected shape [-1, 16, 16, 3]. Received: {list(shape)}"
    x = np.array([2.0], np.float32)
    assert bench.open_odd().predict("half_plus_two", {"x": x})["y"].tolist() == [3.0]


@row(
    "class that does not exist in `explain`",
    theirs="the graph's error",
    ours="INVALID_ARGUMENT: expected and received classes",
    why="OpenVINO answers for any number",
    show_theirs=_theirs_leaves_classes_to_the_graph,
)
def _wrong_class(bench: Bench) -> None:
    inputs = {"images": RED, "class_index": np.array([99], np.int32)}
    text = refusal(lambda: bench.client.predict(MODEL_NAME, inputs, signature="explain"))[1]
    assert text == "class_index: expected -1 to 2. Received: 99 to 99"


@row(
    "texts with `--enable_serialization_as_tensor_content`",
    theirs="in `tensor_content`, lengths first",
    ours="in `string_val`; both are read",
    why="`tf.make_ndarray` reads them there only",
)
def _texts(bench: Bench) -> None:
    client, _ = bench.serve_model(bench.publish("plain", "m"), "--enable_serialization_as_tensor_content")
    client.wait_for("m", 1)
    described = client.call(build_request("m", {"row": np.zeros(1, np.int32)}, signature="describe"))
    assert len(described.outputs["contract"].string_val) == 1
    assert client.call(build_request("m", {"images": RED})).outputs["probabilities"].tensor_content


@row(
    "a short list of values for a large shape",
    theirs="any size, until memory ends",
    ours="INVALID_ARGUMENT above 256 MiB, naming the limit",
    why="a few bytes must not fill memory",
)
def _repeated(bench: Bench) -> None:
    request = build_request(MODEL_NAME, {})
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_UINT8, int_val=[1])
    tensor.tensor_shape.dim.add().size = 1 << 40
    request.inputs["images"].CopyFrom(tensor)
    code, text = refusal(lambda: bench.client.call(request))
    assert code == "INVALID_ARGUMENT" and text.startswith("tensor parsing error: images: 1 values repeated")
    assert "the limit is 268,435,456" in text


@row(
    "batching",
    theirs="`--enable_batching` and a file (which alone is an error); waits `batch_timeout_micros`",
    ours="always on; nothing waits for a batch to fill",
    why="[decision 0014](decisions/0014-batches-without-waiting.md)",
)
def _batching(bench: Bench) -> None:
    path = bench.folder / "batching.config"
    path.write_text("max_batch_size { value: 4 } batch_timeout_micros { value: 100 }")
    flags = (f"--batching_parameters_file={path}", f"--model_config_file={bench.folder / 'absent'}")
    wait_for_line(bench.serve(*flags)[1], "no effect: batch_timeout_micros; nothing waits for a batch to fill")


@row("batch larger than the largest", theirs="refused", ours="run in several batches", why="`score` sends many")
def _large_batch(bench: Bench) -> None:
    client, _ = bench.serve_model(bench.publish("plain", "m"), "--max_batch_size=2")
    client.wait_for("m", 1)
    assert len(client.predict("m", {"images": ZEROS})["probabilities"]) == 5


@row(
    "full queue; deadline in the queue",
    theirs="UNAVAILABLE; RESOURCE_EXHAUSTED",
    ours="RESOURCE_EXHAUSTED; DEADLINE_EXCEEDED",
    why="each says what happened",
)
def _full_queue(bench: Bench) -> None:
    flags = ("--num_streams=1", "--max_batch_size=1", "--max_waiting_calls=2")
    client, _ = bench.serve_model(bench.publish("slow", "m"), *flags)
    client.wait_for("m", 1)
    request = build_request("m", {"images": RED})
    calls = [client.prediction.Predict.future(request, timeout=30) for _ in range(6)]
    assert {call.code() for call in calls} == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    running = client.prediction.Predict.future(request, timeout=30)
    assert refusal(lambda: client.call(request, timeout_s=0.1))[0] == "DEADLINE_EXCEEDED"
    running.result(timeout=30)


@row(
    "metrics",
    theirs="on the REST port, names with colons",
    ours="`--monitoring_port`, names that start with `fovea_modelserver_`",
    why="[decision 0015](decisions/0015-measured-settings-and-metrics.md)",
)
def _metrics(bench: Bench) -> None:
    _, log = bench.serve_model(bench.folder / "m", "--monitoring_port=0")
    wait_for_line(log, "/metrics")
    url = next(word for word in log.read_text().split() if word.startswith("http://"))
    names = [
        line.split()[2]
        for line in httpx2.get(url, trust_env=False, timeout=60).text.splitlines()
        if line.startswith("# TYPE")
    ]
    assert any(name.startswith("fovea_modelserver_") for name in names) and not any(":" in name for name in names)


@row(
    "messages",
    theirs="2 GiB",
    ours="256 MiB; RESOURCE_EXHAUSTED names the limit",
    why="the memory of one call is bounded; `--grpc_channel_arguments=grpc.max_receive_message_length=...` changes it",
)
def _messages(bench: Bench) -> None:
    client, _ = bench.serve_model(bench.folder / "m", "--grpc_channel_arguments=grpc.max_receive_message_length=1000")
    assert refusal(lambda: client.call(build_request("m", {"images": ZEROS})))[0] == "RESOURCE_EXHAUSTED"
    channel = grpc.insecure_channel(bench.client.address, options=[("grpc.max_send_message_length", -1)])
    with channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        code, text = refusal(lambda: call(bytes((256 << 20) + 1), timeout=60))
    assert code == "RESOURCE_EXHAUSTED" and "268435456" in text


@row(
    "keep-alive pings of clients",
    theirs="more often than each five minutes: the connection ends (`too_many_pings`)",
    ours="up to ten a second; `grpc.http2.min_ping_interval_without_data_ms` changes it",
    why="proxies close connections that are silent for a minute",
)
def _pings(bench: Bench) -> None:
    flags = ("--num_streams=1", "--max_batch_size=1")
    client, _ = bench.serve_model(bench.publish("slow", "m"), *flags)
    client.wait_for("m", 1)
    pings = {"grpc.keepalive_time_ms": 1000, "grpc.http2.max_pings_without_data": 0, "grpc.enable_retries": 0}
    with grpc.insecure_channel(client.address, options=[*pings.items()]) as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        request = build_request("m", {"images": np.zeros((12, 16, 16, 3), np.uint8)})
        assert call(request.SerializeToString(), timeout=60)


@row(
    "`--grpc_channel_arguments` that is no list of name=value",
    theirs="the process crashes",
    ours="status 2 and the reason",
    why="",
)
def _arguments(bench: Bench) -> None:
    done = bench.run("--model_config_file=x", "--grpc_channel_arguments=a")
    assert done.returncode == 2
    assert done.stderr.strip().endswith("expected name=value,name=value. Received: 'a'")


@row(
    "encryption (`--ssl_config_file`)",
    theirs="served",
    ours="refused",
    why="keep gRPC on a Unix socket or loopback; the gateway has TLS",
)
def _encryption(bench: Bench) -> None:
    assert bench.run("--model_config_file=x", "--ssl_config_file=x").returncode == 2


@row(
    "TFLite models, graphs of other tags (`--prefer_tflite_model`, `--saved_model_tags`)",
    theirs="served",
    ours="refused",
    why="OpenVINO and TensorFlow run SavedModels tagged `serve`",
)
def _other_models(bench: Bench) -> None:
    for flag in ("--prefer_tflite_model=true", "--saved_model_tags=gpu"):
        assert bench.run("--model_config_file=x", flag).returncode == 2


@row(
    "`:classify`, `:regress`",
    theirs="served",
    ours="400, naming `:predict` and `/v1/predict`",
    why="nothing that serves images uses them",
    table=REST_DIFFERENCES,
)
def _rest_classify(bench: Bench) -> None:
    for verb in ("classify", "regress"):
        reply = bench.open_rest().post(f"/v1/models/half_plus_two:{verb}", json={"examples": [{"x": 2.0}]})
        expected = f"expected :predict, or /v1/predict for named classes. Received: :{verb}"
        assert (reply.status_code, reply.json()) == (400, {"error": expected})


@row(
    "a shape of another rank or size than the signature's",
    theirs="the graph decides",
    ours="400: `Expecting shape [-1,1] but got: [3]`",
    why="a network that pools globally takes any size",
    table=REST_DIFFERENCES,
)
def _rest_shape(bench: Bench) -> None:
    reply = bench.open_rest().post("/v1/models/half_plus_two:predict", json={"instances": [2.0, 3.0, 4.0]})
    assert (reply.status_code, reply.json()) == (400, {"error": "Expecting shape [-1,1] but got: [3]"})


@row(
    "numbers beyond the range of the type",
    theirs="infinity for float, wrapped for small integers",
    ours="400, naming the number",
    why="a wrong pixel is no pixel",
    table=REST_DIFFERENCES,
)
def _rest_range(bench: Bench) -> None:
    reply = bench.open_rest().post("/v1/models/half_plus_three:predict", json={"instances": [1e39]})
    expected = {"error": "Cannot convert JSON value: 1e+39 to float without loss of precision."}
    assert (reply.status_code, reply.json()) == (400, expected)


@row(
    "`GET /v1/models/NAME` with `Accept: application/vnd.fovea+json`",
    theirs="the status alone",
    ours="labels and contract too",
    why="the client and the page need them",
    table=REST_DIFFERENCES,
)
def _rest_document(bench: Bench) -> None:
    accept = {"accept": "application/vnd.fovea+json"}
    document = bench.open_rest().get("/v1/models/half_plus_two", headers=accept).json()
    assert document.keys() == {"name", "labels", "model_version_status", "contract"}
    assert bench.open_rest().get("/v1/models/half_plus_two").json().keys() == {"model_version_status"}


@row(
    "errors of `GET /v1/models/NAME`",
    theirs="`error` is a text",
    ours="`error` has `code`, `message` and `request_id`, as on Fovea's other routes",
    why="the page and the client read the code; verbs and `/metadata` answer with a text",
    table=REST_DIFFERENCES,
)
def _rest_status_errors(bench: Bench) -> None:
    for path, code in (("none", "model_not_found"), ("half_plus_two/versions/9", "version_not_found")):
        reply = bench.open_rest().get(f"/v1/models/{path}")
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, code)


@row(
    "POST of a path with another verb, such as `:generate`",
    theirs="400: `Malformed request: POST /v1/models/...`",
    ours="the same; GET of a verb is 405",
    why="405 names the method",
    table=REST_DIFFERENCES,
)
def _rest_verbs(bench: Bench) -> None:
    path = "/v1/models/half_plus_two:generate"
    reply = bench.open_rest().post(path, json={})
    assert (reply.status_code, reply.json()) == (400, {"error": f"Malformed request: POST {path}"})
    assert bench.open_rest().get("/v1/models/half_plus_two:predict").status_code == 405


def describe(table: Sequence[Difference]) -> list[str]:
    """Returns the page's table of differences."""
    rows = [f"| {row.what} | {row.theirs} | {row.ours} | {row.why} |" for row in table]
    return ["", "| what | TensorFlow Serving | here | why |", "|---|---|---|---|", *rows, ""]
