"""
What the benchmarks run on, and what they have in common.
"""

import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from benchmarks.processes import Cores, Measured, on_core
from benchmarks.redis_server import redis_executable, running_redis_server
from benchmarks.servers import Bench, running_upstream

_VERSIONS = ("litellm", "aiohttp", "redis", "hiredis", "uvicorn", "uvloop", "httptools")


@contextmanager
def running_bench() -> Iterator[Bench]:
    """Start what all variants have in common."""
    cores = Cores.of_machine()
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
        folder = Path(name)
        (folder / "redis-server").mkdir()
        with (
            on_core(cores.rest),
            running_redis_server(
                folder / "redis-server", "--appendonly", "yes", "--save", ""
            ) as redis,
            running_upstream(folder, cores.rest) as upstream,
        ):
            yield Bench(
                folder=folder,
                cores=cores,
                upstream=upstream,
                redis_url=f"redis://127.0.0.1:{redis.port}",
                redis=Measured(redis.pid),
            )


def rig(*, is_quick: bool, load_at_start: float) -> dict[str, object]:
    """Return what the measurements were made on."""
    return {
        "is_quick": is_quick,
        "load_at_start": round(load_at_start, 2),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "redis_server": _redis_version(),
        "versions": {name: version(name) for name in _VERSIONS},
    }


def _cpu() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _redis_version() -> str:
    executable = redis_executable()
    assert executable is not None
    said = subprocess.run([executable, "--version"], stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return said.stdout.partition("v=")[2].split()[0]
