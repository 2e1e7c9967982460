"""HTTPS, renewed certificates, proxies that are believed, and the doors that stay shut unless told otherwise."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
import trustme

from contract.store import ModelStore
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend
from tests.helpers.server_process import ROOT
from tests.service.conftest import StartProcess


class Certificate:
    """A certificate for 127.0.0.1 by an authority of its own, in two files."""

    def __init__(self, folder: Path) -> None:
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self.renew()

    def renew(self) -> None:
        """Write another one."""
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(self.key)
        self.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.trust = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())

    def flags(self) -> list[str]:
        """Return what makes a gateway use it."""
        return [f"--tls-cert={self.chain}", f"--tls-key={self.key}"]


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """A fresh one."""
    return Certificate(tmp_path)


def arguments(backend: ScriptedBackend, index: ModelStore) -> list[str]:
    """Return what starts a gateway in front of the scripted model server."""
    return ["gateway", f"--models-dir={index.root}", f"--backend={backend.address}", "--port=0"]


def listening_url(process: ServiceProcess) -> str:
    """Return where a process says that it listens."""
    deadline = time.monotonic() + 120
    while not (found := re.search(r"listening on (https?://[^\s,]+),", process.log)):
        if time.monotonic() > deadline or process.process.poll() is not None:
            raise TimeoutError(process.log)
        time.sleep(0.02)
    return found[1]


def get(url: str, trust: ssl.SSLContext) -> httpx2.Response:
    """Send a GET; while the service starts, wait for it."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return httpx2.get(url, verify=trust, trust_env=False, timeout=60)
        except httpx2.ConnectError as err:
            if "CERTIFICATE" in str(err) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_https_and_a_renewed_certificate(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore, certificate: Certificate
) -> None:
    """Clients that verify are answered; a renewed certificate counts without a restart, a broken one never does."""
    process = start_process(*arguments(backend, index), *certificate.flags())
    url = listening_url(process)
    assert url.startswith("https://127.0.0.1:")
    assert 200 == get(f"{url}/healthz", certificate.trust).status_code
    with pytest.raises(httpx2.RemoteProtocolError):
        httpx2.get(url.replace("https", "http"), trust_env=False, timeout=60)

    old = certificate.trust
    certificate.renew()
    deadline = time.monotonic() + 120
    while "the certificate was read again" not in process.log:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert 200 == get(f"{url}/healthz", certificate.trust).status_code
    with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx2.get(f"{url}/healthz", verify=old, trust_env=False, timeout=60)

    certificate.chain.write_text("nothing")
    while "stays in use" not in process.log:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert 200 == get(f"{url}/healthz", certificate.trust).status_code
    assert 0 == process.stop()


def test_the_images_health_check_knows_both_schemes(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore, certificate: Certificate
) -> None:
    """The Dockerfile's own command, run here against HTTP and HTTPS, and against a port where nothing listens."""
    found = re.search(
        r"FROM base AS gateway\n.*?HEALTHCHECK .*?CMD (\[.*?\])\n", (ROOT / "Dockerfile").read_text(), re.S
    )
    assert found is not None
    command = [sys.executable, *json.loads(found[1])[1:]]

    def check(port: str, **environ: str) -> int:
        # Docker passes a user's proxies on to containers.
        variables = {
            "FOVEA_PORT": port,
            "http_proxy": "http://127.0.0.1:1",
            "https_proxy": "http://127.0.0.1:1",
            **environ,
        }
        return subprocess.run(command, env=variables, capture_output=True, timeout=60).returncode

    plain = start_process(*arguments(backend, index)).wait_for_url()
    secure = listening_url(start_process(*arguments(backend, index), *certificate.flags()))
    get(f"{secure}/healthz", certificate.trust)

    # Docker tries three times too.
    assert 0 in [check(plain.rpartition(":")[2]) for _ in range(3)]
    assert 0 in [check(secure.rpartition(":")[2], FOVEA_TLS_CERT=str(certificate.chain)) for _ in range(3)]
    assert 0 != check(secure.rpartition(":")[2])
    assert 0 != check("1")


def test_up_speaks_https_too(start_process: StartProcess, tmp_path: Path, certificate: Certificate) -> None:
    """`up` follows its own gateway's readiness through TLS, whatever name the certificate has."""
    process = start_process("up", f"--models-dir={tmp_path / 'models'}", "--port=0", *certificate.flags())
    url = listening_url(process)
    deadline = time.monotonic() + 120
    while f"Fovea is up at {url}, but not ready: no model to serve yet" not in process.output:
        assert time.monotonic() < deadline, process.log
        time.sleep(0.05)

    assert 200 == get(f"{url}/healthz", certificate.trust).status_code
    assert 0 == process.stop()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "gateway: the certificate or its key cannot be read: No such file or directory"),
        ("no certificate", "gateway: expected a certificate chain and its key, without password, in PEM format in "),
    ],
    ids=["absent", "broken"],
)
def test_unusable_certificate_ends_the_start(
    start_process: StartProcess, index: ModelStore, tmp_path: Path, content: str | None, reason: str
) -> None:
    """Never plain HTTP instead."""
    chain = tmp_path / "chain.pem"
    if content is not None:
        chain.write_text(content)
    process = start_process("gateway", f"--models-dir={index.root}", "--port=0", f"--tls-cert={chain}")

    assert 1 == process.wait()
    assert process.log.splitlines()[-1].startswith(reason)


def test_other_machines_are_let_in_only_when_that_is_said(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore, tmp_path: Path
) -> None:
    """Without keys a gateway keeps to this machine; `up` too, and neither starts anything first."""
    start = arguments(backend, index)
    refused = start_process(*start, "--host=0.0.0.0")
    up = start_process("up", "--host=::", f"--models-dir={tmp_path / 'store'}", "--port=0")
    keyless = start_process(*start, "--host=0.0.0.0", "--auth=keys")

    assert (2, 2, 2) == (refused.wait(), up.wait(), keyless.wait())
    assert refused.log.splitlines()[-1].startswith("gateway: other machines reach 0.0.0.0: expected keys_file")
    assert up.log.splitlines()[-1].startswith("up: other machines reach ::: expected keys_file")
    assert "gateway: auth is keys: expected keys_file. Received: none" == keyless.log.splitlines()[-1]
    assert not (tmp_path / "store").exists()


def test_inherited_socket_that_others_reach_is_refused_too(index: ModelStore) -> None:
    """The real listening address counts, not the flags."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        command = [sys.executable, "-m", "service", "gateway", f"--models-dir={index.root}"]
        done = subprocess.run(
            [*command, f"--listen-fd={listener.fileno()}"],
            pass_fds=[listener.fileno()], cwd=ROOT, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    assert 1 == done.returncode
    assert done.stderr.splitlines()[-1].startswith("gateway: other machines reach 0.0.0.0: expected keys_file")


def test_forwarded_headers_count_from_named_proxies_only(
    start_process: StartProcess, backend: ScriptedBackend, index: ModelStore
) -> None:
    """Otherwise every client could choose the address that is logged and limited."""
    open_ = start_process(*arguments(backend, index), "--rate-limit=2/hour")
    behind = start_process(*arguments(backend, index), "--rate-limit=2/hour", "--trusted-proxies=127.0.0.0/8,::1")
    statuses = {}
    for process in (open_, behind):
        url = process.wait_for_url()
        process.wait_until_ready(url)
        statuses[process] = [
            httpx2.post(
                f"{url}/v1/predict",
                content=encode("red"),
                headers={"x-forwarded-for": f"198.51.100.66, 192.0.2.{n}"},
                timeout=60,
                trust_env=False,
            ).status_code
            for n in range(4)
        ]
        assert 0 == process.stop()  # the access log is written after the reply

    assert [200, 200, 429, 429] == statuses[open_]
    assert [200, 200, 200, 200] == statuses[behind]
    assert "192.0.2.3" in behind.log
    assert "198.51.100.66" not in behind.log + open_.log
