"""With TensorFlow installed, a SavedModel of another project that OpenVINO cannot read is served."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.helpers.model_client import ModelClient
from tests.helpers.pictures import encode
from tests.helpers.server_process import ROOT, run_server, wait_for_address
from tests.helpers.stranger_model import NAMES

COLOURS = ("blue", "red", "green")


def test_any_saved_model_that_tensorflow_runs_is_served(tmp_path: Path) -> None:
    """Texts in and out, a table with its file, a scalar input: answered, described, and refused in the usual words."""
    base = tmp_path / "stranger"
    build = [sys.executable, "-m", "tests.helpers.stranger_model", str(base / "7")]
    base.mkdir()
    subprocess.run(build, cwd=ROOT, check=True, timeout=300)
    command = [sys.executable, "-m", "service.modelserver", "--model_name=stranger", f"--model_base_path={base}"]
    log = tmp_path / "log"
    process = run_server([*command, "--port=0", f"--tuning_cache={tmp_path / 'tuning'}"], log)
    try:
        with ModelClient(wait_for_address(process, log)) as client:
            client.wait_for("stranger", 7, timeout_s=240)
            pictures = np.array([encode(colour) for colour in COLOURS], dtype=object)

            answer = client.predict("stranger", {"pictures": pictures, "gain": np.float32(2)})

            assert [name.decode() for name in answer["names"]] == list(COLOURS)
            assert [NAMES[index] for index in answer["means"].argmax(axis=1)] == list(COLOURS)
            single = client.predict("stranger", {"pictures": pictures[:1], "gain": np.float32(1)}, outputs=["means"])
            assert list(single) == ["means"]
            np.testing.assert_allclose(single["means"] * 2, answer["means"][:1], rtol=1e-6)
            assert set(client.metadata("stranger")["serving_default"].inputs) == {"pictures", "gain"}
            with pytest.raises(grpc.RpcError) as caught:
                client.predict("stranger", {"pictures": np.array([b"no picture"], object), "gain": np.float32(1)})
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    finally:
        process.terminate()
        process.wait(60)
    assert "stranger/7: available (tensorflow" in log.read_text()
