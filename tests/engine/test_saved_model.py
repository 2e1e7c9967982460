"""Signatures and warm-up records are read without TensorFlow, and as TensorFlow writes them."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from contract.store import WARMUP_FILE
from contract.tensors import decode_tensor, prediction_log_pb2, saved_model_pb2
from engine.errors import ModelLoadError
from engine.saved_model import copy_as_default, read_signatures
from engine.warmup import build_warmup_request, frame_record, read_warmup_records, write_warmup_records
from tests.helpers.server_process import ROOT
from tests.helpers.tiny_model import VARIANTS, build_contract


def test_signatures_are_read_without_tensorflow(tiny_models: dict[str, Path]) -> None:
    """Reading the signatures, and importing engine/ whole, does not import TensorFlow."""
    code = (
        "import sys, pathlib, engine.loading, engine.saved_model as s\n"
        "print(sorted(s.read_signatures(pathlib.Path(sys.argv[1]))), 'tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tiny_models["plain"])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "['describe', 'explain', 'serving_default'] False"


def test_only_the_graph_for_serving_counts(tmp_path: Path) -> None:
    """A SavedModel without a graph that is tagged "serve" is a load error that says so."""
    saved_model = saved_model_pb2.SavedModel()
    saved_model.meta_graphs.add().meta_info_def.tags.append("train")
    (tmp_path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    with pytest.raises(ModelLoadError, match="expected one tagged 'serve'"):
        read_signatures(tmp_path)


@pytest.mark.parametrize(
    ("data", "text", "code"),
    [
        (None, "there is no SavedModel", "NOT_FOUND"),
        (b"", "the SavedModel has no graph for serving", "NOT_FOUND"),
        *(
            (data, "saved_model.pb is corrupt", "DATA_LOSS")
            for data in (b"\xff\xff", b"\x12\x05\x0a", b"\x0f", b"\x12" + b"\xff" * 11)
        ),
    ],
    ids=["missing", "empty", "no number", "cut short", "no wire type", "number too long"],
)
def test_a_missing_or_corrupt_graph_says_so(tmp_path: Path, data: bytes | None, text: str, code: str) -> None:
    """Missing and corrupt graph files are told apart, in words and code."""
    if data is not None:
        (tmp_path / "saved_model.pb").write_bytes(data)
    with pytest.raises(ModelLoadError, match=text) as caught:
        read_signatures(tmp_path)
    assert caught.value.code == code


def test_signatures_are_those_of_the_whole_message(tiny_models: dict[str, Path]) -> None:
    """Reading around the graph gives what parsing the whole file gives."""
    for directory in tiny_models.values():
        whole = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
        expected = dict(whole.meta_graphs[0].signature_def)
        del expected["__saved_model_init_op"]
        assert dict(read_signatures(directory)) == expected


def test_warmup_records_come_back(tmp_path: Path) -> None:
    """Written records are read: signature and inputs of each, in order."""
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    requests = [build_warmup_request(name, {"images": images}) for name in ("serving_default", "explain")]
    write_warmup_records(tmp_path / WARMUP_FILE, requests)
    read = read_warmup_records(tmp_path / WARMUP_FILE)
    assert [request.model_spec.signature_name for request in read] == ["serving_default", "explain"]
    np.testing.assert_array_equal(decode_tensor(read[0].inputs["images"]), images)


def test_tensorflow_reads_the_same_records(tiny_models: dict[str, Path]) -> None:
    """TensorFlow's own reader, which checks both checksums, gives the same messages."""
    code = (
        "import os, sys; os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'\n"
        "import tensorflow as tf\n"
        "for record in tf.data.TFRecordDataset(sys.argv[1]): print(record.numpy().hex())"
    )
    path = tiny_models["plain"] / WARMUP_FILE
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    logs = [prediction_log_pb2.PredictionLog.FromString(bytes.fromhex(line)) for line in done.stdout.split()]
    assert [log.predict_log.request for log in logs] == read_warmup_records(path)


def flip(data: bytes, position: int) -> bytes:
    """Return the bytes with one bit changed."""
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:5],
        lambda data: flip(data, 0),
        lambda data: flip(data, 40),
        lambda data: flip(data, len(data) - 1),
        lambda data: b"not records at all",
    ],
    ids=["truncated", "half a header", "length", "contents", "checksum", "another file"],
)
def test_damaged_records_are_refused(tmp_path: Path, tiny_models: dict[str, Path], damage: object) -> None:
    """Any damage to the file is found, with TensorFlow Serving's advice."""
    path = tmp_path / "records"
    path.write_bytes(damage((tiny_models["plain"] / WARMUP_FILE).read_bytes()))
    with pytest.raises(ModelLoadError, match="Please verify your warmup data is in TFRecord format"):
        read_warmup_records(path)


def test_more_than_a_thousand_records_are_refused(tmp_path: Path) -> None:
    """TensorFlow Serving's limit on the number of records holds here too."""
    write_warmup_records(tmp_path / "records", [build_warmup_request("describe", {})] * 1001)
    with pytest.raises(ModelLoadError, match=r"exceeds the maximum \(1000\)"):
        read_warmup_records(tmp_path / "records")


def test_records_of_another_kind_are_refused(tmp_path: Path) -> None:
    """A record that is not of a Predict call is refused by the kind it has."""
    log = prediction_log_pb2.PredictionLog()
    log.regress_log.SetInParent()
    (tmp_path / "records").write_bytes(frame_record(log.SerializeToString()))
    with pytest.raises(ModelLoadError, match=r"expected predict_log. Received: regress_log"):
        read_warmup_records(tmp_path / "records")
    (tmp_path / "records").write_bytes(frame_record(struct.pack("<I", 0xFFFFFFFF)))
    with pytest.raises(ModelLoadError, match="Failed to parse warmup record"):
        read_warmup_records(tmp_path / "records")


def test_a_copy_of_one_signature_leaves_the_others_functions_out(tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    """The copy's `serving_default` is the signature that was asked for; the contract that `describe` holds is gone."""
    copy_as_default(tiny_models["plain"], "explain", tmp_path)
    assert sorted(read_signatures(tmp_path)["serving_default"].outputs) == ["probabilities", "saliency"]
    contract = build_contract(VARIANTS["plain"]).to_json().encode()
    whole, copied = (folder / "saved_model.pb" for folder in (tiny_models["plain"], tmp_path))
    assert contract in whole.read_bytes()
    assert contract not in copied.read_bytes()
    assert (tmp_path / "variables" / "variables.index").is_file()
