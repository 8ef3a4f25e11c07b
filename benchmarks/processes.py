"""
Processes that are measured: where they run, and what the kernel says they have used.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

START_TIMEOUT_S = 120.0
END_TIMEOUT_S = 60.0

_SHOWN_LINES = 30
_KIB_IN_MB = 1024
_PAUSE_S = 0.02

Result = TypeVar("Result")


class BenchmarkError(Exception):
    """Nothing can be measured; says why."""


class ProcessFailedError(BenchmarkError):
    """A process did not start, or did not end; says what it printed last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """
    Where everything runs.

    Attributes:
        servers: The core of what is measured, alone.
        rest: The core of all else.
    """

    servers: int
    rest: int

    @staticmethod
    def of_machine() -> "Cores":
        """Take the last core for what is measured and the first for the rest."""
        cores = sorted(os.sched_getaffinity(0))
        return Cores(servers=cores[-1], rest=cores[0])


@dataclass(frozen=True, slots=True)
class Measured:
    """A process with all that it has started."""

    pid: int

    def cpu_s(self) -> float:
        """Return the CPU seconds that all of them have used, ended threads included."""
        # CPUCLOCK_SCHED of another process, as `clock_getcpuclockid` makes it.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self._pids())

    def rss_mb(self) -> float:
        """Return what they have resident, in MiB."""
        return sum(_resident_kib(pid) for pid in self._pids()) / _KIB_IN_MB

    def _pids(self) -> list[int]:
        found = [self.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        return found


def _resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    # A process that has ended, and that nobody has asked about yet, has none.
    _, _, found = status.partition("VmRSS:")
    return int(found.split()[0]) if found else 0


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Let what is started meanwhile run on *core*."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(
    command: Sequence[str | Path],
    log_path: Path,
    *,
    core: int,
    folder: Path,
    environment: Mapping[str, str],
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run *command* in *folder* and on *core*; it prints to *log_path*. End it with SIGTERM.

    Raises:
        ProcessFailedError: It did not end.
    """
    with log_path.open("wb") as log, on_core(core):
        process = subprocess.Popen(  # noqa: S603 - what we benchmark
            command,
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            # Ctrl-C is for us; and what it starts is ended with it.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def until_said(process: subprocess.Popen[bytes], log_path: Path, word: str) -> str:
    """
    Return the first line of the log with *word* in it, as soon as it is there.

    Raises:
        ProcessFailedError: It did not come.
    """

    def said() -> str | None:
        lines = log_path.read_text("utf-8", "replace").splitlines(keepends=True)
        return next((line for line in lines if word in line and line.endswith("\n")), None)

    return _until(said, process, log_path)


def until_listening(process: subprocess.Popen[bytes], log_path: Path, port: int) -> None:
    """
    Return as soon as *process* listens on *port*.

    Raises:
        ProcessFailedError: It never did.
    """

    def listens() -> bool | None:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0 or None

    _until(listens, process, log_path)


def _until(
    ask: Callable[[], Result | None], process: subprocess.Popen[bytes], log_path: Path
) -> Result:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        if (found := ask()) is not None:
            return found
        time.sleep(_PAUSE_S)
    said = log_path.read_text("utf-8", "replace")
    last = "\n".join(said.splitlines()[-_SHOWN_LINES:])
    raise ProcessFailedError(f"{log_path.stem} did not start; the last it said:\n{last}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise ProcessFailedError(f"did not end within {END_TIMEOUT_S:.0f} s of SIGTERM") from None
