"""Trials in the store's index: shares, ends, wrong values, and what earlier versions of Fovea read."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from contract.errors import StoreError
from contract.index import parse_index
from contract.store import ModelEntry, ModelStore
from contract.trials.trial import CANARY, SHADOW, Trial, format_share, parse_share
from tests.service.conftest import publish_empty


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with `colours` 1 live and 2 its candidate."""
    made = ModelStore(tmp_path / "models")
    publish_empty(made)
    publish_empty(made, live=False)
    return made


def trial_of(store: ModelStore) -> Trial | None:
    return store.read_index()["colours"].trial


@pytest.mark.parametrize(
    ("text", "share"),
    [("5%", 0.05), ("0.05", 0.05), ("100%", 1.0), ("1", 1.0), ("0.5%", 0.005), ("off", 0), (" OFF ", 0)],
)
def test_share_is_read_as_people_write_it(text: str, share: float) -> None:
    assert share == pytest.approx(parse_share(text))


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "1.5", "5", "-1%", "nan", "inf", "5 %%", "1e-2", "five", "٥%"])
def test_wrong_share_is_refused_with_what_is_right(text: str) -> None:
    with pytest.raises(StoreError, match=r"^share: expected .* such as 5% or 0\.05, or off\. Received: "):
        parse_share(text)


def test_share_in_words_is_read_back() -> None:
    for share in (0.0, 0.001, 0.05, 1 / 3, 1.0):
        assert share == pytest.approx(parse_share(format_share(share)), abs=1e-6)


def test_both_kinds_belong_to_one_trial(store: ModelStore) -> None:
    first = store.set_trial_share("colours", SHADOW, 0.2).trial
    both = store.set_trial_share("colours", CANARY, 0.05).trial

    assert first is not None and both is not None
    assert Trial(2, first.started, shadow=0.2, canary=0.05) == both == trial_of(store)


def test_stopping_both_keeps_the_trial_that_names_its_findings(store: ModelStore) -> None:
    store.set_trial_share("colours", SHADOW, 0.2)
    store.set_trial_share("colours", SHADOW, 0)
    found = trial_of(store)

    assert found is not None
    assert not found.is_on


@pytest.mark.parametrize("end", ["promote", "promote 1", "candidate", "live", "rollback"])
def test_change_of_the_live_version_or_the_candidate_ends_the_trial(tmp_path: Path, end: str) -> None:
    store = ModelStore(tmp_path / "models")
    for live in (True, True, False):
        publish_empty(store, live=live)
    store.set_trial_share("colours", CANARY, 0.5)
    {
        "promote": lambda: store.promote("colours"),
        "promote 1": lambda: store.promote("colours", 1),
        "candidate": lambda: publish_empty(store, live=False),
        "live": lambda: publish_empty(store, live=True),
        "rollback": lambda: store.rollback("colours"),
    }[end]()

    assert trial_of(store) is None


@pytest.mark.parametrize(("lives", "missing"), [((True,), "candidate to try"), ((False,), "live version")])
def test_trial_needs_a_live_version_and_a_candidate(tmp_path: Path, lives: tuple[bool, ...], missing: str) -> None:
    store = ModelStore(tmp_path / "models")
    for live in lives:
        publish_empty(store, live=live)

    with pytest.raises(StoreError, match=f"^colours has no {missing}"):
        store.set_trial_share("colours", SHADOW, 0.5)


def test_canary_is_stopped_once(store: ModelStore) -> None:
    trial = store.set_trial_share("colours", CANARY, 0.5).trial
    assert trial is not None
    results = [store.stop_canary("colours", trial, reason) for reason in ("errors: first", "errors: second")]
    found = trial_of(store)

    assert [True, False] == results
    assert found is not None
    assert (0.0, "errors: first") == (found.canary, found.stopped)


def test_stop_of_an_earlier_trial_changes_nothing(store: ModelStore) -> None:
    old = store.set_trial_share("colours", CANARY, 0.5).trial
    assert old is not None
    store.stop_canary("colours", old, "errors")
    new = store.set_trial_share("colours", CANARY, 0.1).trial

    assert new is not None
    assert new.started != old.started
    assert not store.stop_canary("colours", old, "errors")
    assert new == trial_of(store)


def test_earlier_versions_of_fovea_read_an_index_with_trials(store: ModelStore) -> None:
    """They expect format 1 and entries of version numbers only, and pass over other keys of the document."""
    store.set_trial_share("colours", CANARY, 0.5)
    document = json.loads((store.root / "index.json").read_text())

    assert 1 == document["format"]
    assert all(v is None or isinstance(v, int) for entry in document["models"].values() for v in entry.values())
    assert {field.name for field in fields(ModelEntry)} - {"trial"} == set(document["models"]["colours"])


def test_trial_of_another_version_than_the_candidate_is_over(store: ModelStore) -> None:
    """A writer that knows no trials has changed the roles, and kept what it did not know."""
    store.set_trial_share("colours", CANARY, 0.5)
    document = json.loads((store.root / "index.json").read_text())
    document["models"]["colours"]["candidate"] = None

    assert parse_index(document)["colours"].trial is None


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"canary": 1.5}, "canary: expected a share"),
        ({"canary": -0.1}, "canary: expected a share"),
        ({"canary": float("nan")}, "canary: expected a share"),
        ({"shadow": "5%"}, "shadow: expected a share"),
        ({"shadow": True}, "shadow: expected a share"),
        ({"shadow": None}, "shadow: expected a share"),
        ({"version": "2"}, "version: expected a version number"),
        ({"version": 0}, "version: expected a version number"),
        ({"started": None}, "started: expected a time"),
        ({"started": ""}, "started: expected a time"),
        ({"stopped": 3}, "stopped: expected a reason"),
    ],
)
def test_wrong_value_is_an_error_that_says_so(store: ModelStore, wrong: dict[str, Any], field: str) -> None:
    store.set_trial_share("colours", CANARY, 0.5)
    document = json.loads((store.root / "index.json").read_text())
    document["trials"]["colours"] |= wrong

    with pytest.raises(StoreError, match=f"^index.json: trials: colours: {field}.* Received: "):
        parse_index(document)


@pytest.mark.parametrize("trials", [[], None, 3, "x"])
def test_trials_that_are_no_object_are_an_error(store: ModelStore, trials: Any) -> None:
    document = json.loads((store.root / "index.json").read_text()) | {"trials": trials}

    with pytest.raises(StoreError, match=r"^index.json: trials: expected an object"):
        parse_index(document)


@pytest.mark.parametrize("trial", [[], None, 3, "x"])
def test_trial_that_is_no_object_is_an_error(store: ModelStore, trial: Any) -> None:
    document = json.loads((store.root / "index.json").read_text()) | {"trials": {"colours": trial}}

    with pytest.raises(StoreError, match=r"^index.json: trials: colours: expected an object"):
        parse_index(document)


def test_fields_of_newer_writers_are_passed_over(store: ModelStore) -> None:
    trial = store.set_trial_share("colours", CANARY, 0.5).trial
    document = json.loads((store.root / "index.json").read_text())
    document["trials"]["colours"]["more"] = {"of": "this"}

    assert trial == parse_index(document)["colours"].trial
