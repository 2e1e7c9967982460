#!/usr/bin/env python3
"""Makes `.venv` from requirements.lock, after checking that this machine can; does nothing when it is current.

Runs on any Python from 3.6 on, standard library only, because it decides which Python the project gets. What is
missing is named together with the command that mends it. `PYTHON=...` (environment or argument) overrides the choice.
"""

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Optional, Tuple

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
VENV = ROOT / ".venv"
STAMP = VENV / "lock.sha256"
SUPPORTED = ((3, 13), (3, 12), (3, 11))
NEEDED_GB = 4.0
PLATFORMS = {("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64")}

# Run by a candidate interpreter; prints its version and features.
PROBE = """
import importlib.util, platform, sys
print(sys.version_info[0], sys.version_info[1], platform.machine(), sys.executable)
print(*[name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None])
"""


class Unmet(Exception):
    """Something this machine lacks; the text says what, and how to mend it."""


def main(arguments: Optional[List[str]] = None) -> int:
    """Make the environment current and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=os.environ.get("PYTHON", ""), help="the interpreter to build .venv with")
    parser.add_argument("--check", action="store_true", help="only check this machine; make nothing")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            print(f"Fovea can be installed here with {check_machine(options.python)}")
        elif not is_current():
            make_environment(check_machine(options.python or kept_python()))
    except Unmet as err:
        print(f"preflight: {err}", file=sys.stderr)
        return 1
    return 0


def lock_sha256() -> str:
    """Return the hash of requirements.lock, hexadecimal."""
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()


def is_current() -> bool:
    """Return whether .venv was finished from this very lock and its interpreter is still there."""
    try:
        return STAMP.read_text().strip() == lock_sha256() and (VENV / "bin" / "python").exists()
    except OSError:
        return False


def kept_python() -> str:
    """Return the interpreter of .venv if it still works: a new lock is no reason to change Python."""
    return probe(str(VENV / "bin" / "python"))[0]


def check_machine(override: str) -> str:
    """Return the interpreter to use.

    Raises:
        Unmet: naming the first thing that is missing.
    """
    check_platform(platform.system(), platform.machine())
    check_avx(platform.machine(), Path("/proc/cpuinfo"))
    check_disk(shutil.disk_usage(str(ROOT)).free)
    return choose_python(override)


def check_platform(system: str, machine: str) -> None:
    """Refuse systems that TensorFlow has no package for."""
    if (system, machine) not in PLATFORMS:
        raise Unmet(
            f"TensorFlow has no package for {system} on {machine}. Expected one of: Linux on x86_64 or aarch64, "
            "macOS on arm64. On Windows, use WSL 2; elsewhere, `docker compose up`."
        )


def check_avx(machine: str, cpuinfo: Path) -> None:
    """Refuse x86 processors without AVX: TensorFlow would end with "Illegal instruction"."""
    if machine != "x86_64" or not cpuinfo.exists():
        return
    flags = [line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")]
    if flags and "avx" not in flags[0].split():
        raise Unmet(
            "this processor has no AVX, which TensorFlow's packages need. Use a machine made after 2012, or a "
            "virtual machine whose CPU type is `host`."
        )


def check_disk(free_bytes: int) -> None:
    """Refuse to start without enough disk space."""
    free_gb = free_bytes / 1e9
    if not is_installed() and free_gb < NEEDED_GB:
        raise Unmet(
            f"{free_gb:.1f} GB are free where the project is; the installation needs about {NEEDED_GB:.0f} GB. "
            "Free some and run the same command again."
        )


def is_installed() -> bool:
    """Return whether .venv already holds most of a lock's packages."""
    return any(VENV.glob("lib/python*/site-packages/tensorflow"))


def choose_python(override: str) -> str:
    """Return the path of a supported interpreter that can make virtual environments.

    Raises:
        Unmet: if there is none, or the one asked for is not.
    """
    names = [override] if override else ["python{}.{}".format(*v) for v in SUPPORTED] + ["python3", sys.executable]
    refused: Dict[str, str] = {}
    for name in names:
        path, reason = probe(name)
        if path:
            return path
        refused[name] = reason
    supported = ", ".join("{}.{}".format(*version) for version in reversed(SUPPORTED))
    found = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
    raise Unmet(
        f"Fovea runs on Python {supported}. {found}.\n  Debian and Ubuntu: sudo apt-get install python3 python3-venv\n"
        "  Fedora:            sudo dnf install python3.13\n  macOS:             brew install python@3.13\n"
        "Then run the same command again, or name an interpreter: make PYTHON=/path/to/python3"
    )


def probe(name: str) -> Tuple[str, str]:
    """Read an interpreter's version and features.

    Returns:
        Its path and "", or "" and why it cannot be used.
    """
    path = shutil.which(name)
    if path is None:
        return "", "not found"
    try:
        done = subprocess.run(
            [path, "-c", PROBE],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            timeout=60,
            check=True,
        )
        about, missing = done.stdout.split("\n")[:2]
        major, minor, machine, executable = about.split(" ", 3)
    except (OSError, ValueError, subprocess.SubprocessError):
        return "", "does not start"
    if (int(major), int(minor)) not in SUPPORTED:
        return "", f"is Python {major}.{minor}"
    if machine != platform.machine():
        return "", f"is built for {machine}, this machine is {platform.machine()}"
    if missing:
        return "", "lacks {} (Debian and Ubuntu: sudo apt-get install python{}.{}-venv)".format(
            missing.replace(" ", " and "), major, minor
        )
    return executable, ""


def make_environment(python: str) -> None:
    """Build or update .venv so that it holds what requirements.lock says, and stamp it.

    An environment of a supported Python is updated in place; one that is broken or of another version is made anew.

    Raises:
        Unmet: if a step fails; without the stamp the next run takes it up again.
    """
    venv_python = VENV / "bin" / "python"
    if STAMP.exists():
        STAMP.unlink()
    if version_of(str(venv_python)) != version_of(python):
        say(f"making .venv with {python}")
        run([python, "-m", "venv", "--clear", str(VENV)], "the virtual environment was not made")
    say("installing requirements.lock into .venv")
    pip = [str(venv_python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run(
        [*pip, "--require-hashes", "--only-binary=:all:", "--requirement", str(LOCK)], "the packages were not installed"
    )
    STAMP.write_text(lock_sha256() + "\n")


def version_of(python: str) -> str:
    """Return an interpreter's full version, or "" if it does not start."""
    code = "import platform; print(platform.python_version())"
    try:
        return subprocess.run(
            [python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True, timeout=60
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def run(command: List[str], failure: str) -> None:
    """Run a command in the open; raise Unmet with `failure` if it fails."""
    status = subprocess.call(command, cwd=str(ROOT))
    if status != 0:
        raise Unmet(f"{failure} (exit status {status}). The reason is above; run the same command again to go on.")


def say(text: str) -> None:
    """Print progress on stderr; stdout holds the result alone."""
    print(f"preflight: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
