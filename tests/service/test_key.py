"""`python -m service key`: keys are made, shown once, kept as hashes, listed and removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.gateway.access.api_keys import KeyRing, hash_secret
from service.key import main


def run(*arguments: str, keys: Path) -> int:
    """Run the command on a file of keys."""
    return main([*arguments, "--keys", str(keys)])


def test_key_is_shown_once_and_kept_as_a_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reader of the file cannot use it; only its owner may read it."""
    keys = tmp_path / "keys.json"
    assert 0 == run("add", "clinic", keys=keys)
    secret = capsys.readouterr().out.strip()
    text = keys.read_text()

    assert secret.startswith("fovea_")
    assert 43 == len(secret.removeprefix("fovea_"))  # 256 bits
    assert secret not in text
    assert hash_secret(secret) in text
    assert 0o600 == keys.stat().st_mode & 0o777
    assert "clinic" == KeyRing(keys).find(secret).name  # type: ignore[union-attr]


def test_keys_differ_and_are_listed_without_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The list has names, rights and dates."""
    keys = tmp_path / "keys.json"
    run("add", "clinic", keys=keys)
    run("add", "watch", "--rights", "metrics,predict", "--days", "30", keys=keys)
    secrets = capsys.readouterr().out.split()
    run("list", keys=keys)
    listed = capsys.readouterr().out

    assert 2 == len(set(secrets))
    assert ["clinic  predict", "watch  metrics,predict"] == [
        line.partition("  since ")[0] for line in listed.splitlines()
    ]
    assert listed.count("until") == 1
    assert not any(secret in listed or hash_secret(secret) in listed for secret in secrets)


def test_removed_key_is_gone_and_the_files_mode_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An administrator may have let a group read the file."""
    keys = tmp_path / "keys.json"
    run("add", "clinic", keys=keys)
    run("add", "other", keys=keys)
    secret, kept = capsys.readouterr().out.split()
    keys.chmod(0o640)

    assert 0 == run("remove", "clinic", keys=keys)
    assert KeyRing(keys).find(secret) is None
    assert KeyRing(keys).find(kept) is not None
    assert 0o640 == keys.stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["add", "clinic"], 1, "key: there is a key named clinic already"),
        (["add", "a b"], 1, "key: expected a name of letters"),
        (["add", "new", "--rights", "all"], 1, "key: expected a name of letters, digits, _ and -, and rights among"),
        (["remove", "nobody"], 1, "key: expected one of clinic. Received: nobody"),
        (["add", "new", "--days", "0"], 2, "argument --days: expected at least 1"),
        (["show"], 2, "invalid choice: 'show'"),
    ],
    ids=["twice", "name", "right", "unknown", "days", "command"],
)
def test_refusals_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, reason: str
) -> None:
    """The reason is the last line of stderr."""
    keys = tmp_path / "keys.json"
    run("add", "clinic", keys=keys)
    before = keys.read_bytes()

    assert status == run(*arguments, keys=keys)
    assert reason in capsys.readouterr().err.splitlines()[-1]
    assert before == keys.read_bytes()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"keys": [{"name": "a"}]}', '{"keys": [], "more": 1}'])
def test_another_file_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    """A file that is not one of keys is left alone."""
    keys = tmp_path / "keys.json"
    keys.write_text(text)

    assert 1 == run("add", "clinic", keys=keys)
    assert "is not a file of keys" in capsys.readouterr().err
    assert text == keys.read_text()


def test_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No folder is made in passing."""
    assert 1 == run("add", "clinic", keys=tmp_path / "none" / "keys.json")
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
    assert 1 == run("list", keys=tmp_path / "keys.json")
    assert "cannot be read: No such file or directory" in capsys.readouterr().err
