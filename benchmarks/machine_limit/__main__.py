"""`python -m benchmarks.machine_limit`: raw inference and decoding at one setting, whenever stdin asks for it.

The first line is the setting, each other one what to measure and for how long; each is answered by a line of JSON, the
first when everything is compiled. Between them this process sleeps, so that its measurements and a service's can take
turns within the same minute. Nothing but OpenVINO's own queue runs here: no server, no batching layer, nothing of
engine/.
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

from benchmarks.machine_limit.search import SHORT_NAMES
from contract.image import decode_image
from contract.model import InputSpec

_DECODING = 0.25  # of the time under load: decoding is measured more exactly than inference


def main() -> int:
    """Measure what stdin asks for, or convert: `python -m benchmarks.machine_limit SAVED_MODEL IR.xml`."""
    if len(sys.argv) == 3:
        ov.save_model(ov.convert_model(sys.argv[1]), sys.argv[2], compress_to_fp16=False)
        return 0
    machine = Machine(json.loads(sys.stdin.readline()))
    print(json.dumps({}), flush=True)  # ready
    measures = {"full": machine.measure_full, "alone": machine.measure_alone}
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(measures[asked["part"]](asked["seconds"])), flush=True)
    return 0


class Machine:
    """The network and the picture, ready to run.

    Args:
        setting: paths of `model` (IR) and `picture`; `side` of the input in pixels; `precision`; and how the network
            runs under load: `streams` and `batch`.
    """

    def __init__(self, setting: dict[str, Any]) -> None:
        self._setting = setting
        self._picture = Path(setting["picture"]).read_bytes()
        self._spec = InputSpec(setting["side"], setting["side"])
        self._image = decode_image(self._picture, self._spec)[None]
        streams, self._batch = setting["streams"], setting["batch"]
        self._queue = ov.AsyncInferQueue(self._compile(self._batch, streams), 2 * streams)
        self._request = self._compile(1, 1).create_infer_request()
        self._images = np.repeat(self._image, self._batch, axis=0)
        for _ in range(4 * streams):
            self._queue.start_async({0: self._images})
        self._queue.wait_all()
        self._request.infer({0: self._image})

    def measure_full(self, seconds: float) -> dict[str, float]:
        """Keep all streams busy, then decode: images a second, and CPU milliseconds an image of both."""
        begin, begin_cpu, runs = time.monotonic(), time.process_time(), 0
        while time.monotonic() < begin + (1 - _DECODING) * seconds:
            self._queue.start_async({0: self._images})
            runs += 1
        self._queue.wait_all()
        took_s, inference_s = time.monotonic() - begin, time.process_time() - begin_cpu
        begin, begin_cpu, decoded = time.monotonic(), time.process_time(), 0
        while time.monotonic() < begin + _DECODING * seconds:
            decode_image(self._picture, self._spec)
            decoded += 1
        decode_s = time.process_time() - begin_cpu
        return {
            "images_per_s": round(runs * self._batch / took_s, 3),
            "inference_cpu_ms": round(1e3 * inference_s / (runs * self._batch), 4),
            "decode_cpu_ms": round(1e3 * decode_s / decoded, 4),
        }

    def measure_alone(self, seconds: float) -> dict[str, float]:
        """Decode and run one image on all cores, over and over: the median milliseconds of each."""
        engine_s, decode_s, end = [], [], time.monotonic() + seconds
        while time.monotonic() < end or len(engine_s) < 3:
            start = time.perf_counter()
            decode_image(self._picture, self._spec)
            decoded = time.perf_counter()
            self._request.infer({0: self._image})
            engine_s.append(time.perf_counter() - decoded)
            decode_s.append(decoded - start)
        return {
            "engine_ms": round(1e3 * statistics.median(engine_s), 3),
            "decode_ms": round(1e3 * statistics.median(decode_s), 4),
        }

    def _compile(self, batch: int, streams: int) -> Any:
        core, side = ov.Core(), self._setting["side"]
        model = core.read_model(self._setting["model"])
        model.reshape([batch, side, side, 3])
        precision = SHORT_NAMES[self._setting["precision"]]
        properties = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": os.cpu_count() or 1}
        return core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision, **properties})


if __name__ == "__main__":
    sys.exit(main())
