"""pipeline/metrics/document.py: counts of many classes are sparse, both forms are read, JSON is compact."""

import json

import numpy as np
import pytest

from pipeline.evaluation.measure import measure
from pipeline.metrics.document import MAX_WHOLE, format_document, pack_counts, read_cells, reorder_counts


@pytest.mark.parametrize("num_classes", [2, MAX_WHOLE, MAX_WHOLE + 1, 200])
def test_counts_are_read_from_either_form(num_classes: int) -> None:
    """Few classes have every count, many the cells that are not 0; the cells are the same."""
    counts = np.random.default_rng(0).poisson(0.05, (num_classes, num_classes)).astype(np.int64)
    counts[0, 1] = 7

    packed = pack_counts(counts)

    assert isinstance(packed, list) == (num_classes <= MAX_WHOLE)
    expected = [(int(i), int(j), int(counts[i, j])) for i, j in np.argwhere(counts)]
    assert expected == list(read_cells(packed)) == list(read_cells(counts.tolist()))


@pytest.mark.parametrize("num_classes", [5, 50])
def test_counts_follow_another_order_of_classes(num_classes: int) -> None:
    """Rows and columns move together, in both forms."""
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 3, (num_classes, num_classes)).astype(np.int64)
    order = rng.permutation(num_classes).tolist()

    assert pack_counts(counts[np.ix_(order, order)]) == reorder_counts(pack_counts(counts), order)


def test_metrics_of_two_thousand_classes_are_small() -> None:
    """The document grows with classes and images: under 2 MB, where a matrix of counts and rates took 97."""
    rng = np.random.default_rng(0)
    targets = np.arange(4000) % 2000
    probabilities = rng.dirichlet(np.ones(2000) / 100, 4000).astype(np.float32)
    labels = [f"species {i}" for i in range(2000)]

    document = measure(probabilities, targets, labels, intervals=False)

    text = format_document(document)
    assert document == json.loads(text)
    assert len(text) < 2_000_000
    assert document["confusion_rates"] is None
    cells = list(read_cells(document["confusion"]))
    assert 4000 == sum(count for _, _, count in cells)
    hits = sum(count for i, j, count in cells if i == j)
    assert pytest.approx(document["accuracy"]) == hits / 4000
