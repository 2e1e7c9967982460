"""`python -m benchmarks.limit`: raw inference and decoding at one setting; settings as JSON in, measurements out.

Nothing but OpenVINO's own queue runs here: no server, no batching layer, nothing of engine/.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from benchmarks.limit.search import SHORT_NAMES
from contract.image import decode_image
from contract.model import InputSpec


def main() -> int:
    """Measure what stdin asks for, or convert a SavedModel first: `python -m benchmarks.limit SAVED_MODEL IR.xml`."""
    if len(sys.argv) == 3:
        ov.save_model(ov.convert_model(sys.argv[1]), sys.argv[2], compress_to_fp16=False)
        return 0
    asked = json.loads(sys.stdin.read())
    pixels = decode_image(Path(asked["picture"]).read_bytes(), InputSpec(asked["side"], asked["side"]))
    measured = {
        "inference": measure_throughput(asked, pixels),
        "engine_ms": measure_latency(asked, pixels),
        "decode": measure_decoding(asked),
    }
    print(json.dumps(measured))
    return 0


def measure_throughput(asked: dict[str, Any], pixels: np.ndarray) -> dict[str, float]:
    """Keep all streams busy; return images a second and CPU milliseconds an image."""
    batch = asked["batch"]
    properties = {"NUM_STREAMS": asked["streams"], "INFERENCE_NUM_THREADS": os.cpu_count() or 1}
    compiled = _compile(asked, batch, properties)
    queue = ov.AsyncInferQueue(compiled, 2 * asked["streams"])
    images = np.repeat(pixels[None], batch, axis=0)
    for _ in range(4 * asked["streams"]):
        queue.start_async({0: images})
    queue.wait_all()
    begin, begin_cpu, runs = time.monotonic(), time.process_time(), 0
    while time.monotonic() < begin + asked["seconds"]:
        queue.start_async({0: images})
        runs += 1
    queue.wait_all()
    seconds, cpu_s = time.monotonic() - begin, time.process_time() - begin_cpu
    return {
        "images_per_s": round(runs * batch / seconds, 3),
        "cpu_ms": round(1e3 * cpu_s / (runs * batch), 4),
    }


def measure_latency(asked: dict[str, Any], pixels: np.ndarray) -> float:
    """Return the median milliseconds of single runs of one image on all cores."""
    compiled = _compile(asked, 1, {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": os.cpu_count() or 1})
    request = compiled.create_infer_request()
    times, end = [], time.monotonic() + asked["seconds"] / 2
    while time.monotonic() < end or len(times) < 3:
        start = time.perf_counter()
        request.infer({0: pixels[None]})
        times.append(time.perf_counter() - start)
    return round(1e3 * statistics.median(times[1:]), 3)


def measure_decoding(asked: dict[str, Any]) -> dict[str, float]:
    """Return milliseconds and CPU milliseconds that decoding the picture takes, one at a time."""
    data, spec = Path(asked["picture"]).read_bytes(), InputSpec(asked["side"], asked["side"])
    decode_image(data, spec)
    times, begin_cpu, end = [], time.process_time(), time.monotonic() + asked["seconds"] / 4
    while time.monotonic() < end or not times:
        start = time.perf_counter()
        decode_image(data, spec)
        times.append(time.perf_counter() - start)
    cpu_s = time.process_time() - begin_cpu
    return {"ms": round(1e3 * statistics.median(times), 4), "cpu_ms": round(1e3 * cpu_s / len(times), 4)}


def _compile(asked: dict[str, Any], batch: int, properties: dict[str, Any]) -> Any:
    core = ov.Core()
    model = core.read_model(asked["model"])
    model.reshape([batch, asked["side"], asked["side"], 3])
    precision = SHORT_NAMES[asked["precision"]]
    return core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision, **properties})


if __name__ == "__main__":
    sys.exit(main())
