"""FastAPI + `model.predict`: what most tutorials end with. Plain `def`, so Starlette runs it in its threads."""

from __future__ import annotations

from typing import Annotated, Any

import uvicorn
from arguments import HOST, read_arguments
from fastapi import FastAPI, File
from keras_model import KerasModel, decode


def build_app() -> FastAPI:
    """Return the application with its model loaded."""
    app, model = FastAPI(), KerasModel(read_arguments().model)

    @app.post("/predict")
    def predict(file: Annotated[bytes, File()]) -> dict[str, Any]:
        return model.predict(decode(file)[None])[0]

    @app.get("/health")
    def health() -> str:
        return "ok"

    return app


if __name__ == "__main__":
    uvicorn.run(build_app(), host=HOST, port=read_arguments().port, access_log=False)
