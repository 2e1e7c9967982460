"""Our server differs from TensorFlow Serving as the table says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.bench import Bench
from tests.conformance.differences import DIFFERENCES, REST_DIFFERENCES, Difference
from tests.helpers.model_client import ModelClient
from tests.helpers.tiny_model import MODEL_NAME


@pytest.fixture
def bench(
    request: pytest.FixtureRequest, tmp_path: Path, tiny_models: dict[str, Path], model_client: ModelClient
) -> Iterator[Bench]:
    """The servers of the cases; those of odd models start with the first case that asks for them."""
    made = Bench(
        tmp_path,
        tiny_models,
        model_client,
        lambda: request.getfixturevalue("odd_models"),
        lambda: request.getfixturevalue("rest"),
    )
    yield made
    made.close()


@pytest.mark.parametrize("difference", [*DIFFERENCES, *REST_DIFFERENCES], ids=lambda row: row.show.__name__.strip("_"))
def test_our_server_differs_as_the_table_says(bench: Bench, difference: Difference) -> None:
    """Each row's case runs against our server."""
    difference.show(bench)


@pytest.mark.docker
@pytest.mark.parametrize(
    "difference", [row for row in DIFFERENCES if row.show_theirs], ids=lambda row: row.show.__name__.strip("_")
)
def test_tensorflow_serving_differs_as_the_table_says(tensorflow_serving: str, difference: Difference) -> None:
    """The rows that calls alone can show run against TensorFlow Serving too."""
    assert difference.show_theirs is not None
    with ModelClient(tensorflow_serving) as client:
        client.wait_for(MODEL_NAME, 2)
        difference.show_theirs(client)
