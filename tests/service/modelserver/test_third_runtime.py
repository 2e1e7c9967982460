"""A runtime that a line registers is served like those that ship."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from engine.runtime import RUNTIMES
from service.modelserver.options import build_parser, parse_options
from service.modelserver.server import running_server
from tests.helpers.halving_runtime import FILE
from tests.helpers.model_client import ModelClient


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers the runtime."""
    monkeypatch.setitem(RUNTIMES, "halving", "tests.helpers.halving_runtime")


@pytest.mark.parametrize("engine", ["auto", "halving"])
def test_it_serves_predictions(tmp_path: Path, engine: str) -> None:
    """A model server that is told of it answers Predict over gRPC, batched and measured as any model."""
    (tmp_path / "halves" / "1").mkdir(parents=True)
    (tmp_path / "halves" / "1" / FILE).write_text('{"offset": 1}')
    flags = [f"--engine={engine}", "--port=0", "--model_name=halves", f"--model_base_path={tmp_path / 'halves'}"]
    options = parse_options([*flags, f"--tuning_cache={tmp_path / 'tuning'}"])
    x = np.array([2, 4, 8], np.float32)

    def ask(address: str) -> list[float]:
        with ModelClient(address) as client:
            client.wait_for("halves", 1)
            return client.predict("halves", {"x": x})["y"].tolist()

    async def serve() -> list[float]:
        async with running_server(options) as (address,):
            return await asyncio.to_thread(ask, address)

    assert [2.0, 3.0, 5.0] == asyncio.run(serve())


def test_it_is_listed() -> None:
    """The help of --engine names it."""
    assert "auto, openvino, tensorflow, halving" in " ".join(build_parser().format_help().split())
