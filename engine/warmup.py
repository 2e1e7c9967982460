"""Warm-up requests that travel with a model: a TFRecord file of PredictionLog messages, as TensorFlow Serving reads.

A TFRecord is, for each record: length (uint64), checksum of the length (uint32), the bytes, checksum of the bytes
(uint32), all little-endian. The checksum is CRC-32C, rotated right by 15 bits plus a constant.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from contract.files.regular import read_regular
from contract.tensors import encode_tensor, predict_pb2, prediction_log_pb2
from engine.errors import ModelLoadError

MAX_RECORDS = 1000  # TensorFlow Serving's own limit
_POLYNOMIAL = 0x82F63B78  # CRC-32C, bits reversed
_MASK_DELTA = 0xA282EAD8
_NOT_TFRECORD = "Please verify your warmup data is in TFRecord format"

PredictRequest = Any  # a tensorflow.serving.PredictRequest message; the stubs have no types


def build_warmup_request(signature: str, inputs: dict[str, NDArray[Any]]) -> PredictRequest:
    """Return a request that names a signature and no model: the caller adds the model.

    Args:
        signature: such as "serving_default".
        inputs: by input name, batch axis first.
    """
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(encode_tensor(array))
    return request


def write_warmup_records(path: Path, requests: Iterable[PredictRequest]) -> None:
    """Write the warm-up file of a version, `contract.store.WARMUP_FILE` in its folder.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for request in requests:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            file.write(frame_record(log.SerializeToString()))


def read_warmup_records(path: Path) -> list[PredictRequest]:
    """Return the requests of a warm-up file; an absent file holds none.

    Raises:
        ModelLoadError: if the file is not a TFRecord file of predict requests, is damaged, or is too long.
    """
    try:
        data = read_regular(path)
    except FileNotFoundError:
        return []
    except OSError as err:
        raise ModelLoadError(f"the warmup records cannot be read: {err.strerror or err}", code="UNAVAILABLE") from err
    requests = [_parse_record(record) for record in _unframe(data)]
    if len(requests) > MAX_RECORDS:
        raise ModelLoadError(
            f"Number of warmup records exceeds the maximum ({MAX_RECORDS}). Received: {len(requests)}",
            code="INVALID_ARGUMENT",
        )
    return requests


def _parse_record(record: bytes) -> PredictRequest:
    log = prediction_log_pb2.PredictionLog()
    try:
        log.ParseFromString(record)
    except DecodeError as err:
        raise ModelLoadError("Failed to parse warmup record", code="INVALID_ARGUMENT") from err
    kind = log.WhichOneof("log_type")
    if kind != "predict_log":
        raise ModelLoadError(f"a warmup record: expected predict_log. Received: {kind}", code="UNIMPLEMENTED")
    return log.predict_log.request


def frame_record(record: bytes) -> bytes:
    """Return the bytes of one TFRecord: lengths and checksums around the data."""
    length = struct.pack("<Q", len(record))
    return b"".join(
        (length, struct.pack("<I", _masked_crc(length)), record, struct.pack("<I", _masked_crc(record))),
    )


def _unframe(data: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        header = data[position : position + 12]
        if len(header) < 12 or struct.unpack("<I", header[8:])[0] != _masked_crc(header[:8]):
            raise ModelLoadError(_NOT_TFRECORD, code="DATA_LOSS")
        end = position + 12 + struct.unpack("<Q", header[:8])[0]
        if end + 4 > len(data) or struct.unpack("<I", data[end : end + 4])[0] != _masked_crc(data[position + 12 : end]):
            raise ModelLoadError(_NOT_TFRECORD, code="DATA_LOSS")
        yield data[position + 12 : end]
        position = end + 4


def _masked_crc(data: bytes) -> int:
    table = _crc_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


@functools.cache
def _crc_table() -> tuple[int, ...]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return tuple(int(value) for value in table)
