"""
The processes of a proof: Relay and its providers, as their users start them.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy_app.selftest.waiting import until
from relay_middleware.errors import RelayError

START_TIMEOUT_S = 120.0
"""Longest wait for a process to say where it listens: LiteLLM is imported by each of them, and the
machine may be busy."""

END_TIMEOUT_S = 60.0
"""Longest wait for a process to end by itself."""

_SHOWN_LINES = 20


class ProcessFailedError(RelayError):
    """A process of the proof did not start, or ended early; says what it printed last."""


@dataclass(frozen=True, slots=True)
class Running:
    """
    A process that listens.

    Attributes:
        url: Where, without a path.
    """

    process: asyncio.subprocess.Process
    url: str
    log_path: Path

    def check(self) -> None:
        """
        See whether it still runs.

        Raises:
            ProcessFailedError: It has ended.
        """
        if self.process.returncode is not None:
            raise _failed("ended early", self.log_path)


@asynccontextmanager
async def relay(name: str, arguments: Sequence[str], folder: Path) -> AsyncIterator[Running]:
    """
    Run `relay` with *arguments* while the context lasts, in *folder*; end it at its end.

    Args:
        name: Of the log that it writes there.

    Raises:
        ProcessFailedError: It did not start.
    """
    log_path = folder / f"{name}.log"
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "proxy_app",
            *arguments,
            cwd=folder,
            env=_environment(),
            stdout=log,
            stderr=log,
            # Ctrl-C is for us: they end when they are told to, after the clients.
            start_new_session=True,
        )
    try:
        yield Running(process, await _address(process, log_path), log_path)
    finally:
        has_ended = await _end(process)
    if not has_ended:
        raise _failed(f"did not end within {END_TIMEOUT_S:.0f} s of SIGTERM", log_path)


async def ask(module: str, question: bytes) -> bytes:
    """
    Run *module* in a process of its own, with *question* as its standard input, and return what it
    prints. Cancelling it kills the process.

    Raises:
        ProcessFailedError: It failed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        env=_environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        answer, _ = await process.communicate(question)
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise ProcessFailedError(f"{module} ended with the exit code {process.returncode}")
    return answer


def _environment() -> dict[str, str]:
    """What the proof is started in, without what would win over its configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    # Where Relay is not installed but run from its folder, that must be found in another one.
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


async def _address(process: asyncio.subprocess.Process, log_path: Path) -> str:
    async def told() -> re.Match[str] | None:
        if process.returncode is not None:
            raise _failed("ended early", log_path)
        return re.search(r"listens? on (http://\S+)/v1", _read(log_path))

    found = await until(told, timeout_s=START_TIMEOUT_S)
    if found is None:
        raise _failed(f"did not start within {START_TIMEOUT_S:.0f} s", log_path)
    return found[1]


async def _end(process: asyncio.subprocess.Process) -> bool:
    """End *process*; return whether it did so by itself."""
    if process.returncode is not None:
        return True
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(END_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        # Its group: it would leave its own processes behind.
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        return False
    return True


def _failed(what: str, log_path: Path) -> ProcessFailedError:
    lines = _read(log_path).splitlines()[-_SHOWN_LINES:]
    return ProcessFailedError(
        f"a process of the selftest ({log_path.stem}) {what}; the last it said:\n"
        + "\n".join(lines)
    )


def _read(log_path: Path) -> str:
    # Some hundred kilobytes, at most: nobody else waits.
    return log_path.read_text("utf-8", "replace")
