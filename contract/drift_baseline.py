"""Answers of a version on its test images: the baseline that answers in production are compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from contract.errors import ContractError


@dataclass(frozen=True, slots=True)
class DriftBaseline:
    """The answers of a version on its test images.

    Attributes:
        images: number of test images.
        class_shares: by label id, the share of images in which the label was most probable, 0 to 1.
        mean_probability: of the most probable class, 0 to 1.
        warning_shares: by warning code, the share of images with that warning, 0 to 1.
    """

    images: int
    class_shares: Mapping[str, float]
    mean_probability: float
    warning_shares: Mapping[str, float]

    def document(self) -> dict[str, Any]:
        """Return the contract's JSON."""
        return asdict(self)


def read_drift_baseline(document: object) -> DriftBaseline | None:
    """Return the drift baseline of a contract; None without one.

    Raises:
        ContractError: if it is not complete, or a share is not in [0, 1].
    """
    if document is None:
        return None
    if not isinstance(document, Mapping):
        raise ContractError(f"drift_baseline: expected an object. Received: {document!r}")
    try:
        found = DriftBaseline(
            int(document["images"]),
            {str(label): float(share) for label, share in document["class_shares"].items()},
            float(document["mean_probability"]),
            {str(code): float(share) for code, share in document["warning_shares"].items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as err:
        raise ContractError(
            "drift_baseline: expected numbers for images, class_shares, mean_probability and warning_shares"
        ) from err
    shares = [found.mean_probability, *found.class_shares.values(), *found.warning_shares.values()]
    if not all(math.isfinite(share) and 0 <= share <= 1 for share in shares):
        raise ContractError(f"drift_baseline: expected shares in [0, 1]. Received: {shares}")
    return found
