"""A wall clock that jumps, for one process: a library between it and the kernel, built by the machine's C compiler."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

COMPILER = shutil.which("cc") or shutil.which("gcc")
_SOURCE = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile long long *shift;
__attribute__((constructor)) static void open_shift(void) {
    int file = open(getenv("CLOCK_SHIFT"), O_RDONLY);
    if (file >= 0) shift = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    if (shift == MAP_FAILED) shift = 0;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int status = syscall(SYS_clock_gettime, clock, now);
    if (!status && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *shift;
    return status;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    int status = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return status;
}
time_t time(time_t *result) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (result) *result = precise.tv_sec;
    return precise.tv_sec;
}
"""


class JumpingClock:
    """The clock of processes that are started with its `environ`; it is right until it is told to jump.

    Args:
        folder: for the library and the shift.
    """

    def __init__(self, folder: Path) -> None:
        if COMPILER is None:
            raise RuntimeError("there is no C compiler")
        self._shift = folder / "shift"
        self.jump(0)
        source, library = folder / "clock.c", folder / "clock.so"
        source.write_text(_SOURCE)
        subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", library, source], check=True, timeout=120)
        self.environ = {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(self._shift)}

    def jump(self, seconds: int) -> None:
        """Be so many seconds ahead of the real time from now on; behind it if they are negative."""
        with self._shift.open("r+b" if self._shift.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))
