"""--executor, --address and --workers: what makes no sense is refused before anything is read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from contract.store import ModelStore
from pipeline.__main__ import main
from tests.helpers.image_sets import png, write_files


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--executor=local", "--workers=2"], "--workers: expected --executor ray with it"),
        (["--address=127.0.0.1:6379"], "--address: expected --executor ray with it"),
        (["--executor=ray", "--workers=0"], "--workers: expected 1 to 10000. Received: 0"),
        (["--executor=ray", "--address=auto"], "--address: expected HOST:PORT of the cluster's head"),
        (["--executor=ray", "--address=ray://10.0.0.1:10001"], "Received: ray://10.0.0.1:10001"),
        (["--executor=ray", "--address=127.0.0.1:0"], "Received: 127.0.0.1:0"),
        (["--executor=ray", "--address=127.0.0.1:70000"], "Received: 127.0.0.1:70000"),
        (
            ["--executor=ray", "--address=10.0.0.1:6379"],
            "because 10.0.0.1 is not this machine. Set RAY_AUTH_MODE",
        ),
        (["--executor=ray", "--address=head.cluster:6379"], "because head.cluster is not this machine"),
        (["--executor=ray", "--address=[2001:db8::1]:6379"], "because 2001:db8::1 is not this machine"),
    ],
)
def test_options_that_make_no_sense(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    words: str,
) -> None:
    """One line names the option, what is expected and what was received."""
    for name in ("RAY_AUTH_MODE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    images = write_files(tmp_path / "images", {"a.png": png()})
    assert 1 == main(["score", "colours", str(images), f"--out={tmp_path / 'out'}", *options])
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_address_of_the_environment_is_checked_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """RAY_ADDRESS, which Ray sets for its jobs, is --address."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    images = write_files(tmp_path / "images", {"a.png": png()})
    assert 1 == main(["score", "colours", str(images), f"--out={tmp_path / 'out'}", "--executor=ray"])
    assert "because 10.0.0.1 is not this machine" in capsys.readouterr().err


def test_missing_ray_is_said_with_the_pip_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the store is opened."""
    monkeypatch.setitem(sys.modules, "ray", None)
    images = write_files(tmp_path / "images", {"a.png": png()})
    assert 1 == main(["score", "colours", str(images), f"--out={tmp_path / 'out'}", "--executor=ray"])
    assert "pip install 'fovea-serving[pipeline,tensorflow,ray]'" in capsys.readouterr().err


def test_nothing_listens_at_the_address(
    store: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Port 9 of loopback: an error at once, in place of Ray's minutes."""
    monkeypatch.setattr("pipeline.units.ray_cluster.check_ray", lambda: None)
    images = write_files(tmp_path / "images", {"a.png": png()})
    options = [f"--models-dir={store.root}", "--executor=ray", "--address=127.0.0.1:9"]
    assert 1 == main(["score", "colours", str(images), f"--out={tmp_path / 'out'}", *options])
    assert "the Ray cluster at 127.0.0.1:9 cannot be reached: Connection refused" in capsys.readouterr().err
