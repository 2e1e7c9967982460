"""The clients of the Open Inference Protocol work with the gateway as they are: tritonclient and KServe's SDK."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import VERSION
from service.key import main
from tests.helpers.client_environment import ClientsUnavailableError, client_python
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.open_inference_clients import IMAGES
from tests.helpers.pictures import COLOURS, encode
from tests.helpers.server_process import ROOT, ServerProcess
from tests.helpers.tiny_model import VARIANTS, build_contract, expected_probabilities

PACKAGES = {"triton": ("tritonclient[http]==2.73.0",), "kserve": ("kserve==0.21.0",)}
LABELS = VARIANTS["permuted"].labels  # version 2 is live
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(name="urls", scope="module")
def fixture_urls(
    modelserver: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, str]]:
    """A gateway without keys, one with, and its key."""
    folder = tmp_path_factory.mktemp("gateways")
    keys = folder / "keys.json"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert 0 == main(["add", "client", "--keys", str(keys)])
    flags = ["gateway", f"--models-dir={modelserver.store.root}", f"--backend={modelserver.address}", "--port=0"]
    started: list[ServiceProcess] = []
    try:
        for name, more in (("open", []), ("keyed", [f"--keys-file={keys}"])):
            (folder / name).mkdir()
            started.append(ServiceProcess([*flags, *more], folder / name))
        urls = [process.wait_for_url() for process in started]
        for process, url in zip(started, urls, strict=True):
            process.wait_until_ready(url)
        yield urls[0], urls[1], printed.getvalue().strip()
    finally:
        for process in started:
            assert 0 == process.stop()


def require_python(client: str) -> Path:
    """Return an interpreter that has the client, or skip the test."""
    try:
        return client_python(PACKAGES[client.partition("_")[0]])
    except ClientsUnavailableError as err:
        pytest.skip(f"the client cannot be installed: {err}")


def run(client: str, urls: tuple[str, str, str], folder: Path) -> dict[str, Any]:
    """Return what a client says."""
    python = require_python(client)
    files = folder / "files"
    files.write_bytes(b"\n".join(base64.b64encode(encode(colour, "PNG", size=60)) for colour in COLOURS))
    command = [str(python), str(ROOT / "tests/helpers/open_inference_clients.py"), client, *urls, str(files)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def check(said: dict[str, Any]) -> None:
    """Check what every client can do."""
    assert [True, True, True] == said["ready"]
    assert said["not_ready"] is False
    for answer in said["answers"]:
        probabilities = np.array(answer).reshape(3, 3)
        assert np.abs(probabilities - expected_probabilities(IMAGES, LABELS)).max() < 0.01
    for rows in said.get("classes", ()):
        assert [name.capitalize() for name in COLOURS] == [row[0].split(":")[2] for row in rows]
        assert [2, 2, 2] == [len(row) for row in rows]
    assert "expected an API key in the header X-API-Key" in said["errors"]["key"]
    assert "no model 'none' is served" in said["errors"]["model"]
    for text in said["errors"].values():
        assert "no error" != text
        assert "exception occurred in the client" not in text, text


def test_tritonclient(urls: tuple[str, str, str], tmp_path: Path) -> None:
    """http, with binary data both ways as it sends them by default, classes, signatures, errors as texts."""
    said = run("triton_http", urls, tmp_path)

    check(said)
    assert {"name": "fovea", "version": VERSION, "extensions": ["binary_tensor_data", "classification"]} == said[
        "server"
    ]
    assert [{"name": "images", "datatype": "UINT8", "shape": [-1, 16, 16, 3]}] == said["model"]["inputs"]
    assert "42" == said["id"]
    expected = expected_probabilities(IMAGES, VARIANTS["plain"].labels)
    assert np.abs(np.array(said["first"]) - expected).max() < 1e-5
    shape, probabilities = said["explain"]
    assert [3, 4, 4] == shape
    assert np.abs(np.array(probabilities) - expected_probabilities(IMAGES, LABELS)).max() < 1e-5
    assert build_contract(VARIANTS["permuted"]).document == json.loads(said["contract"])
    assert "the extension of this parameter is not served" in said["errors"]["sequence"]
    assert "[415] " in said["errors"]["picture"]
    assert "expected an API key" in said["errors"]["key_config"]


@pytest.mark.parametrize("client", ["triton_aio", "kserve_rest"])
def test_asynchronous_clients(client: str, urls: tuple[str, str, str], tmp_path: Path) -> None:
    """tritonclient's, and KServe's InferenceRESTClient."""
    check(run(client, urls, tmp_path))


def test_example_in_the_documentation(urls: tuple[str, str, str], tmp_path: Path) -> None:
    """The block of docs/call.md, asked of this gateway and its model."""
    (example,) = (
        block
        for block in re.findall("```python\n(.*?)```", (ROOT / "docs/call.md").read_text(), re.DOTALL)
        if "tritonclient" in block
    )
    (tmp_path / "eye.jpg").write_bytes(encode("red", "JPEG", size=60))
    code = example.replace("127.0.0.1:8000", urls[0].removeprefix("http://")).replace('"eyes"', '"colours"')
    done = subprocess.run(
        [str(require_python("triton_http")), "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert re.fullmatch(r"\[\[b'0\.99\d+:0:Red' b'\S+:\d:(Blue|Green)'\]\]", done.stdout.strip()), done.stdout
