"""Builds the parts of a reply's JSON that predictions and explanations share, as plain dicts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from contract.model import ModelContract
from contract.predictions import Decision, Prediction
from service.gateway.context.errors import RefusedImageError


def model_document(name: str, version: int, contract: ModelContract) -> dict[str, Any]:
    """Return which model answered, as `schemas.ModelRef` documents it."""
    return {"name": name, "version": version, "contract": contract.sha256}


def class_document(item: Prediction) -> dict[str, Any]:
    """Return one class, as `schemas.ClassProbability` documents it."""
    return {"index": item.index, "id": item.id, "label": item.label, "probability": item.probability}


def refused_document(name: str, err: RefusedImageError) -> dict[str, Any]:
    """Return the entry of an image that could not be read."""
    return {"name": name, "error": {"code": err.code, "message": str(err)}, "warnings": []}


def image_document(
    name: str, top: Sequence[Prediction], decisions: Sequence[Decision], warnings: Sequence[str]
) -> dict[str, Any]:
    """Return the entry of a classified image, as `schemas.PredictionEntry` documents it."""
    entry: dict[str, Any] = {"name": name, "top": [class_document(item) for item in top]}
    if decisions:
        entry["decision"] = [_decision_document(item) for item in decisions]
    entry["warnings"] = list(warnings)
    return entry


def dump(document: dict[str, Any]) -> str:
    """Return compact JSON."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


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
