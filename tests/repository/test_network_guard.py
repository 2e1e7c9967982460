"""The guard that keeps tests off the network."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import pytest

from tests.network_guard import NetworkBlockedError, is_local, traces_threads


@pytest.fixture
def guarded(pytestconfig: pytest.Config) -> None:
    """Skips a test where coverage stands in for the guard, as tests/network_guard.py says."""
    if traces_threads(pytestconfig):
        pytest.skip("on Python 3.11 the audit hook and coverage exclude each other")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("127.0.0.1", True, id="loopback"),
        pytest.param("::1", True, id="loopback-v6"),
        pytest.param(b"localhost", True, id="bytes"),
        pytest.param("0.0.0.0", True, id="wildcard"),
        pytest.param("192.0.2.1", False, id="documentation-address"),
        pytest.param("example.invalid", False, id="name"),
    ],
)
def test_local_hosts_are_told_from_others(host: str | bytes, expected: bool) -> None:
    """Only loopback and wildcard addresses count as this machine."""
    actual = is_local(host)
    assert expected == actual


@pytest.mark.usefixtures("guarded")
def test_connecting_elsewhere_is_refused() -> None:
    """A socket to another machine raises before a packet leaves."""
    with socket.socket() as tcp, pytest.raises(NetworkBlockedError):
        tcp.connect(("192.0.2.1", 80))


@pytest.mark.usefixtures("guarded")
def test_looking_up_a_name_is_refused() -> None:
    """Not even a name is looked up."""
    with pytest.raises(NetworkBlockedError):
        socket.getaddrinfo("example.invalid", 80)


def test_downloads_fail_at_once() -> None:
    """A library that downloads meets the closed proxy, as a process started by a test would."""
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen("http://example.invalid/weights", timeout=10)
