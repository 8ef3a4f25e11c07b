"""
How long it takes to start, and what a server has in memory that nobody asks.

    python -m benchmarks.start [REPEATS]

Each of REPEATS (5) is a new process; its files are in the page cache. Beside it what LiteLLM takes
alone: Relay imports it.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.processes import on_core
from benchmarks.rig import running_bench
from benchmarks.servers import Bench, environment, running_relay

IMPORTS = {"python alone": "pass", "import litellm": "import litellm"}
_IDLE_S = 5.0

_RSS = """
{what}
with open("/proc/self/status") as status:
    print(int(status.read().partition("VmRSS:")[2].split()[0]) / 1024)
"""


def timed(bench: Bench, command: Sequence[str]) -> tuple[float, str]:
    """Run *command*; return how many seconds it took and what it printed."""
    with on_core(bench.cores.servers):
        began_s = time.monotonic()
        done = subprocess.run(  # noqa: S603 - our own programs
            command,
            cwd=bench.folder,
            # Its list of prices is the bundled one, as Relay has it: nothing is fetched.
            env=environment() | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return time.monotonic() - began_s, done.stdout


def main(repeats: int) -> None:
    """Measure and print."""
    with running_bench() as bench:
        ready_s, idle_mb = [], []
        for number in range(repeats):
            with running_relay(bench, f"start{number}", redis_url=bench.redis_url) as served:
                ready_s.append(served.ready_s)
                time.sleep(_IDLE_S)
                idle_mb.append(served.process.rss_mb())
        print(f"relay serve listens: {_in_words(ready_s, 's')}; idle: {_in_words(idle_mb, 'MiB')}")
        relay_help = [sys.executable, "-m", "proxy_app", "--help"]
        took_s = [timed(bench, relay_help)[0] for _ in range(repeats)]
        print(f"relay --help: {_in_words(took_s, 's')}")
        for name, what in IMPORTS.items():
            command = [sys.executable, "-c", _RSS.format(what=what)]
            found = [timed(bench, command) for _ in range(repeats)]
            seconds = _in_words([took_s for took_s, _ in found], "s")
            print(f"{name}: {seconds}, {_in_words([float(mb) for _, mb in found], 'MiB')}")


def _in_words(values: Sequence[float], unit: str) -> str:
    return f"{statistics.median(values):.2f} {unit} [{min(values):.2f}-{max(values):.2f}]"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
