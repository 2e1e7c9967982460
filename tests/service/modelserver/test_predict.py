"""Predict, metadata and status of a real server."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.model_client import AVAILABLE, ModelClient, build_request
from tests.helpers.tiny_model import MODEL_NAME, VARIANTS, build_contract, build_image, expected_probabilities


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_probabilities_are_the_models(model_client: ModelClient, batch: int) -> None:
    """Every image of a batch gets the probabilities that plain numpy computes for it."""
    images = np.random.default_rng(batch).integers(0, 256, (batch, 16, 16, 3), dtype=np.uint8)
    expected = expected_probabilities(images, VARIANTS["plain"].labels)
    actual = model_client.predict(MODEL_NAME, {"images": images}, version=1)["probabilities"]
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_no_version_means_the_newest(model_client: ModelClient) -> None:
    """A request without a version is answered by the newest one, and the reply says which that is."""
    response = model_client.call(build_request(MODEL_NAME, {"images": build_image("red", 16)[None]}))
    assert (response.model_spec.name, response.model_spec.version.value) == (MODEL_NAME, 2)
    assert response.model_spec.signature_name == "serving_default"
    assert [name for name in response.outputs] == ["probabilities"]
    assert len(response.outputs["probabilities"].float_val) == len(VARIANTS["plain"].labels)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_explain_gives_a_map_for_each_image(model_client: ModelClient, batch: int) -> None:
    """`explain` returns one saliency map an image, in [0, 1], and the probabilities of `serving_default`."""
    images = np.stack([build_image("green", 16)] * batch)
    outputs = model_client.predict(
        MODEL_NAME, {"images": images, "class_index": np.full(batch, -1, np.int32)}, signature="explain", version=1
    )
    assert outputs["saliency"].shape == (batch, 4, 4)
    assert outputs["saliency"].min() >= 0 and outputs["saliency"].max() == pytest.approx(1)
    np.testing.assert_allclose(
        outputs["probabilities"], expected_probabilities(images, VARIANTS["plain"].labels), atol=1e-5
    )


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_describe_returns_the_contract_in_every_row(model_client: ModelClient, batch: int) -> None:
    """`describe` returns the version's contract as JSON, once a row."""
    outputs = model_client.predict(MODEL_NAME, {"row": np.zeros(batch, np.int32)}, signature="describe", version=1)
    assert outputs["contract"].tolist() == [build_contract(VARIANTS["plain"]).to_json().encode()] * batch


def test_output_filter_returns_only_what_is_asked(model_client: ModelClient) -> None:
    """Outputs that are not in the filter are not sent."""
    inputs = {"images": build_image("red", 16)[None], "class_index": np.array([-1], np.int32)}
    outputs = model_client.predict(MODEL_NAME, inputs, signature="explain", outputs=["saliency"])
    assert list(outputs) == ["saliency"]


def test_metadata_lists_the_signatures(model_client: ModelClient) -> None:
    """GetModelMetadata returns the three signatures and not TensorFlow's internal one."""
    signatures = model_client.metadata(MODEL_NAME)
    assert sorted(signatures) == ["describe", "explain", "serving_default"]
    sizes = [dim.size for dim in signatures["serving_default"].inputs["images"].tensor_shape.dim]
    assert sizes == [-1, 16, 16, 3]


def test_status_lists_versions_newest_first(model_client: ModelClient) -> None:
    """GetModelStatus returns every version with its state, descending, with an OK status."""
    statuses = model_client.status(MODEL_NAME)
    assert list(statuses) == [2, 1]
    assert [status.state for status in statuses.values()] == [AVAILABLE, AVAILABLE]
    assert [status.status.error_code for status in statuses.values()] == [0, 0]


def test_messages_above_four_mebibytes_pass(model_client: ModelClient) -> None:
    """8,192 images of 16x16, 6 MiB, are taken in one call, far above gRPC's own limit."""
    images = np.zeros((8192, 16, 16, 3), np.uint8)
    outputs = model_client.predict(MODEL_NAME, {"images": images}, version=1)
    assert outputs["probabilities"].shape == (8192, 3)
