"""The signature `embed`: the pooled features of an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from service.gateway.context.errors import BrokenContractError, NoEmbeddingError
from service.gateway.inference.image_results import Embedded
from service.gateway.inference.prediction import find_warnings
from service.gateway.inference.signature import Served

_EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class EmbedSignature:
    """Turns images into vectors; see `Signature`."""

    name: ClassVar = "embed"
    outputs: ClassVar = (_EMBEDDING,)
    is_batched: ClassVar = True

    def check(self, served: Served) -> None:
        """Check that the version has embeddings."""
        if served.contract.embedding_dimension is None:
            raise NoEmbeddingError(
                f"{served.name} version {served.version} has no embeddings: it was imported, or published before there "
                "were any"
            )

    def extra_inputs(self, served: Served, num_images: int) -> Mapping[str, NDArray[Any]]:
        """Return nothing: the images are the only input."""
        return {}

    def decode(
        self, served: Served, images: NDArray[np.uint8], outputs: Mapping[str, NDArray[np.floating]]
    ) -> list[Embedded]:
        """Return each image's vector."""
        vectors = outputs[_EMBEDDING].astype(np.float32, copy=False)
        expected = (len(images), served.contract.embedding_dimension)
        if vectors.shape != expected or not np.isfinite(vectors).all():
            raise BrokenContractError(
                f"expected finite embeddings of shape {expected} from the model server. Received: {vectors.shape}"
            )
        warnings = find_warnings(images, served.contract)
        return [Embedded(vector, found) for vector, found in zip(vectors, warnings, strict=True)]
