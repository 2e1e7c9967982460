"""Behind nginx with its usual lines: upgrades, kept connections, TLS and a prefix."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx2
import pytest
import trustme

from contract.store import ModelStore
from tests.helpers.gateway_process import ServiceProcess
from tests.helpers.pictures import encode
from tests.helpers.scripted_backend import ScriptedBackend, scripted
from tests.service.conftest import publish_empty

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
PATIENCE_S = 60.0
HIDDEN = b"GET /healthz HTTP/1.1\r\nHost: y\r\n\r\n"

pytestmark = pytest.mark.skipif(not Path(NGINX).exists(), reason="nginx is not installed")

CONFIG = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
  access_log off; client_max_body_size 40m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream gateway {{ server {gateway}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/chain.pem; ssl_certificate_key {folder}/key.pem;
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection "upgrade";
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    location / {{ proxy_pass http://gateway; }}
    location /fovea/ {{ proxy_set_header X-Forwarded-Prefix /fovea; proxy_pass http://gateway/; proxy_http_version 1.1;
      proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
      proxy_set_header X-Forwarded-Proto $scheme; }}
  }}
}}
"""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Signs nginx's certificate."""
    return trustme.CA()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[str]:
    """Nginx with TLS before a gateway that trusts it."""
    folder = tmp_path_factory.mktemp("nginx")
    store = ModelStore(folder / "models")
    publish_empty(store)
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "chain.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    with ScriptedBackend(folder / "backend.sock") as server, (folder / "log").open("wb") as log:
        server.versions["colours", 1] = scripted()
        flags = ("--port=0", "--trusted-proxies=127.0.0.1")
        gateway = ServiceProcess(
            ["gateway", f"--models-dir={store.root}", f"--backend={server.address}", *flags], folder
        )
        try:
            found = gateway.wait_for_url()
            gateway.wait_until_ready(found)
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            config = folder / "nginx.conf"
            config.write_text(CONFIG.format(folder=folder, gateway=urlsplit(found).netloc, port=port))
            nginx = subprocess.Popen([NGINX, "-p", folder, "-c", config], stdout=log, stderr=log)
            try:
                wait_for_port(port, nginx, folder / "log")
                yield f"https://127.0.0.1:{port}"
            finally:
                nginx.terminate()
                nginx.wait(30)
        finally:
            gateway.stop()


def wait_for_port(port: int, nginx: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until nginx listens."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), PATIENCE_S).close()
            return
        except ConnectionRefusedError:
            assert nginx.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)


@pytest.fixture(scope="module")
def trust(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context."""
    return ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())


@pytest.mark.parametrize("token", ["h2c", "websocket", "TLS/1.2", ""])
@pytest.mark.parametrize("body", [encode("red"), HIDDEN], ids=["image", "request"])
def test_body_arrives_whatever_upgrade_is_asked_for(url: str, trust: ssl.SSLContext, token: str, body: bytes) -> None:
    """Nginx passes the header on: the body is the request's, and the kept connection stays in step."""
    headers = {"connection": "upgrade", "upgrade": token} if token else {}
    with httpx2.Client(verify=trust, trust_env=False, timeout=PATIENCE_S) as client:
        for path in ("/v1/predict", "/fovea/v1/predict"):
            expected = 200 if body != HIDDEN else 415
            assert [expected] * 3 == [
                client.post(url + path, content=body, headers=headers).status_code for _ in range(3)
            ]
        assert {"status": "ok"} == client.get(f"{url}/healthz").json()


@pytest.mark.parametrize("prefix", ["", "/fovea"])
@pytest.mark.parametrize("path", ["/v1/predict/", "/v1/models/", "/docs/", "/none/"])
def test_nothing_is_redirected(url: str, trust: ssl.SSLContext, prefix: str, path: str) -> None:
    """A redirect would name http, or lose the prefix."""
    reply = httpx2.post(f"{url}{prefix}{path}", content=b"x", verify=trust, trust_env=False, timeout=PATIENCE_S)

    assert not reply.is_redirect
    assert "location" not in reply.headers


def test_links_keep_scheme_and_prefix(url: str, trust: ssl.SSLContext) -> None:
    """Each leads to a reply through nginx."""
    with httpx2.Client(verify=trust, trust_env=False, timeout=PATIENCE_S) as client:
        for path in ("/fovea/", "/fovea/docs", "/fovea/docs/"):
            found = re.findall(r'(?:href|src)="([^"#]+)"', client.get(url + path).text)
            addresses = [urljoin(url + path, link) for link in found]
            assert addresses
            for address in addresses:
                assert address.startswith(f"{url}/fovea/")
                assert 200 == client.get(address).status_code
        assert [{"url": "/fovea"}] == client.get(f"{url}/fovea/openapi.json").json()["servers"]
