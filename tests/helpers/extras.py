"""Hides an optional package from code that asks whether it is installed."""

from __future__ import annotations

import importlib.util

import pytest


def hide_package(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Let `importlib.util.find_spec` not find a package, in this process, for the rest of a test."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == package else find(name, *more))
