"""Groups of operations in the OpenAPI document, in the order in which the API page shows them."""

from __future__ import annotations

FOVEA = "Fovea"
TENSORFLOW_SERVING = "TensorFlow Serving"
OPEN_INFERENCE = "Open Inference"
ADMINISTRATION = "Administration"
GROUPS = [
    {"name": FOVEA, "description": "Images in, named classes, heat maps and vectors out."},
    {"name": TENSORFLOW_SERVING, "description": "TensorFlow Serving's REST API, for its clients."},
    {"name": OPEN_INFERENCE, "description": "The Open Inference Protocol, for clients of KServe and Triton."},
    {"name": ADMINISTRATION, "description": "Health, metrics, and the review of kept images."},
]
