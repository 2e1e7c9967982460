#!/usr/bin/env python3
"""`make demo`: sample images, a trained and published model, a server, one answer over HTTP.

Only the standard library and the commands that README names: this is what a newcomer would type, in order. Whatever it
starts it stops, also when a step fails or Ctrl-C is pressed. Run it from anywhere with the project's Python.
"""

from __future__ import annotations

import contextlib
import csv
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
NAME = "glaucoma"
DATASET = Path("datasets/glaucoma-sample")
SEED = "7"
BACKBONE = "ResNet50"
# What the sample's file names say of patients, and what its pictures stand for.
SETTINGS = ("--set", r"data.group=^(P\d+)_", "--set", "evaluate.card.medical=true")
READY_TIMEOUT_S = 120
REQUEST_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
CONTENT_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}


class DemoError(Exception):
    """A step failed; the text names it."""


def main() -> int:
    """Run the demo and return the exit status."""
    started = time.monotonic()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        make_sample()
        train()
        with serving() as url:
            image = held_out_image()
            reply = ask(url, image)
            check_against_report(reply, image)
        tell_what_is_where(reply, time.monotonic() - started)
    except DemoError as err:
        print(f"demo: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; nothing was left running", file=sys.stderr)
        return 130
    return 0


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def make_sample() -> None:
    """Draw the sample set, unless it is there."""
    if (ROOT / DATASET / "test").is_dir():
        step(f"the sample images are in {DATASET}")
        return
    step(f"drawing synthetic fundus photographs into {DATASET}")
    pipeline("the sample images were not made", "sample", NAME, "--out", str(DATASET), "--seed", SEED)


def train() -> None:
    """Train and publish a version, on ImageNet weights where they can be had."""
    step(f"looking for the ImageNet weights of {BACKBONE}")
    if run_quietly("weights", BACKBONE) == 0:
        recipe = "demo-imagenet"
    else:
        recipe = "demo"
        print("The ImageNet weights are not reachable from here: a small network is trained from scratch instead.")
    step(f"training on {DATASET} by the recipe {recipe}")
    pipeline("no model was published", "run", str(DATASET), "--name", NAME, "--recipe", recipe, *SETTINGS)


def pipeline(failure: str, *arguments: str) -> None:
    """Run a pipeline command in the open.

    Raises:
        DemoError: beginning with `failure`, if it ends with another status than 0.
    """
    status = run(arguments, quiet=False)
    if status != 0:
        raise DemoError(f"{failure}: python -m pipeline {' '.join(arguments)} ended with status {status}")


def run_quietly(*arguments: str) -> int:
    """Run a pipeline command whose status is the answer; return it."""
    return run(arguments, quiet=True)


def run(arguments: tuple[str, ...], *, quiet: bool) -> int:
    """Run a pipeline command to its end, and end it with us; return its status."""
    output = subprocess.DEVNULL if quiet else None
    with subprocess.Popen([sys.executable, "-m", "pipeline", *arguments], cwd=ROOT, stdout=output, stderr=output) as it:
        try:
            return it.wait()
        except BaseException:
            stop(it)
            raise


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Start model server and gateway on a free port, give their address once they are ready, and stop them.

    Raises:
        DemoError: if they end early or are not ready in time; with the end of their log.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "service", "up", "--host", "127.0.0.1", "--port", str(port)]
    step(f"starting the model server and the gateway on {url}")
    with tempfile.TemporaryFile() as log:
        # A session of its own, so that Ctrl-C reaches only this script, which then stops the servers in order.
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until_ready(url, process)
            yield url
        except DemoError as err:
            raise DemoError(f"{err}\n{last_lines(log)}") from err
        finally:
            stop(process)


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until /readyz answers 200.

    Raises:
        DemoError: if the process ends, or the time is over; with the last answer.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    answer = "no answer"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoError(f"the service ended with status {process.returncode} before it was ready")
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except urllib.error.HTTPError as err:
            answer = err.read().decode(errors="replace")
        except OSError as err:
            answer = str(err)
        time.sleep(0.2)
    raise DemoError(f"the service was not ready after {READY_TIMEOUT_S} s. Its last answer: {answer}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and make it end if it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def held_out_image() -> Path:
    """Return an image of the test split: no training step has seen it."""
    images = sorted(path for path in (ROOT / DATASET / "test" / NAME).iterdir() if path.suffix in CONTENT_TYPES)
    if not images:
        raise DemoError(f"no images in {DATASET / 'test' / NAME}; delete {DATASET} and run the demo again")
    return images[0]


def ask(url: str, image: Path) -> dict[str, Any]:
    """Send an image to /v1/predict, print the reply and return it.

    Raises:
        DemoError: if the answer is not 200.
    """
    step(f"POST {image.relative_to(ROOT)} to {url}/v1/predict?model={NAME}")
    request = urllib.request.Request(
        f"{url}/v1/predict?model={NAME}", image.read_bytes(), {"Content-Type": CONTENT_TYPES[image.suffix]}
    )
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as response:
            reply: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as err:
        raise DemoError(f"/v1/predict answered {err.code}: {err.read().decode(errors='replace')}") from err
    except OSError as err:
        raise DemoError(f"/v1/predict did not answer: {err}") from err
    print(json.dumps(reply, indent=2))
    return reply


def check_against_report(reply: dict[str, Any], image: Path) -> None:
    """Compare the served class with the one that evaluation wrote down for the same image and version.

    Raises:
        DemoError: if they differ, or the report does not know the image.
    """
    served = reply["predictions"][0]["top"][0]["id"]
    path = run_folder(reply) / "predictions.csv"
    with path.open(newline="") as file:
        reported = [row["predicted"] for row in csv.DictReader(file) if row["path"].endswith(image.name)]
    if reported != [served]:
        raise DemoError(
            f"the served class is not the report's for {image.name}: served {served}, {path.relative_to(ROOT)} has "
            f"{reported or 'no such image'}"
        )
    step(f"served class = the report's class for this image: {served}")


def version_folder(reply: dict[str, Any]) -> Path:
    """Return the folder of the version that answered."""
    return ROOT / "models" / NAME / str(reply["model"]["version"])


def run_folder(reply: dict[str, Any]) -> Path:
    """Return the folder of the training run behind the version that answered."""
    contract = json.loads((version_folder(reply) / "assets.extra" / "contract.json").read_bytes())
    return ROOT / "runs" / NAME / str(contract["provenance"]["run"])


def tell_what_is_where(reply: dict[str, Any], duration_s: float) -> None:
    """Print where the results are and what to try next."""
    print(f"""
Done in {duration_s:.0f} s.
  report        {(run_folder(reply) / "report.html").relative_to(ROOT)}
  model         {version_folder(reply).relative_to(ROOT)}
Next:
  make serve    model server and gateway on http://127.0.0.1:8000, with the API's pages under /docs
  curl --data-binary @{held_out_image().relative_to(ROOT)} http://127.0.0.1:8000/v1/predict
  .venv/bin/python -m pipeline run FOLDER --name mine      your own images, one folder per class""")


def last_lines(log: Any) -> str:
    """Return the end of a log file, for an error message."""
    log.seek(0)
    return "\n".join(f"  | {line}" for line in log.read().decode(errors="replace").splitlines()[-15:])


def step(text: str) -> None:
    """Announce a step."""
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
