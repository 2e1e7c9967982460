"""docs/offline.md: packages and images are fetched once, carried over, and installed where there is no network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import docker
import pytest

from tests.docs.blocks import DOCS, Block, read_blocks
from tests.network_guard import CLOSED_PROXY
from tests.repository.project import ROOT

pytestmark = pytest.mark.docker

TIMEOUT_S = 900
# Everything is 2 GB; the commands are the same for what the gateway needs.
LOCK = "requirements-gateway.lock"


def offline_blocks() -> list[Block]:
    """Return the page's blocks that are run here."""
    return [block for block in read_blocks(DOCS / "offline.md") if block.elsewhere == Path(__file__).resolve()]


def run(text: str, folder: Path, **environ: str) -> str:
    """Run shell commands and return what they print."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env={**os.environ, "PATH": programs, **environ},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def test_wheelhouse_installs_without_an_index(tmp_path: Path) -> None:
    """The second block installs the packages of the first behind a closed proxy; the gateway then starts."""
    fetch, install = (block.text.replace("requirements.lock", LOCK) for block in offline_blocks()[:2])
    for name in (LOCK, "contract", "service"):
        (tmp_path / name).symlink_to(ROOT / name)
    proxies = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")

    run(fetch, tmp_path, **dict.fromkeys(proxies, ""))
    run(install, tmp_path, **dict.fromkeys(proxies, CLOSED_PROXY))

    assert "usage" in run(".venv/bin/python -m service gateway --help", tmp_path)
    assert list((tmp_path / "wheelhouse").glob("*.whl"))


def test_saved_image_is_the_same_again(engine: docker.DockerClient, gateway_image: str, tmp_path: Path) -> None:
    """`docker save` and `docker load` as on the page, with one image instead of three."""
    tag = "fovea-gateway:saved"
    engine.images.get(gateway_image).tag(tag)
    save = next(
        line for block in offline_blocks() for line in block.text.splitlines() if line.startswith("docker save")
    )
    load = next(line for block in offline_blocks() for line in block.text.splitlines() if "docker load" in line)
    images = save.removeprefix("docker save ").split(" | ")[0]
    try:
        run(save.replace(images, tag), tmp_path)
        engine.images.remove(tag)
        assert tag in run(load, tmp_path)
        assert gateway_image == engine.images.get(tag).id
    finally:
        engine.images.remove(tag)
