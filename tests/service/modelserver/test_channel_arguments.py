"""--grpc_channel_arguments, and clients that ping to keep their connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from contract.store import ModelStore
from contract.tensors import prediction_service_pb2_grpc
from service.modelserver.options import parse_options
from tests.conftest import StartModelServer
from tests.helpers.model_client import ModelClient, build_request
from tests.helpers.tiny_model import MODEL_NAME, publish_variant

PINGS = (
    ("grpc.keepalive_time_ms", 200),  # gRPC's clients make a second of it
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),  # channels of the same options would share a connection
)
# Each image runs for half a second.
LONG = build_request(MODEL_NAME, {"images": np.zeros((12, 16, 16, 3), np.uint8)})
ENDLESS = build_request(MODEL_NAME, {"images": np.zeros((100, 16, 16, 3), np.uint8)})
STRICT = "--grpc_channel_arguments=grpc.http2.min_ping_interval_without_data_ms=300000"


def serve_slowly(start: StartModelServer, store: ModelStore, models: dict[str, Path], *flags: str) -> str:
    """Starts a server whose model runs one image at a time, and returns its address."""
    publish_variant(store, models["slow"])
    server = start(store, "--num_streams=1", "--max_batch_size=1", *flags)
    with ModelClient(server.address) as client:
        client.wait_for(MODEL_NAME, 1)
    return server.address


def test_pings_do_not_end_a_long_call_nor_an_idle_connection(
    tmp_path: Path, tiny_models: dict[str, Path], start_modelserver: StartModelServer
) -> None:
    """Clients that ping every second, one in a call of six seconds and one meanwhile idle, keep their connections."""
    address = serve_slowly(start_modelserver, ModelStore(tmp_path / "models"), tiny_models)
    states: list[grpc.ChannelConnectivity] = []
    with grpc.insecure_channel(address, options=PINGS) as idle, grpc.insecure_channel(address, options=PINGS) as busy:
        grpc.channel_ready_future(idle).result(timeout=30)
        idle.subscribe(states.append)
        answer = prediction_service_pb2_grpc.PredictionServiceStub(busy).Predict(LONG, timeout=60)
    assert answer.outputs["probabilities"].tensor_shape.dim[0].size == 12
    assert set(states) == {grpc.ChannelConnectivity.READY}


def test_the_arguments_decide_how_often_a_client_may_ping(
    tmp_path: Path, tiny_models: dict[str, Path], start_modelserver: StartModelServer
) -> None:
    """With gRPC's own interval the same client loses its connection in the middle of the call."""
    address = serve_slowly(start_modelserver, ModelStore(tmp_path / "models"), tiny_models, STRICT)
    with grpc.insecure_channel(address, options=PINGS) as channel, pytest.raises(grpc.RpcError) as caught:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(ENDLESS, timeout=60)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "Too many pings")


def test_arguments_replace_the_servers_own_and_unknown_ones_are_ignored(
    store: ModelStore, start_modelserver: StartModelServer
) -> None:
    """TensorFlow Serving's test passes one that means nothing to a server, which then serves all the same."""
    arguments = "grpc.lb_policy_name=grpclb,grpc.max_receive_message_length=2000,grpc.so_reuseaddr=1"
    server = start_modelserver(store, f"--grpc_channel_arguments={arguments}")
    with ModelClient(server.address) as client:
        client.wait_for(MODEL_NAME, 1)
        client.predict(MODEL_NAME, {"images": np.zeros((1, 16, 16, 3), np.uint8)})
        with pytest.raises(grpc.RpcError) as caught:
            client.call(LONG)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "2000" in caught.value.details()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("a.b=1,c=-1,", (("a.b", 1), ("c", -1))),
        ("a=2147483647,b=2147483648", (("a", 2147483647), ("b", "2147483648"))),
        ("a=b,c=", (("a", "b"), ("c", ""))),
    ],
)
def test_arguments_are_numbers_or_texts(text: str, expected: Any) -> None:
    """As in TensorFlow Serving, what is a 32-bit number is passed as one and anything else as text."""
    options = parse_options(["--model_config_file=x", f"--grpc_channel_arguments={text}"])
    assert options.grpc_channel_arguments == expected


@pytest.mark.parametrize("text", ["a", "=1", "a=1=2", "a=1,b"])
def test_wrong_arguments_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An argument without name and value ends the process with the reason."""
    with pytest.raises(SystemExit):
        parse_options(["--model_config_file=x", f"--grpc_channel_arguments={text}"])
    assert f"expected name=value,name=value. Received: {text!r}" in capsys.readouterr().err
