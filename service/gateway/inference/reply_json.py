"""Builds the JSON of a reply to images: predictions, explanations or embeddings, as `schemas.py` documents it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from contract.model import ModelContract
from contract.predictions import Decision, Prediction
from service.gateway.context.errors import RefusedImageError
from service.gateway.http.json_text import dump, dump_arrays, to_json
from service.gateway.inference.image_results import Answer, Classified, Embedded, Explanation

_DECIMALS = 4  # of a saliency map's values


def predict_reply(answer: Answer[Classified], names: Sequence[str], request_id: str) -> str:
    """Return the reply of POST /v1/predict.

    Args:
        answer: the result of each image.
        names: of the images, in the same order.
        request_id: of the request.
    """
    entries = [
        refused_entry(name, entry)
        if isinstance(entry, RefusedImageError)
        else classified_entry(name, entry.top, entry.decision, entry.warnings)
        for name, entry in zip(names, answer.entries, strict=True)
    ]
    return dump({"model": _model_of(answer), "predictions": entries, "request_id": request_id})


def explain_reply(answer: Answer[Explanation], names: Sequence[str], request_id: str) -> str:
    """Return the reply of POST /v1/explain; see `predict_reply`."""
    entries = [
        refused_entry(name, entry) if isinstance(entry, RefusedImageError) else _explained_entry(name, entry)
        for name, entry in zip(names, answer.entries, strict=True)
    ]
    return dump({"model": _model_of(answer), "explanations": entries, "request_id": request_id})


def embed_reply(answer: Answer[Embedded], names: Sequence[str], request_id: str) -> str:
    """Return the reply of POST /v1/embed; see `predict_reply`."""
    entries = [
        refused_entry(name, entry)
        if isinstance(entry, RefusedImageError)
        else embedded_entry(name, to_json("embedding", entry.vector), entry.warnings)
        for name, entry in zip(names, answer.entries, strict=True)
    ]
    dimension = answer.contract.embedding_dimension
    model = _model_of(answer)
    return dump_arrays({"model": model, "dimension": dimension, "embeddings": entries, "request_id": request_id})


def model_document(name: str, version: int, contract: ModelContract, precision: str) -> dict[str, Any]:
    """Return the model that answered, and the precision that it was computed at."""
    return {"name": name, "version": version, "contract": contract.sha256, "precision": precision}


def refused_entry(name: str, err: RefusedImageError) -> dict[str, Any]:
    """Return the entry of an image that could not be read."""
    return {"name": name, "error": {"code": err.code, "message": str(err)}, "warnings": []}


def classified_entry(
    name: str, top: Sequence[Prediction], decisions: Sequence[Decision], warnings: Sequence[str]
) -> dict[str, Any]:
    """Return the entry of an image with its classes."""
    entry: dict[str, Any] = {"name": name, "top": [_class_document(item) for item in top]}
    if decisions:
        entry["decision"] = [_decision_document(item) for item in decisions]
    entry["warnings"] = list(warnings)
    return entry


def embedded_entry(name: str, vector: Any, warnings: Sequence[str]) -> dict[str, Any]:
    """Return the entry of an image with its vector, a list of numbers or what the writer makes one of."""
    return {"name": name, "embedding": vector, "warnings": list(warnings)}


def _explained_entry(name: str, entry: Explanation) -> dict[str, Any]:
    classified = entry.classified
    rows, columns = entry.saliency.shape
    values = np.round(entry.saliency.astype(np.float64), _DECIMALS).tolist()
    return {
        **classified_entry(name, classified.top, classified.decision, classified.warnings),
        "class": _class_document(entry.explained),
        "saliency": {"rows": rows, "columns": columns, "values": values},
    }


def _model_of(answer: Answer[Any]) -> dict[str, Any]:
    return model_document(answer.name, answer.version, answer.contract, answer.precision)


def _class_document(item: Prediction) -> dict[str, Any]:
    return {"index": item.index, "id": item.id, "label": item.label, "probability": item.probability}


def _decision_document(item: Decision) -> dict[str, Any]:
    return {
        "id": item.id,
        "label": item.label,
        "probability": item.probability,
        "threshold": item.threshold,
        "called": item.called,
        "sensitivity": item.sensitivity,
        "specificity": item.specificity,
    }
