"""Clients for Python users: images in, named classes out.

with FoveaClient("http://127.0.0.1:8000") as client:
    for prediction in client.predict(["eye.jpg"]).predictions:
        print(prediction.name, prediction.top[0].label, prediction.top[0].probability)

`AsyncFoveaClient` has the same methods, to be awaited.
"""

from service.client.clients import DEFAULT_URL, AsyncFoveaClient, FoveaClient
from service.results import EmbedResult, ExplainResult, FoveaError, HeatMap, ModelInfo, PredictResult, Readiness

__all__ = [
    "DEFAULT_URL",
    "AsyncFoveaClient",
    "EmbedResult",
    "ExplainResult",
    "FoveaClient",
    "FoveaError",
    "HeatMap",
    "ModelInfo",
    "PredictResult",
    "Readiness",
]
