"""pipeline/data/objects/url.py: which arguments are addresses, and which addresses are refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.data.objects.source import ObjectSource
from pipeline.data.objects.url import ObjectUrl, read_location
from pipeline.errors import DatasetError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("s3://bucket/sets/eyes", "eyes"),
        ("s3://bucket/sets/eyes/", "eyes"),
        ("s3://bucket", "bucket"),
        ("S3://bucket/eyes", "eyes"),
        ("gs://bucket/eyes?retry_limit_seconds=5", "eyes"),
        ("abfs://container@account.dfs.core.windows.net/eyes", "eyes"),
        ("abfss://container@account.dfs.core.windows.net", "container"),
    ],
)
def test_addresses_have_the_name_of_a_folder(text: str, name: str) -> None:
    location = read_location(text)
    assert isinstance(location, ObjectUrl)
    assert (text, name, "") == (str(location), location.name, location.suffix)


@pytest.mark.parametrize("text", ["eyes", "/data/eyes", "./s3:/x", "a:b", "C:/eyes", "eyes?x", "s3:/bucket"])
def test_everything_else_is_a_path(text: str) -> None:
    assert Path(text) == read_location(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://host/eyes", "begins with s3://, gs://, abfs://, abfss://. Received: http://"),
        ("file:///eyes", "Received: file://"),
        ("s3://", "s3://: expected a bucket"),
        ("s3:///eyes", "s3:///eyes: expected a bucket"),
        ("s3://key:secret@bucket/eyes", "expected an address without keys"),
        ("s3://key@bucket/eyes", "expected an address without keys"),
        ("abfs://account:key@account.dfs.core.windows.net/eyes", "expected an address without keys"),
    ],
)
def test_other_addresses_are_refused(text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys are never shown: runs and logs keep an address."""
    with pytest.raises(DatasetError) as caught:
        read_location(text)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
    with pytest.raises(SystemExit, match="2"):
        main(["score", "eyes", text, "--out=x"])
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_one_csv_of_objects_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Parts are what a rerun can complete."""
    assert 1 == main(["score", "eyes", "s3://bucket/eyes", "--out=x.csv"])
    assert "--out: expected a folder, for images in object storage. Received: x.csv" in capsys.readouterr().err


def test_only_the_address_is_pickled() -> None:
    """Another process connects with its own keys."""
    source = pickle.loads(pickle.dumps(ObjectSource(ObjectUrl("s3://bucket/eyes"))))
    assert {"location", "aliases", "system"} == vars(source).keys()
