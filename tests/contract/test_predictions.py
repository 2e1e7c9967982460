"""contract/predictions.py: probabilities become ranked, named classes, exactly."""

import numpy as np
import pytest

from contract.errors import ContractError
from contract.model import Label
from contract.predictions import decode_predictions

LABELS = [Label("n02099712", "Labrador"), Label("b", "beagle"), Label("c", "collie")]


def test_best_first_with_ids_and_names() -> None:
    """Each row is ranked on its own, and every entry carries index, id, name and probability."""
    probabilities = np.array([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25]], np.float32)

    first, second = decode_predictions(probabilities, LABELS, top=2)

    assert [(1, "b", "beagle", 0.7), (0, "n02099712", "Labrador", 0.2)] == [
        (p.index, p.id, p.label, p.probability) for p in first
    ]
    assert [0, 1] == [p.index for p in second]  # a tie keeps class order


def test_probability_has_float32_digits() -> None:
    """The number is the shortest that gives back the same float32, not float64's longer one."""
    value = np.float32(0.9312847)
    ((best,),) = decode_predictions(np.array([[value, 1 - value, 0]], np.float32), LABELS, top=1)

    assert "0.9312847" == repr(best.probability)
    assert value == np.float32(best.probability)


def test_top_beyond_the_classes_gives_all() -> None:
    """Asking for more than there are is not an error here; the gateway decides about that."""
    (row,) = decode_predictions(np.array([[0.2, 0.7, 0.1]], np.float32), LABELS, top=9)

    assert 3 == len(row)


def test_top_below_one_is_an_error() -> None:
    """top=0 must not mean all classes, as it does in Keras."""
    with pytest.raises(ValueError, match="at least 1"):
        decode_predictions(np.array([[0.2, 0.7, 0.1]], np.float32), LABELS, top=0)


@pytest.mark.parametrize(
    ("probabilities", "words"),
    [
        pytest.param([0.2, 0.7, 0.1], r"\(batch, 3\)", id="one-dimension"),
        pytest.param([[0.5, 0.5]], r"Received: \(1, 2\)", id="label-count"),
        pytest.param([[np.nan, 0.5, 0.5]], "finite", id="nan"),
        pytest.param([[3.0, 1.0, -2.0]], "sum to 1", id="logits"),
        pytest.param([[0.5, 0.1, 0.1]], "sum to 1", id="sum"),
    ],
)
def test_what_is_no_distribution_is_refused(probabilities: list[float], words: str) -> None:
    """A model server that answers with something else is found out before a number reaches a person."""
    with pytest.raises(ContractError, match=words):
        decode_predictions(np.array(probabilities, np.float32), LABELS, top=1)


def test_a_thousand_classes_are_ranked_with_their_wordnet_ids() -> None:
    """ImageNet's labels: ids and names, of which some names are the same."""
    labels = [Label(f"n{i:08}", f"name {i // 2}") for i in range(1000)]
    values = np.random.default_rng(0).dirichlet(np.ones(1000), 2).astype(np.float32)
    ranked = decode_predictions(values, labels, 3)

    for row, top in zip(values, ranked, strict=True):
        expected = np.argsort(-row, kind="stable")[:3]
        assert [f"n{i:08}" for i in expected] == [item.id for item in top]
        assert [row[i] for i in expected] == [np.float32(item.probability) for item in top]
