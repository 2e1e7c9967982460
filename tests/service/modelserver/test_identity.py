"""Over real gRPC, with identifiable images: every caller gets its own image's answer, whatever others do."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from contract.tensors import decode_tensor
from tests.helpers.model_client import ModelClient, build_request
from tests.helpers.server_process import ServerProcess
from tests.helpers.tiny_model import MODEL_NAME, VARIANTS, expected_probabilities

NUM_CALLERS, NUM_CALLS = 6, 25
EXPECTED_ENDS = ("OK", "CANCELLED", "DEADLINE_EXCEEDED", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION")


def build_call(chance: random.Random) -> tuple[Any, np.ndarray, dict[str, Any]]:
    """Return a request, the images in it, and what it was made of; one in six is wrong in some way."""
    images = np.frombuffer(chance.randbytes(chance.choice((1, 1, 2, 5)) * 768), np.uint8).reshape(-1, 16, 16, 3)
    # Each image is one colour of its own, so that no two have the same probabilities.
    images = np.broadcast_to(images[:, :1, :1], images.shape).copy()
    details: dict[str, Any] = {"version": chance.choice((1, 2))}
    inputs: dict[str, Any] = {"images": images}
    if chance.random() < 0.3:
        details["signature"] = "explain"
        inputs["class_index"] = np.full(len(images), chance.choice((-1, 0, 2, 2, 9)), np.int32)
    if chance.random() < 0.15:
        kind = chance.choice(("version", "signature", "dtype", "name"))
        details |= {"version": {"version": 77}, "signature": {"signature": "nothing"}}.get(kind, {})
        if kind == "dtype":
            inputs["images"] = images.astype(np.float32)
        if kind == "name":
            inputs["pictures"] = inputs.pop("images")
    return build_request(MODEL_NAME, inputs, **details), images, details


def act(address: str, seed: str) -> dict[str, int]:
    """Make a caller's calls, some cancelled or with little time; count how they ended."""
    chance = random.Random(seed)
    ends: dict[str, int] = {}
    with ModelClient(address) as client:
        calls = []
        for _ in range(NUM_CALLS):
            request, images, details = build_call(chance)
            timeout_s = 0.002 if chance.random() < 0.1 else 60.0
            call = client.prediction.Predict.future(request, timeout=timeout_s)
            if chance.random() < 0.1:
                call.cancel()
            calls.append((call, images, details))
            if chance.random() < 0.3:
                for made in calls:
                    count(ends, *made)
                calls.clear()
        for made in calls:
            count(ends, *made)
    return ends


def count(ends: dict[str, int], call: Any, images: np.ndarray, details: dict[str, Any]) -> None:
    """Wait for a call, check its answer against plain numpy, and count its end."""
    try:
        response = call.result(timeout=60)
    except grpc.FutureCancelledError:
        ends["CANCELLED"] = ends.get("CANCELLED", 0) + 1
        return
    except grpc.RpcError as err:
        ends[err.code().name] = ends.get(err.code().name, 0) + 1
        return
    ends["OK"] = ends.get("OK", 0) + 1
    assert response.model_spec.version.value == details["version"]
    labels = VARIANTS["plain" if details["version"] == 1 else "permuted"].labels
    actual = decode_tensor(response.outputs["probabilities"])
    np.testing.assert_allclose(actual, expected_probabilities(images, labels), atol=1e-5)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_caller_gets_its_own_images_answer(modelserver: ServerProcess, seed: int) -> None:
    """Six callers at once, two versions, two signatures, cancels, deadlines and wrong requests among them."""
    with ThreadPoolExecutor(NUM_CALLERS) as pool:
        done = list(pool.map(lambda caller: act(modelserver.address, f"{seed} {caller}"), range(NUM_CALLERS)))
    total = {end: sum(ends.get(end, 0) for ends in done) for end in {end for ends in done for end in ends}}
    assert set(total) <= set(EXPECTED_ENDS)
    assert sum(total.values()) == NUM_CALLERS * NUM_CALLS
    assert total["OK"] > NUM_CALLERS * NUM_CALLS / 2 and total["INVALID_ARGUMENT"] > 0
