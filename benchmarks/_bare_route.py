"""The least that a FastAPI service can do with an image: read its bytes, answer JSON. What the gateway is compared to.

python -m benchmarks._bare_route PORT
"""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI, Request

app = FastAPI()


@app.post("/v1/predict")
async def count_bytes(request: Request) -> dict[str, int]:
    """Return how many bytes came."""
    return {"bytes": len(await request.body())}


@app.get("/readyz")
async def report_readiness() -> dict[str, str]:
    """Say that it answers."""
    return {"status": "ready"}


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_config=None
    )
